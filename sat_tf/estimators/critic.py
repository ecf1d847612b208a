"""A baseline that is read from the image and the caption (NVIL)."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("sat_tf")
class Critic(keras.layers.Layer):
    """C(a, y, t): what a caption is likely to score, before it is known where it looks.

    One hidden layer over the mean annotation, the sum of the words before t and that
    of the words from t on: all words are given in training, and none of it is moved by
    the locations. It is fitted to the rewards by least squares; neither the annotations
    nor the word vectors learn from it (Mnih & Gregor 2014).

    Args:
        size: units of the hidden layer.
    """

    def __init__(self, size=64, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.hidden = keras.layers.Dense(size, activation="tanh", name="hidden")
        self.output_reward = keras.layers.Dense(1, name="output_reward")

    def build(self, annotations_shape, words_shape):
        """Creates the weights from D and m, the last axes."""
        self.hidden.build((None, annotations_shape[-1] + 2 * words_shape[-1]))
        self.output_reward.build((None, self.size))
        self.built = True

    def call(self, annotations, words):
        """`[B, T]` from annotations `[B, L, D]` and word vectors E y_t `[B, T, m]`."""
        annotations, words = tf.stop_gradient(annotations), tf.stop_gradient(words)
        before = tf.cumsum(words, axis=1, exclusive=True)
        image = tf.reduce_mean(annotations, axis=1, keepdims=True)
        image = tf.repeat(image, tf.shape(words)[1], axis=1)
        to_go = tf.cumsum(words, axis=1, reverse=True)
        hidden = self.hidden(tf.concat([image, before, to_go], axis=-1))
        return tf.cast(self.output_reward(hidden)[..., 0], tf.float32)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "size": self.size}
