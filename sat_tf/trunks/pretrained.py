"""Trunks that come trained, and where they are cut (3.1.1)."""

import functools
import typing

import keras

from sat_tf.trunks import efficientnet_lite


class Trunk(typing.NamedTuple):
    """A network that comes trained, and where it is cut.

    Attributes:
        make: makes it; takes `weights` and `input_shape` as `keras.applications` do.
        cut: names of the layers whose outputs, side by side, are the features; the
            last one has the fewest locations.
        prepare: from pixels in 0..255 to what it was trained on.
        packaged: whether its `imagenet` weights come with this package.
    """

    make: typing.Callable
    cut: tuple
    prepare: typing.Callable
    packaged: bool = False


def _application(name, cut, module):
    make = functools.partial(getattr(keras.applications, name), include_top=False)
    return Trunk(make, (cut,), getattr(keras.applications, module).preprocess_input)


# Cuts of EfficientNet-Lite: the last projection, 7 x 7 locations of 320 linear
# features, and the widest layer of 14 x 14, 672 features behind a rectifier.
LAST, WIDE = "block7a_project_conv", "block6a_expand_conv"


def _lite(name, *cut):
    make = functools.partial(efficientnet_lite.efficientnet_lite, name)
    return Trunk(make, cut, efficientnet_lite.preprocess_input, packaged=True)


# Of an image of 224 x 224, a cut at a stride of 16 has 14 x 14 locations, at 32 7 x 7.
TRUNKS = {
    "vgg19": _application("VGG19", "block5_conv4", "vgg19"),  # the paper's
    "vgg16": _application("VGG16", "block5_conv3", "vgg16"),
    "resnet50": _application("ResNet50", "conv4_block6_out", "resnet"),
    "mobilenet": _application("MobileNet", "conv_pw_11_relu", "mobilenet"),
    "mobilenet_7x7": _application("MobileNet", "conv_pw_12_relu", "mobilenet"),
    "efficientnetb0": _application("EfficientNetB0", "block5c_add", "efficientnet"),
    "efficientnet_lite0": _lite("efficientnet_lite0", LAST),
    "efficientnet_lite1": _lite("efficientnet_lite1", LAST),
    # What is there and where: the last of the 14 x 14 locations, four of them to one of
    # 7 x 7, beside the last projection (hypercolumns, Hariharan et al. 2015).
    "efficientnet_lite0_hypercolumns": _lite("efficientnet_lite0", "block5c_add", LAST),
    "efficientnet_lite1_hypercolumns": _lite("efficientnet_lite1", "block5d_add", LAST),
    "efficientnet_lite0_14x14": _lite("efficientnet_lite0", WIDE),
    "efficientnet_lite1_14x14": _lite("efficientnet_lite1", WIDE),
}
