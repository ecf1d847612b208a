"""Images to annotations: a lower convolutional layer, one vector a place (3.1.1)."""

import contextlib
import functools
import hashlib
import pathlib
import typing
import warnings

import keras
import numpy as np
import tensorflow as tf

from sat_tf import efficientnet_lite


class Trunk(typing.NamedTuple):
    """A network that comes trained, and where it is cut.

    Attributes:
        make: makes it; takes `weights` and `input_shape` as `keras.applications` do.
        cut: name of the layer whose output is the features.
        prepare: from pixels in 0..255 to what it was trained on.
        packaged: whether its `imagenet` weights come with this package.
    """

    make: typing.Callable
    cut: str
    prepare: typing.Callable
    packaged: bool = False


def _application(name, cut, module):
    make = functools.partial(getattr(keras.applications, name), include_top=False)
    return Trunk(make, cut, getattr(keras.applications, module).preprocess_input)


# Cuts of EfficientNet-Lite: the last projection, 7 x 7 places of 320 linear features,
# and the widest layer of 14 x 14, 672 features behind a rectifier.
LAST, WIDE = "block7a_project_bn", "block6a_expand_activation"


def _lite(name, cut):
    make = functools.partial(efficientnet_lite.efficientnet_lite, name)
    return Trunk(make, cut, efficientnet_lite.preprocess_input, packaged=True)


# Of an image of 224 x 224, a cut at a stride of 16 has 14 x 14 places, at 32 7 x 7.
TRUNKS = {
    "vgg19": _application("VGG19", "block5_conv4", "vgg19"),  # the paper's
    "vgg16": _application("VGG16", "block5_conv3", "vgg16"),
    "resnet50": _application("ResNet50", "conv4_block6_out", "resnet"),
    "mobilenet": _application("MobileNet", "conv_pw_11_relu", "mobilenet"),
    "mobilenet_7x7": _application("MobileNet", "conv_pw_12_relu", "mobilenet"),
    "efficientnetb0": _application("EfficientNetB0", "block5c_add", "efficientnet"),
    "efficientnet_lite0": _lite("efficientnet_lite0", LAST),
    "efficientnet_lite1": _lite("efficientnet_lite1", LAST),
    "efficientnet_lite0_14x14": _lite("efficientnet_lite0", WIDE),
    "efficientnet_lite1_14x14": _lite("efficientnet_lite1", WIDE),
}


@keras.saving.register_keras_serializable("sat_tf")
class Encoder(keras.layers.Layer):
    """Annotation vectors of an image, standardised per channel.

    Features behind a rectifier are all positive with a large common part, which
    drowns what the hidden state has to say in f_att; standardising them (`adapt`)
    is worth 2 to 4 BLEU-4 on Flickr8k. Mean and variance are saved with the model.

    Args:
        trunk: a key of `TRUNKS`, `convnet` (small, with coordinates, to be trained
            from scratch together with the decoder) or `none` (the data set brings
            its own annotations, of shape `features_shape`).
        weights: `imagenet` (an `efficientnet_lite`'s come with this package, others
            are downloaded by Keras), a path to a Keras weights file that reaches at
            least to the cut, or `None`.
        image_size: `(height, width)` in pixels.
        features_shape: `(h, w, D)`, only for `trunk="none"`.
        trainable: train the trunk too. Batch normalisation learns its statistics only
            in `convnet`; see `features`.
    """

    def __init__(
        self,
        trunk="vgg19",
        *,
        weights=None,
        image_size=(224, 224),
        features_shape=None,
        trainable=False,
        **kwargs,
    ):
        # Features come in float32 and are standardised in it, see `call`.
        super().__init__(autocast=False, **kwargs)
        known = (*TRUNKS, "convnet", "none")
        if trunk not in known:
            raise ValueError(
                f"Expected trunk to be one of {', '.join(known)}. "
                f"Received: trunk={trunk!r}. Choose one of them."
            )
        if (features_shape is None) == (trunk == "none"):
            raise ValueError(
                'Expected features_shape with trunk="none" and only there. Received: '
                f"trunk={trunk!r}, features_shape={features_shape}. Give (h, w, D)."
            )
        self.trunk = trunk
        self.image_size = tuple(image_size)
        self.features_shape = tuple(features_shape) if features_shape else None
        self.standardise = keras.layers.Normalization(
            axis=-1, dtype="float32", name="standardise"
        )
        if trunk == "none":
            self.network = None
            self.grid, size = self.features_shape[:2], self.features_shape[2]
        else:
            with _policy(self.dtype_policy):
                self.network = _network(trunk, weights, self.image_size)
            self.network.trainable = trainable
            *grid, size = self.network.output_shape[1:]
            self.grid = tuple(grid)
        self.size = size
        self.standardise.build((None, None, size))
        self.standardise.finalize_state()
        self.built = True

    @property
    def packaged(self):
        """Whether the trunk's weights are, to the bit, those of this package."""
        if self.trunk not in TRUNKS or not TRUNKS[self.trunk].packaged:
            return False
        pairs = zip(self.network.weights, _packaged_weights(self.trunk), strict=True)
        return all(np.array_equal(mine, packaged) for mine, packaged in pairs)

    @property
    def locations(self):
        """L = h * w, row by row: index = row * w + column."""
        return self.grid[0] * self.grid[1]

    def features(self, images, training=False):
        """Raw output of the trunk: `[B, H, W, 3]` in 0..255 -> float32 `[B, L, D]`."""
        if self.network is None:
            raise ValueError(
                'Expected annotations, as this captioner has trunk="none". '
                f"Received: images of shape {tuple(images.shape)}. "
                "Compute the annotations with the network they were trained on."
            )
        images = tf.cast(images, tf.float32)
        # A trunk that comes trained keeps its batch statistics (inference mode) even
        # while it is fine-tuned: its weights and `standardise` were fitted to them,
        # and a batch holds few distinct images, all of another kind.
        training = training and self.trunk == "convnet" and self.network.trainable
        maps = tf.cast(self.network(images, training=training), tf.float32)
        return tf.reshape(maps, [tf.shape(maps)[0], self.locations, self.size])

    def call(self, features):
        """Annotations a_i `[B, L, D]`: the features, standardised per channel.

        In float32 until the large common part is gone: after it, bfloat16 will do.
        """
        annotations = self.standardise(tf.cast(features, tf.float32))
        return tf.cast(annotations, self.compute_dtype)

    def adapt(self, features):
        """Learns mean and variance per channel from features `[.., D]` (an array)."""
        flat = np.asarray(features, "float32").reshape(-1, self.size)
        self.standardise.adapt_mean.assign(flat.mean(0))
        # Channels that never fire would otherwise be blown up to noise.
        self.standardise.adapt_variance.assign(np.maximum(flat.var(0), 1e-4))
        self.standardise.finalize_state()

    def load_own_variables(self, store):
        """Derives the standardisation's constants again after its weights came."""
        super().load_own_variables(store)
        self.standardise.finalize_state()

    def get_config(self):
        """Constructor arguments; weights are in the saved file, not fetched again."""
        return {
            **super().get_config(),
            "trunk": self.trunk,
            "image_size": self.image_size,
            "features_shape": self.features_shape,
            "trainable": self.network is not None and self.network.trainable,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds an encoder; unlike Keras' own, lets errors through as they are."""
        dtype = keras.dtype_policies.get(config.get("dtype"))
        return cls(**{**config, "dtype": dtype})


@contextlib.contextmanager
def _policy(policy):
    """Layers made inside get this policy: Keras' networks cannot be told it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _network(trunk, weights, image_size):
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
    network = keras.Model(full.input, full.get_layer(cut).output)
    if path:
        _load_up_to_cut(full, network, path)
    images = keras.Input((*image_size, 3))
    return keras.Model(images, network(prepare(images)), name=trunk)


@functools.cache
def _packaged_weights(trunk):
    return _network(trunk, "imagenet", (224, 224)).get_weights()


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


def convnet(image_size):
    """A small network for drawings, stride 16: 7 x 7 places of 112 x 112 pixels.

    Even kernels keep each place's view centred on it, 78 pixels across: with 3 x 3 it
    drifts by half a place towards the lower right, and words that look at "their"
    object look beside it. Coordinates are part of a place's features (Liu et al.
    2018): to say "left of", a decoder that sees one place at a time has to know where
    that place is.
    """
    images = keras.Input((*image_size, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    layers = ((24, 4, 2), (48, 4, 2), (96, 4, 2), (128, 4, 2), (128, 3, 1))
    for i, (filters, kernel, stride) in enumerate(layers):
        x = keras.layers.Conv2D(
            filters, kernel, strides=stride, padding="same", use_bias=False
        )(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        if i < len(layers) - 1:  # the last stays standardised, see `Encoder`
            x = keras.layers.ReLU()(x)
    return keras.Model(images, Coordinates()(x), name="convnet")


@keras.saving.register_keras_serializable("sat_tf")
class Coordinates(keras.layers.Layer):
    """Appends each place's row and column, both in -1..1: `[B, h, w, D + 2]`."""

    def call(self, maps):
        """`[B, h, w, D] -> [B, h, w, D + 2]`."""
        h, w = maps.shape[1:3]
        row, column = np.meshgrid(
            np.linspace(-1, 1, h), np.linspace(-1, 1, w), indexing="ij"
        )
        place = tf.constant(np.stack([row, column], -1)[None], maps.dtype)
        place = tf.broadcast_to(place, tf.concat([tf.shape(maps)[:3], [2]], 0))
        return tf.concat([maps, place], axis=-1)

    def compute_output_shape(self, shape):
        """Two channels more."""
        return (*shape[:-1], shape[-1] + 2)
