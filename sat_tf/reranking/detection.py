"""Which words are said of an image, whatever their order and location."""

import keras
import tensorflow as tf

from sat_tf.reranking.base import Reranker
from sat_tf.runtime.ranges import Rate, Size, check
from sat_tf.vocabulary import PAD

# Recall counts twice: beams say less than people do, and by a plain F short ones win.
# On Flickr8k dev captions get 10.0 words for 9.2 (people's have 10.9), METEOR 20.5 for
# 20.0 and CIDEr-D 54.7 for 53.0; BLEU-4 21.8 for 22.0.
RECALL = 2.0


@keras.saving.register_keras_serializable("sat_tf")
class Detection(Reranker):
    """How far a beam says the words that are expected of the image as a whole.

    p(a caption of the image says word w) comes from one hidden layer on the mean
    annotation (the idea of Fang et al. 2015, whose detector looks at regions). It is
    trained beside the decoder and shapes neither the annotations nor what is decoded.

    Args:
        hidden_size: units with a rectifier.
        dropout: rate on the hidden units. input_dropout: on the mean annotation.
    """

    learns = True
    requires = ("consensus",)

    def __init__(self, hidden_size=512, *, dropout=0.0, input_dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        check(Size, hidden_size=hidden_size)
        check(Rate, dropout=dropout, input_dropout=input_dropout)
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.input_dropout = input_dropout

    def build(self, annotations_shape, vocabulary_size):
        """Creates all weights from D, the last axis of the annotations, and V."""
        self.hidden = keras.layers.Dense(
            self.hidden_size, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.hidden.build((None, annotations_shape[-1]))
        # Biases start at zero: at -6, as few of all words are said, it came to expect
        # 7.5 words in captions of 10.7, and at -3, 8.8.
        self.words = keras.layers.Dense(
            vocabulary_size, dtype=self.dtype_policy, name="words"
        )
        self.words.build((None, self.hidden_size))
        self.drop_mean = keras.layers.Dropout(self.input_dropout, name="drop_mean")
        self.drop_hidden = keras.layers.Dropout(self.dropout, name="drop_hidden")
        self.built = True

    def call(self, annotations, training=False):
        """Annotations `[B, L, D]` -> float32 logits `[B, V]`, of sigmoids."""
        mean = self.drop_mean(tf.reduce_mean(annotations, axis=1), training=training)
        hidden = self.drop_hidden(self.hidden(mean), training=training)
        return tf.cast(self.words(hidden), tf.float32)

    def objective(self, annotations, tokens, rows=None, trace=None):
        """log p of which words each caption says, `[B]` nats."""
        logits = self(annotations, training=True)
        if rows is not None:
            logits = tf.gather(logits, rows)
        return log_likelihood_of_words(logits, tokens)

    def evidence(self, annotations):
        """p(a caption says word w), `[B, L, D]` -> `[B, V]`."""
        return tf.sigmoid(self(annotations))

    def score(self, beams, evidence, strength):
        """`strength` times the F measure of `expected_words`, `[K, B]`."""
        said = words_of(beams.tokens, evidence)
        alike = tf.ones_like(evidence[0])
        return strength * expected_words(beams.tokens, evidence, said, alike)

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "hidden_size": self.hidden_size,
            "dropout": self.dropout,
            "input_dropout": self.input_dropout,
        }


def words_of(tokens, evidence):
    """What is known of each word that is said, `[B, V]` -> `[K, B, T]`."""
    found = tf.gather(evidence, tf.transpose(tokens, [1, 0, 2]), batch_dims=1)
    return tf.transpose(found, [1, 0, 2])


def expected_words(tokens, expected, said, worth):
    """How far each beam says what is expected of the image, `[K, B]`, 0 to 1.

    `(1 + r) sum_{w in A} c(w) q(w) / (sum_{w in A} c(w) + r sum_w c(w) p(w))` of its
    set of words A, with r = `RECALL`: with q = p and all words worth c = 1 the weighted
    F measure of the words it is expected to have in common with a caption that a person
    would write.

    Args:
        tokens: `[K, B, T]`, as `consensus` takes them.
        expected: p(a caption of the image says word w), `[B, V]`.
        said: q of each word that is said, `[K, B, T]`; a repeated one counts once.
        worth: c, what a word is worth, `[V]`.
    """
    time = tf.range(tf.shape(tokens)[-1])
    earlier = time[:, None] > time
    repeats = tf.reduce_any((tokens[..., None] == tokens[..., None, :]) & earlier, -1)
    word = tf.where((tokens != PAD) & ~repeats, tf.gather(worth, tokens), 0.0)
    wanted = tf.linalg.matvec(expected, worth)
    size = tf.reduce_sum(word, axis=-1) + RECALL * wanted
    found = tf.reduce_sum(word * said, axis=-1)
    return tf.math.divide_no_nan((1 + RECALL) * found, size)


def log_likelihood_of_words(logits, tokens):
    """log p of which words a caption says, each on its own, of `Detection`.

    Args:
        logits: `[B, V]`, before sigmoid.
        tokens: int32 `[B, T]`, 0 at padding, which is never said.

    Returns:
        `[B]` nats.
    """
    rows = tf.broadcast_to(tf.range(tf.shape(tokens)[0])[:, None], tf.shape(tokens))
    times = tf.scatter_nd(
        tf.stack([rows, tokens], axis=-1),
        tf.cast(tokens > 0, tf.float32),
        tf.shape(logits),
    )
    said = tf.minimum(times, 1.0)
    log_p = -tf.nn.sigmoid_cross_entropy_with_logits(labels=said, logits=logits)
    return tf.reduce_sum(log_p, axis=-1)
