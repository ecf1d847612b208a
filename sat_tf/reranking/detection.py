"""Which words are said of an image, whatever their order and place."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("sat_tf")
class WordDetector(keras.layers.Layer):
    """p(a caption of the image says word w), one hidden layer on the mean annotation.

    A second opinion on captions, of the whole image at once: the beams of a search are
    ranked by it (the idea of Fang et al. 2015; their detector looks at regions). It
    says nothing to the decoder, which still sees what attention looks at and no more.

    Args:
        vocabulary_size: V.
        hidden_size: units with a rectifier.
        dropout: rate on the hidden units; input_dropout: on the mean annotation.
    """

    def __init__(
        self, vocabulary_size, hidden_size, *, dropout=0.0, input_dropout=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        dtype = self.dtype_policy
        self.hidden = keras.layers.Dense(
            hidden_size, activation="relu", dtype=dtype, name="hidden"
        )
        # Biases start at zero: at -6, as few of all words are said, it came to expect
        # 7.5 words in captions of 10.7, and at -3, 8.8.
        self.words = keras.layers.Dense(vocabulary_size, dtype=dtype, name="words")
        self.drop_mean = keras.layers.Dropout(input_dropout, name="drop_mean")
        self.drop_hidden = keras.layers.Dropout(dropout, name="drop_hidden")

    def build(self, annotations_shape):
        """Creates all weights from D, the last axis of the annotations."""
        self.hidden.build((None, annotations_shape[-1]))
        self.words.build((None, self.hidden_size))
        self.built = True

    def call(self, annotations, training=False):
        """Annotations `[B, L, D]` -> float32 logits `[B, V]`, of sigmoids."""
        mean = self.drop_mean(tf.reduce_mean(annotations, axis=1), training=training)
        hidden = self.drop_hidden(self.hidden(mean), training=training)
        return tf.cast(self.words(hidden), tf.float32)
