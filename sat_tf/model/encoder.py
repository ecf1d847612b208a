"""Images to annotations: a lower convolutional layer, one vector a location (3.1.1)."""

import keras
import numpy as np
import tensorflow as tf

from sat_tf.images.graph import MODES
from sat_tf.runtime.ranges import check_choice, check_dtype
from sat_tf.trunks import TRUNKS, is_packaged, made_with, make_network


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
        resize_mode: how image files become that size: `crop`, `squash` or `none`, see
            `images.resize`.
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
        resize_mode="crop",
        features_shape=None,
        trainable=False,
        **kwargs,
    ):
        # Features come in float32 and are standardised in it, see `call`.
        super().__init__(autocast=False, **kwargs)
        check_dtype(self.dtype_policy)
        check_choice("trunk", trunk, (*TRUNKS, "convnet", "none"))
        check_choice("resize_mode", resize_mode, MODES)
        if (features_shape is None) == (trunk == "none"):
            raise ValueError(
                'Expected features_shape with trunk="none" and only there. Received: '
                f"trunk={trunk!r}, features_shape={features_shape}. Give (h, w, D)."
            )
        self.trunk = trunk
        self.image_size = _checked_size(image_size)
        self.resize_mode = resize_mode
        self.features_shape = tuple(features_shape) if features_shape else None
        self.standardise = keras.layers.Normalization(
            axis=-1, dtype="float32", name="standardise"
        )
        if trunk == "none":
            self.network = None
            self.grid, size = self.features_shape[:2], self.features_shape[2]
        else:
            with made_with(self.dtype_policy):
                self.network = make_network(trunk, weights, self.image_size)
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
        return is_packaged(self.trunk, self.network)

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

    def average(self, features):
        """Features of an image that is average everywhere, in the shape of others."""
        return tf.broadcast_to(self.standardise.mean, tf.shape(features))

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
            "resize_mode": self.resize_mode,
            "features_shape": self.features_shape,
            "trainable": self.network is not None and self.network.trainable,
        }

    @classmethod
    def from_config(cls, config):
        """Rebuilds an encoder; unlike Keras' own, lets errors through as they are."""
        dtype = keras.dtype_policies.get(config.get("dtype"))
        return cls(**{**config, "dtype": dtype})


def _checked_size(size):
    """The size of images, as two whole numbers."""
    numbers = tuple(np.ravel(size).tolist()) if np.ndim(size) == 1 else ()
    if len(numbers) != 2 or not all(type(n) is int and n >= 1 for n in numbers):
        raise ValueError(
            "Expected image_size to be a height and a width, whole numbers >= 1. "
            f"Received: image_size={size!r}. Give both, say [224, 224]."
        )
    return numbers
