"""Which places of an image show which words, learned from captions alone."""

import keras
import numpy as np
import tensorflow as tf

from sat_tf.reranking.base import Reranker
from sat_tf.reranking.detection import expected_words, log_likelihood_of_words

RARE = 1e-4  # share of the captions that a word is taken to be in at least
MOMENTUM = 1e-3  # of the running shares, per update
PLAIN = np.log(10.0)  # nats of support from which a word counts in full


@keras.saving.register_keras_serializable("sat_tf")
class Alignment(Reranker):
    """How far a beam says the words that places of the image show.

    One hidden layer on every annotation gives each word a logit at each location. The
    log-sum-exp over the locations says whether a caption has the word (weak supervision
    by multiple instances, as Fang et al. 2015, with Pinheiro and Collobert's 2015 soft
    maximum), and the softmax over them where it is seen. It learns beside the decoder,
    from the words of captions and without boxes.

    As it is told the word, it can show attention, which is not, where to look: with
    `teaching`, each word adds its cross-entropy between the locations that show it and
    alpha to what is minimised. A word counts by how much the image has to do with it,
    `support`: "dog" in full where there is one, "the" not at all.

    Args:
        hidden_size: units with a rectifier.
        dropout: rate on the hidden units. input_dropout: on channels of the annotations,
            an image's at all locations at once.
        teaching: weight of a supported word's cross-entropy; 0 = attention is not
            taught.
    """

    learns = True
    locates = True
    requires = ("consensus",)

    def __init__(
        self, hidden_size=512, *, dropout=0.0, input_dropout=0.0, teaching=0.0, **kwargs
    ):
        super().__init__(**kwargs)
        self.hidden_size = hidden_size
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.teaching = teaching

    def build(self, annotations_shape, vocabulary_size):
        """Creates all weights from D, the last axis of the annotations, and V."""
        self.hidden = keras.layers.Dense(
            self.hidden_size, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.hidden.build((None, None, annotations_shape[-1]))
        self.words = keras.layers.Dense(
            vocabulary_size, dtype=self.dtype_policy, name="words"
        )
        self.words.build((None, None, self.hidden_size))
        self.share = self.add_weight(
            shape=(vocabulary_size,),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            name="share",
        )
        self.updates = self.add_weight(
            shape=(), initializer="zeros", trainable=False, dtype="float32", name="updates"
        )
        self.drop_channels = keras.layers.SpatialDropout1D(
            self.input_dropout, dtype=self.dtype_policy, name="drop_channels"
        )
        self.drop_hidden = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="drop_hidden"
        )
        self.built = True

    def call(self, annotations, training=False):
        """Annotations `[B, L, D]` -> float32 logits `[B, L, V]`."""
        channels = self.drop_channels(annotations, training=training)
        hidden = self.drop_hidden(self.hidden(channels), training=training)
        return tf.cast(self.words(hidden), tf.float32)

    def objective(self, annotations, tokens, rows=None, trace=None):
        """log p of which words each caption says, and what attention is taught, `[B]`."""
        logits = self(annotations, training=True)
        rows = tf.range(tf.shape(tokens)[0]) if rows is None else rows
        objective = log_likelihood_of_words(tf.gather(_pooled(logits), rows), tokens)
        if self.teaching:
            log_places, support = self.locate(annotations, tokens, rows)
            counts = tf.clip_by_value(support / PLAIN, 0.0, 1.0)
            log_alpha = tf.reduce_mean(trace.log_alpha, axis=0)
            taught = tf.reduce_sum(tf.exp(log_places) * log_alpha, axis=-1)
            objective += self.teaching * tf.reduce_sum(counts * taught, axis=-1)
            self._count(tokens)
        return objective

    def locate(self, annotations, tokens, rows=None):
        """Where words are seen, and how much the images have to do with them.

        No gradient passes.

        Args:
            annotations: `[B, L, D]`. tokens: int32 `[N, T]`, 0 at padding.
            rows: int `[N]`, the row of `annotations` that each caption is about;
                `None` = one image each.

        Returns:
            log p(location | word) `[N, T, L]` nats, and the support `[N, T]` nats:
            log p(a caption of the image says the word) - log p(any caption says it),
            0 at padding.
        """
        logits = tf.stop_gradient(self(annotations))
        rows = tf.range(tf.shape(tokens)[0]) if rows is None else rows
        rows = tf.broadcast_to(rows[:, None], tf.shape(tokens))
        which = tf.stack([rows, tokens], axis=-1)
        found = tf.gather_nd(tf.transpose(logits, [0, 2, 1]), which)
        log_p = tf.math.log_sigmoid(tf.gather_nd(_pooled(logits), which))
        usual = tf.math.log(tf.maximum(tf.gather(self.usual(), tokens), RARE))
        support = tf.where(tokens > 0, log_p - usual, 0.0)
        return tf.nn.log_softmax(found), support
