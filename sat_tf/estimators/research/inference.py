"""q(s_t | a, y): where to look, for one who knows the whole caption."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("sat_tf")
class Inference(keras.layers.Layer):
    """A location for each word from the image and the caption around it.

    Bilinear in an annotation and in one hidden layer over y_{t-1}, y_t, y_{t+1} and
    the mean word, as in Deng et al. 2018 with a window in place of their recurrent
    net. It is used in training only and shares the network's word vectors, which
    learn from it too.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = None

    def build(self, annotations_shape, words_shape):
        """Creates the weights from D and m, the last axes."""
        size = words_shape[-1]
        self.words = keras.layers.Dense(size, activation="tanh", name="words")
        self.project = keras.layers.Dense(size, use_bias=False, name="project")
        self.words.build((None, 4 * size))
        self.project.build(annotations_shape)
        self.built = True

    def call(self, annotations, words, mask):
        """log q(s_t | a, y) `[B, T, L]` nats.

        Args:
            annotations: `[B, L, D]`. words: E y_t `[B, T, m]`, 0 at padding.
            mask: `[B, T]`, 1 at words and 0 at padding.
        """
        before = tf.pad(words[:, :-1], [[0, 0], [1, 0], [0, 0]])
        after = tf.pad(words[:, 1:], [[0, 0], [0, 1], [0, 0]])
        number = tf.maximum(tf.reduce_sum(mask, axis=-1), 1.0)[:, None, None]
        mean = tf.reduce_sum(words, axis=1, keepdims=True) / tf.cast(
            number, words.dtype
        )
        mean = tf.broadcast_to(mean, tf.shape(words))
        queries = self.words(tf.concat([before, words, after, mean], axis=-1))
        logits = tf.einsum("bta,bla->btl", queries, self.project(annotations))
        logits = tf.cast(logits, tf.float32) / words.shape[-1] ** 0.5
        return tf.nn.log_softmax(logits)


def look(inference, network, data):
    """log q `[1, B, T, L]` of a batch of captions."""
    tokens = tf.cast(data["tokens"], tf.int32)
    annotations = network.annotations_of(data, training=True)
    words = network.decoder.embed(tokens)
    return inference(annotations, words, tf.cast(tokens > 0, tf.float32))[None]


def trace(estimator, network, data, seed, log_q):
    """As `Estimator.trace`, the locations drawn from q in place of alpha."""

    def select(logits, step):
        drawn_from = tf.broadcast_to(log_q[:, :, step], tf.shape(logits))
        return estimator.draw(drawn_from, seed, step)

    found, words = network.trace(
        data, select, one_hot=True, samples=estimator.samples, training=True
    )
    every = tf.broadcast_to(log_q, tf.shape(found.log_alpha))
    return found._replace(log_q=every), words
