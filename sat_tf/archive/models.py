"""Which captioner an archive is captioned by: always a SavedModel in the end.

A preset, or the folder of a run, is exported first, beside the output. So there is one
path from bytes to captions, and it needs nothing but TensorFlow.
"""

import functools
import hashlib
import os
import shutil
import tempfile
import threading
from typing import NamedTuple

from sat_tf.archive import files

_GRAPH = "saved_model.pb"
_SIGNATURE, _INPUT = "serving_default", "image_bytes"
OUTPUTS = ("caption", "score", "words", "length", "locations", "error")


class Model(NamedTuple):
    """A captioner that somebody named."""

    name: str
    """As it was given."""
    digest: str
    """SHA-256 of what it computes with, in hexadecimal."""
    folder: str
    """Absolute, of a SavedModel or of a preset; or an address."""
    exported: bool
    """Whether it is a SavedModel."""


def find(name):
    """The `Model` that is meant by a name.

    Args:
        name: the folder of a SavedModel, or of its versions, of which the latest
            counts; or whatever `ShowAttendTell.from_preset` takes.

    Raises:
        ValueError: it is neither.
    """
    exported = _exported(name)
    if exported:
        needed = ("/saved_model.pb", "/variables/*", "/assets/*")
        return Model(name, _digest(exported, needed), exported, True)
    from sat_tf.presets import storage

    try:
        folder = str(storage.find(name).absolute())
    except ValueError as error:
        raise ValueError(f"{error} Or name the folder of a SavedModel.") from error
    digest = _digest(folder, ("/config.json", "/weights.npz"))
    return Model(name, digest, folder, False)


def _exported(name):
    """The folder of a SavedModel, absolute; `None` if there is none."""
    if name.startswith("hf://"):
        return None
    folder = files.absolute(name.rstrip("/"))
    if files.beginning_with(folder, f"/{_GRAPH}"):
        return folder
    inside = files.beginning_with(folder, f"/*/{_GRAPH}")
    versions = [path.rpartition("/")[0] for path in inside]
    numbered = {_last(path): path for path in versions if _last(path).isdecimal()}
    return numbered[max(numbered, key=int)] if numbered else None


def _last(path):
    return path.rpartition("/")[2]


def _digest(folder, patterns):
    digest = hashlib.sha256()
    for path in _inside(folder, patterns):
        contents = files.read(path)
        digest.update(f"{path[len(folder) :]} {len(contents)}\n".encode() + contents)
    return digest.hexdigest()


def _inside(folder, patterns):
    return [p for each in patterns for p in files.beginning_with(folder, each)]


def ready(model, prefix):
    """The folder of the SavedModel that workers load; exports it if need be.

    Args:
        model: a `Model`.
        prefix: of the output, absolute.

    Raises:
        ValueError: it does not caption encoded images, or would have to be exported
            into a store.
    """
    if not model.exported and files.is_remote(prefix):
        raise ValueError(
            "Expected the folder or the address of a SavedModel, as the workers of an "
            f"archive at {prefix} have to load it from there. Received: --model "
            f"{model.name}. Export it, and copy it to where they can read it: "
            f"sat-tf export {model.name} --out saved_models/captioner"
        )
    folder = model.folder
    if not model.exported:
        folder = os.path.join(_beside(model, prefix), "1")
        if not os.path.isdir(folder):
            _export(model, folder)
    _check(folder)
    return folder


def _beside(model, prefix):
    return f"{prefix}-model-{model.digest[:12]}"


def _export(model, folder):
    """What `sat-tf export` writes, but for the signatures that an archive needs not."""
    import tensorflow as tf

    from sat_tf.captioner import ShowAttendTell
    from sat_tf.export.signatures import build

    captioner = ShowAttendTell.from_preset(model.folder)
    if captioner.encoder.network is None:
        raise ValueError(
            "Expected a captioner that sees images. "
            f"Received: --model {model.name}, which was trained on features. "
            "Choose one with a trunk."
        )
    module, functions = build(captioner, captioner.options())
    signatures = {_SIGNATURE: functions[_SIGNATURE].get_concrete_function()}
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    beside = f"{folder}.{os.getpid()}.tmp"
    tf.saved_model.save(module, beside, signatures, options)
    os.rename(beside, folder)


def remove_exported(model, prefix):
    """Removes what `ready` exported, when the archive is finished."""
    if not model.exported and not files.is_remote(prefix):
        shutil.rmtree(_beside(model, prefix), ignore_errors=True)


def _check(folder):
    """Refuses, before any worker starts, a SavedModel that is no captioner."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    contents = files.read(f"{folder}/{_GRAPH}")
    try:
        (graph,) = saved_model_pb2.SavedModel.FromString(contents).meta_graphs
    except (DecodeError, ValueError) as error:
        raise ValueError(
            "Expected a SavedModel of one graph. "
            f"Received: {folder}, whose {_GRAPH} of {len(contents)} bytes is none. "
            "Copy it again, or export one by sat-tf export."
        ) from error
    signature = graph.signature_def.get(_SIGNATURE)
    inputs = sorted(signature.inputs) if signature else []
    outputs = sorted(signature.outputs) if signature else []
    if inputs != [_INPUT] or not set(outputs) >= set(OUTPUTS):
        raise ValueError(
            f"Expected a SavedModel whose {_SIGNATURE} takes {_INPUT} and answers "
            f"{', '.join(OUTPUTS)}. Received: {folder}, which takes {inputs} and "
            f"answers {outputs}. Export one by sat-tf export, from a captioner that "
            "sees images."
        )


_LOADING = threading.Lock()


def load(folder, digest):
    """A function from encoded images, list `[B]` of bytes, to arrays by output name.

    Loaded once in a process, whatever the number of its threads and of their parts.

    Args:
        folder: of the SavedModel. digest: of it, as another may take its place.
    """
    with _LOADING:
        return _load(folder, digest)


@functools.lru_cache(maxsize=1)
def _load(folder, digest):
    import tensorflow as tf

    del digest

    with tempfile.TemporaryDirectory() as copy:
        if files.is_remote(folder):
            for path in _inside(folder, ("/*", "/variables/*", "/assets/*")):
                files.copy_here(path, copy + path[len(folder) :])
        here = copy if files.is_remote(folder) else folder
        model = tf.saved_model.load(here, tags=["serve"])
    signature = model.signatures[_SIGNATURE]

    def answer(contents):
        outputs = signature(**{_INPUT: tf.constant(contents, tf.string)})
        return {name: outputs[name].numpy() for name in OUTPUTS}

    answer.keep = model  # or its variables would go
    return answer
