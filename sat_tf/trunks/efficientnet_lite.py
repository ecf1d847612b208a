"""EfficientNet-Lite 0 and 1 (Tan and Le 2019) up to the last projection.

EfficientNet without squeeze-and-excitation and with ReLU6 in place of swish, stem and
last stage not scaled. Its ImageNet weights come with this package, in `weights/`. Their
batch normalisation is part of the convolutions: its statistics never change here, and
so a convolution and it are one affine map, which takes two thirds of the time.
"""

import pathlib

import keras

WEIGHTS = pathlib.Path(__file__).parent / "weights"
# Kernel, stride and filters of each stage, and how often its block comes.
STAGES = ((3, 1, 16), (3, 2, 24), (5, 2, 40), (3, 2, 80), (5, 1, 112), (5, 2, 192))
STAGES += ((3, 1, 320),)
REPEATS = {
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "efficientnet_lite1": (1, 3, 3, 4, 4, 5, 1),
}


def efficientnet_lite(name, *, weights=None, input_shape=(224, 224, 3)):
    """Prepared pixels `[B, H, W, 3]` to the last projection `[B, H/32, W/32, 320]`.

    Layers are named as in `keras.applications.EfficientNetB0`.

    Args:
        name: a key of `REPEATS`.
        weights: `imagenet`, those of this package, or `None`, drawn at random.
        input_shape: `(H, W, 3)`.

    Returns:
        a `keras.Model`.
    """
    images = keras.Input(input_shape)
    stem = keras.layers.Conv2D(32, 3, 2, "same", activation="relu6", name="stem_conv")
    x = stem(images)
    stages = zip(STAGES, REPEATS[name], strict=True)
    for i, ((kernel, stride, filters), repeats) in enumerate(stages):
        for j in range(repeats):
            block = f"block{i + 1}{'abcde'[j]}_"
            x = _block(x, filters, kernel, stride if j == 0 else 1, block)
    network = keras.Model(images, x, name=name)
    if weights == "imagenet":
        network.load_weights(WEIGHTS / f"{name}.weights.h5")
    return network


def preprocess_input(images):
    """Pixels in 0..255 as the weights were trained on them."""
    return (images - 127.0) / 128.0


def _block(x, filters, kernel, strides, name):
    """Expands, looks around in every channel, and projects to `filters`."""
    before = x
    if name != "block1a_":
        wide = 6 * x.shape[-1]
        expand = keras.layers.Conv2D(
            wide, 1, activation="relu6", name=name + "expand_conv"
        )
        x = expand(x)
    look_around = keras.layers.DepthwiseConv2D(
        kernel, strides, "same", activation="relu6", name=name + "dwconv"
    )
    project = keras.layers.Conv2D(filters, 1, name=name + "project_conv")
    x = project(look_around(x))
    if x.shape == before.shape:
        x = keras.layers.Add(name=name + "add")([x, before])
    return x
