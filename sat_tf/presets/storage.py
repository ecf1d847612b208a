"""A captioner as a folder: config.json, weights.npz, metadata.json and README.md."""

import json
import pathlib

import keras
import numpy as np

from sat_tf.presets import hub
from sat_tf.reranking import name_of
from sat_tf.runtime.files import on_disk, replacing, whole

FORMAT = 2
TRAINED = pathlib.Path(__file__).parent


def named_weights(captioner):
    """Name -> variable, with names that do not depend on what else was built before."""
    named = {}
    parts = {
        "attention": captioner.network.attention,
        "decoder": captioner.network.decoder,
        "estimator": captioner.estimator,
        "standardise": captioner.encoder.standardise,
        "encoder": captioner.encoder.network,
        **{f"rerankers/{name_of(each)}": each for each in captioner.rerankers},
    }
    for name, part in parts.items():
        for i, variable in enumerate(part.weights if part is not None else ()):
            leaf = f"{i}" if name == "encoder" else "/".join(_tail(variable))
            named[f"{name}/{leaf}"] = variable
    return named


def _tail(variable):
    return variable.path.split("/")[1:] or [variable.name]


def save(captioner, folder, *, encoder=None, dtype=None, metadata=None):
    """Writes a captioner; every file is whole or the old one.

    The folder can be uploaded to the Hugging Face Hub as it is: README.md is its card,
    written anew at every save until somebody makes it their own, see `hub.MARK`.

    Args:
        captioner: a `ShowAttendTell`.
        folder: made if need be.
        encoder: whether the trunk's weights go along; by default if they are not those
            of this package. Without them `load` takes the trunk's ImageNet weights, or
            a file.
        dtype: storage type of the weight matrices, e.g. `float16`; as they are by
            default. Vectors stay as they are: they are small, and a batch
            normalisation's variance may be above 65504.
        metadata: JSON values to keep beside: recipe, scores, data, license.
    """
    folder = on_disk(folder, "a folder for the captioner")
    if encoder is None:
        encoder = not captioner.encoder.packaged
    weights = {
        name: _stored(variable.numpy(), dtype)
        for name, variable in named_weights(captioner).items()
        if encoder or not name.startswith("encoder/")
    }
    options = captioner.get_config()
    config = {
        "format": FORMAT,
        "encoder_weights": "included" if encoder else "imagenet",
        "decoder": options.pop("decoder"),
        "captioner": options,
    }
    metadata = metadata or {}
    # First of all, as what JSON does not take must not cost the files that are there.
    texts = {
        name: json.dumps(value, indent=1) + "\n"
        for name, value in (("config", config), ("metadata", metadata))
    }
    with replacing(folder / "weights.npz") as path, open(path, "wb") as file:
        np.savez(file, **weights)
    for name, text in texts.items():
        with replacing(folder / f"{name}.json") as path:
            path.write_text(text, "utf-8")
    card = folder / "README.md"
    if not card.is_file() or hub.MARK.encode() in card.read_bytes():
        with replacing(card) as path:
            text = hub.card(captioner, encoder=encoder, metadata=metadata)
            path.write_text(text, "utf-8")


def _stored(array, dtype):
    return array if dtype is None or array.ndim < 2 else array.astype(dtype)


def find(name):
    """Folder of a captioner.

    Args:
        name: a run, a folder that `save` wrote, the name of one shipped with us, or an
            address on the Hugging Face Hub, see `hub.download`.
    """
    if str(name).startswith(hub.PREFIX):
        return hub.download(str(name))
    for folder in (pathlib.Path(name) / "model", pathlib.Path(name), TRAINED / name):
        if (folder / "config.json").is_file():
            return folder
    shipped = sorted(p.parent.name for p in TRAINED.glob("*/config.json"))
    raise ValueError(
        "Expected the folder of a run or of a saved captioner, hf://user/name, or one "
        f"of: {', '.join(shipped)}. Received: {str(name)!r}. "
        "Check the path; a run that is still warming up has no captioner yet."
    )


def load(kind, folder, *, encoder_weights=None):
    """Reads what `save` wrote.

    Args:
        kind: `ShowAttendTell`, or a subclass.
        folder: what `find` finds.
        encoder_weights: a path, for a captioner saved without its encoder; by default
            the ImageNet weights it was trained on, see `Encoder`.

    Returns:
        a `kind`.

    Raises:
        ValueError: files that do not belong together.
    """
    folder = find(folder)
    with _whole(folder / "config.json") as path:
        config = dict(json.loads(path.read_bytes()))
        if config.get("format") != FORMAT:
            raise ValueError(
                f"Expected a captioner in format {FORMAT}. "
                f"Received: format={config.get('format')} in {folder}. "
                "Load it with the version of sat_tf that wrote it."
            )
        options = {**config["captioner"], "decoder": config.get("decoder", {})}
        included = config["encoder_weights"] == "included"
        if not included:
            options["encoder"]["weights"] = encoder_weights or "imagenet"
        captioner = kind.from_config(options)
    with _whole(folder / "weights.npz") as path:
        _read_weights(captioner, path, encoder=included)
    captioner.encoder.standardise.finalize_state()
    return captioner


def read_metadata(folder):
    """What `save` kept beside a captioner in a folder, a dict; empty without a file.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / "metadata.json"
    if not path.is_file():
        return {}
    with _whole(path):
        return dict(json.loads(path.read_bytes()))


def _whole(path):
    """See `files.whole`."""
    return whole(
        path,
        f"{path.name} as save_to_preset writes it",
        "Copy it again, import your own classes first, or load it with the version of "
        "sat_tf that wrote it.",
    )


def _read_weights(captioner, path, *, encoder):
    """Assigns what a file has; `encoder`: whether it has the trunk's weights."""
    wanted = named_weights(captioner)
    if not encoder:
        wanted = {k: v for k, v in wanted.items() if not k.startswith("encoder/")}
    with open(path, "rb") as file, np.load(file) as arrays:
        lacking = {
            f"rerankers/{name_of(each)}/{leaf}"
            for each in captioner.rerankers
            for leaf in each.added
        } - set(arrays)
        wanted = {k: v for k, v in wanted.items() if k not in lacking}
        found = {name: arrays[name].shape for name in arrays.files}
        shapes = {name: tuple(v.shape) for name, v in wanted.items()}
        if found != shapes:
            odd = sorted(set(found.items()) ^ set(shapes.items()))[:3]
            raise ValueError(
                "Expected weights.npz to fit config.json. "
                f"Received: folder={str(path.parent)!r}, which differs in {odd}. "
                "Copy both files from the same captioner."
            )
        for name, variable in wanted.items():
            variable.assign(
                arrays[name].astype(keras.backend.standardize_dtype(variable.dtype))
            )
