"""Making a trunk's network, and finding its weights."""

import contextlib
import functools
import hashlib
import pathlib
import warnings

import keras
import numpy as np

from sat_tf.trunks.convnet import convnet
from sat_tf.trunks.pretrained import TRUNKS


@contextlib.contextmanager
def made_with(policy):
    """Layers made inside get this policy: Keras' networks cannot be told it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def _channels_last():
    """Layers made inside have channels last, whatever Keras' configuration says."""
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_last")
    try:
        yield
    finally:
        keras.config.set_image_data_format(before)


@_channels_last()
def make_network(trunk, weights, image_size):
    """`[B, H, W, 3]` in 0..255 to the cut, preprocessing included."""
    path = None if weights in (None, "imagenet") else _weights_file(weights)
    if trunk == "convnet":
        network = convnet(image_size)
        if path:
            _load(network, path)
        return network
    make, cut, prepare, _ = TRUNKS[trunk]
    make = functools.partial(make, input_shape=(*image_size, 3))
    full = _pretrained(make, trunk) if weights == "imagenet" else make(weights=None)
    network = keras.Model(full.input, _side_by_side(full, cut))
    if path:
        _load_up_to_cut(full, network, path)
    images = keras.Input((*image_size, 3))
    return keras.Model(images, network(prepare(images)), name=trunk)


def _side_by_side(network, cut):
    """Features `[B, h, w, D]` of several layers, at the locations of the last.

    Where a layer has finer locations, all that lie in a coarse one are its channels.
    """
    outputs = [network.get_layer(name).output for name in cut]
    height, width = outputs[-1].shape[1:3]
    folded = []
    for x in outputs:
        down, across = x.shape[1] // height, x.shape[2] // width
        if (down, across) != (1, 1):
            x = keras.layers.Reshape((height, down, width, across, x.shape[-1]))(x)
            x = keras.layers.Permute((1, 3, 2, 4, 5))(x)
            x = keras.layers.Reshape((height, width, -1))(x)
        folded.append(x)
    return keras.layers.Concatenate()(folded) if len(folded) > 1 else folded[0]


@functools.cache
def _packaged_weights(trunk):
    return make_network(trunk, "imagenet", (224, 224)).get_weights()


def _pretrained(make, trunk):
    try:
        return make(weights="imagenet")
    except Exception as error:
        # Keras says of a failed download only that: an `Exception`.
        if "URL fetch failure" not in str(error):
            raise
        raise OSError(
            f"Expected the ImageNet weights of {trunk}, which Keras downloads at first "
            f"use. Received: {error}. Connect this machine, or copy that file here and "
            "give its path as encoder_weights."
        ) from error


def _weights_file(path):
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            "Expected a Keras weights file. "
            f"Received: weights={str(path)!r}, which does not exist. "
            "Give its path, or weights='imagenet'."
        )
    return path


def weights_name(weights):
    """What a recipe calls trunk weights: `imagenet`, `None`, or a file's content."""
    if weights in (None, "imagenet"):
        return weights
    content = _weights_file(weights).read_bytes()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _load(network, path, **options):
    try:
        network.load_weights(path, **options)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"Expected a Keras weights file (.h5, .weights.h5) of {network.name}. "
            f"Received: weights={str(path)!r}, {error}. Use a file of this network."
        ) from error


def _load_up_to_cut(full, network, path):
    """Loads a file of the whole network, or of any part that reaches to the cut."""
    for variable in network.weights:
        variable.assign(np.full(variable.shape, np.nan, "float32"))
    legacy = not path.name.endswith(".weights.h5")
    options = {"by_name": True} if legacy else {}
    with warnings.catch_warnings():  # of what lies behind the cut
        warnings.simplefilter("ignore")
        _load(full, path, skip_mismatch=True, **options)
    missing = [v.path for v in network.weights if np.isnan(v.numpy()).any()]
    if missing:
        raise ValueError(
            f"Expected weights for all {len(network.weights)} variables of {full.name} "
            f"up to the cut. Received: weights={str(path)!r}, which lacks "
            f"{len(missing)}, the first {missing[0]!r}. Use a file of this network."
        )


def save_weights(network, path):
    """Writes the weights of what `make_network` made of one of `TRUNKS`, to the cut.

    Args:
        network: the network. path: `*.weights.h5`, which `make_network` reads again.
    """
    inside = next(each for each in network.layers if isinstance(each, keras.Model))
    inside.save_weights(path)


def is_packaged(trunk, network):
    """Whether a network's weights are, to the bit, those of this package."""
    if trunk not in TRUNKS or not TRUNKS[trunk].packaged:
        return False
    pairs = zip(network.weights, _packaged_weights(trunk), strict=True)
    return all(np.array_equal(mine, packaged) for mine, packaged in pairs)
