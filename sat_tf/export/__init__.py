"""A captioner as a SavedModel that needs nothing of ours: what servers load."""

import dataclasses
import io
import json
import os
import pathlib
import shutil

import numpy as np
import PIL.Image
import tensorflow as tf

from sat_tf import images
from sat_tf.export.card import model_card
from sat_tf.export.signatures import build
from sat_tf.export.warmup import write_warmup
from sat_tf.runtime.files import on_disk, replacing
from sat_tf.vocabulary import UNK

__all__ = ["export"]

_EXAMPLES = 6


def export(
    captioner,
    path,
    version=None,
    *,
    dtype=None,
    examples=None,
    metadata=None,
    **options,
):
    """Writes `path/<version>/saved_model.pb` as TensorFlow Serving expects it.

    `path/README.md`, a model card, and `path/examples/`, images to try if there are
    any, are written beside it. A server that watches `path` sees a whole version or
    none.

    Args:
        captioner: a `ShowAttendTell`.
        path: folder of the model; its name is the name it is served under.
        version: whole number, by default one more than the highest that is there.
        dtype: how weight matrices are stored, e.g. `float16`; they are computed with
            as they were trained. By default stored so too.
        examples: paths of JPEG images for the page and for warming up a server; by
            default drawings where the recipe in `metadata` learned from those, and
            none elsewhere.
        metadata: JSON values for the model card: recipe, scores.
        **options: fields of `DecodingOptions`, over the captioner's own: `decoder`
            says what `serving_default` does, `beam` how many beams `beam` has,
            `attention` the location rule of all signatures.

    Returns:
        the `pathlib.Path` of the version's folder.

    Raises:
        ValueError: the version is there already, or is no whole number.
    """
    path = on_disk(path, "a folder for the SavedModel").absolute()
    options = captioner.options(**options)
    folder = path / str(_free_version(path, version))
    metadata = metadata or {}
    examples = _drawings(metadata) if examples is None else _read(examples)
    beside = path / f".{folder.name}.{os.getpid()}.tmp"
    try:
        module, functions = build(captioner, options, dtype)
        signatures = {k: f.get_concrete_function() for k, f in functions.items()}
        plain = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, str(beside), signatures, plain)
        _write_extras(beside, captioner, path.name, signatures, examples)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    told = {"dtype": dtype, "metadata": metadata}
    options = dataclasses.asdict(options)
    card = model_card(path.name, captioner, signatures, options, **told)
    _write_beside(path, card, examples)
    return folder


def _write_beside(path, card, examples):
    """The model card and the pictures to try, in the folder of all versions."""
    for name, contents in examples.items():
        with replacing(path / "examples" / name) as file:
            file.write_bytes(contents)
    with replacing(path / "README.md") as file:
        file.write_text(card, "utf-8")


def _free_version(path, version):
    """`version` if nothing is there yet, or the number after the highest."""
    there = [int(p.name) for p in path.glob("*") if p.name.isdecimal()]
    free = max(there, default=0) + 1
    if version is None:
        return free
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise ValueError(
            "Expected a version that is a whole number, as TensorFlow Serving does. "
            f"Received: version={version!r}. Leave it out for {free}."
        )
    if version in there:
        raise ValueError(
            "Expected a version that is not there yet. "
            f"Received: version={version} in {path.name}, which has {sorted(there)}. "
            f"Leave it out for {free}, or remove the old folder."
        )
    return version


def _write_extras(folder, captioner, name, signatures, examples):
    """The files in `assets.extra`, which TensorFlow does not read itself."""
    extra = folder / "assets.extra"
    extra.mkdir()
    encoder = captioner.encoder
    rows = {"annotations": np.zeros([1, encoder.locations, encoder.size], "float32")}
    if encoder.network is not None:
        size, mode = encoder.image_size, captioner.encoder.resize_mode
        preprocessing = {"image_size": list(size), "resize_mode": mode}
        (extra / "preprocessing.json").write_text(json.dumps(preprocessing) + "\n")
        contents = next(iter(examples.values()), None) or _grey(size)
        pixels = images.load(contents, size, "squash" if mode == "none" else mode)
        pixels = pixels[np.newaxis]
        rows["image_bytes"], rows["images"] = [contents], pixels
        rows["caption"] = [" ".join(captioner.vocabulary.words[UNK + 1 :][:10])]
        rows["annotations"] = captioner.encode(pixels).numpy()
    write_warmup(extra / "tf_serving_warmup_requests", name, signatures, rows)


def _drawings(metadata):
    """{file name: JPEG bytes} of scenes for those who know scenes, and none for others.

    No captioner was trained on these.
    """
    recipe = metadata.get("recipe", {})
    # Recipes were flat once, and `data` was its name.
    if recipe.get("dataset", recipe.get("data")) != "scenes":
        return {}
    from sat_tf.datasets import scenes  # needs TFDS, which takes a second to import
    from sat_tf.datasets.scenes_drawing import jpeg

    drawn = [scenes.scene("test", i) for i in range(_EXAMPLES)]
    return {scene.file_name: jpeg(scenes.render(scene)) for scene in drawn}


def _grey(size):
    """A grey JPEG (bytes) of this height and width."""
    stream = io.BytesIO()
    PIL.Image.new("RGB", size[::-1], "grey").save(stream, "JPEG")
    return stream.getvalue()


def _read(paths):
    """{file name: bytes} of a user's own examples."""
    paths = [pathlib.Path(path) for path in paths]
    odd = [p.name for p in paths if p.suffix.lower() not in (".jpg", ".jpeg")]
    if odd or not paths:
        raise ValueError(
            "Expected one or more JPEG files as examples. "
            f"Received: examples={odd}. Convert them, or leave them out."
        )
    examples = {path.name: path.read_bytes() for path in paths}
    if len(examples) < len(paths):
        raise ValueError(
            "Expected examples with different names, as they go into one folder. "
            f"Received: {', '.join(map(str, paths))}. Rename some."
        )
    return examples
