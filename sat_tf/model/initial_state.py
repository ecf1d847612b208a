"""What the decoder knows before it first looks: h_0 and c_0 (3.1.2)."""

import keras
import tensorflow as tf

from sat_tf.runtime.ranges import Share, check
from sat_tf.runtime.registry import Registry


class InitialState(keras.layers.Layer):
    """h_0 and c_0, each one tanh layer of what `source` tells of an image.

    A subclass implements `source`, and says in `sees_image` whether its width is that
    of an annotation or 1.
    """

    sees_image = True

    def __init__(self, **kwargs):
        # Weights are saved by name, and Keras' own names count upwards.
        super().__init__(**{"name": "initial_state", **kwargs})

    def build(self, annotations_shape, hidden_size):
        """Creates the two layers from D, the last axis of the annotations, and n."""
        width = annotations_shape[-1] if self.sees_image else 1
        for name in ("hidden", "cell"):
            layer = keras.layers.Dense(
                hidden_size, activation="tanh", dtype=self.dtype_policy, name=name
            )
            layer.build((None, width))
            setattr(self, name, layer)
        self.built = True

    def get_config(self):
        """Constructor arguments."""
        return super().get_config()  # Keras wants to be told so

    def get_build_config(self):
        """Nothing: a decoder builds its initial state, with sizes of its own."""

    def source(self, annotations, training):
        """What is told of each image before the first look: `[B, L, D] -> [B, ..]`."""
        raise NotImplementedError

    def call(self, annotations, training=False):
        """Annotations `[B, L, D]` -> h_0 and c_0, `[1, B, n]` each.

        The cell is float32 whatever the precision, as every word adds to it.
        """
        source = self.source(annotations, training)[None]
        return self.hidden(source), tf.cast(self.cell(source), tf.float32)


@keras.saving.register_keras_serializable("sat_tf")
class FromMean(InitialState):
    """Made from the mean annotation, as in the paper.

    Args:
        dropout: share of the images in training whose mean is withheld as a whole: the
            decoder gets 0, the average image's, and has to look for what its words
            need.
        scale: factor on the mean at test time: 1, as the paper, tells all of it before
            the first look, 0 nothing. Below 1 only after training with `dropout`, or
            the decoder is lost.
    """

    def __init__(self, *, dropout=0.0, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        check(Share, dropout=dropout, scale=scale)
        self.dropout = dropout
        self.scale = scale

    def build(self, annotations_shape, hidden_size):
        """Creates the two layers, and the seeds of `dropout`."""
        super().build(annotations_shape, hidden_size)
        self.seeds = keras.random.SeedGenerator(name="seeds")

    def source(self, annotations, training):
        """The mean annotation `[B, D]`, or what is left of it."""
        mean = tf.reduce_mean(annotations, axis=1)
        if not training:
            return self.scale * mean
        if not self.dropout:
            return mean
        # Not channel by channel: half of them still tell which image it is.
        drawn = keras.random.uniform(tf.shape(mean[:, :1]), seed=self.seeds)
        return tf.where(drawn >= self.dropout, mean, tf.zeros_like(mean))

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "dropout": self.dropout, "scale": self.scale}


@keras.saving.register_keras_serializable("sat_tf")
class Learned(InitialState):
    """The same for all images: the decoder knows nothing but where it looked."""

    sees_image = False

    def source(self, annotations, training):
        """A constant `[B, 1]`."""
        del training
        return tf.ones_like(annotations[:, 0, :1])


INITIAL_STATES = Registry("initial_state", from_mean=FromMean, learned=Learned)


def make_initial_state(initial_state, dtype=None):
    """An `InitialState` of one, of a name in `INITIAL_STATES`, or of a saved config.

    It gets the policy `dtype`, if there is one, whatever it came with.
    """
    if isinstance(initial_state, dict):
        initial_state = keras.saving.deserialize_keras_object(initial_state)
    initial_state = INITIAL_STATES.made(initial_state, InitialState)
    if dtype is not None and not initial_state.built:
        initial_state.dtype_policy = dtype
    return initial_state
