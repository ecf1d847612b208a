"""A captioner so small that an expectation over all its paths can be written out."""

import itertools

import numpy as np
import tensorflow as tf

from sat_tf.captioner import ShowAttendTell
from sat_tf.model.encoder import Encoder

PLACES, WORDS, IMAGES, COPIES = (2, 2), 2, 2, 32
_SPREAD = 0.7  # of the weights: wide, so that no gradient is near zero


def small_case(estimator, seed=17):
    """A captioner with random weights and a batch: L = 4, T = 2, 16 paths a caption.

    The batch is the same two captions over and over: as many independent draws, of
    whose gradient the batch's is the mean.
    """
    encoder = Encoder("none", features_shape=(*PLACES, 3))
    captioner = ShowAttendTell(
        ["red", "blue", "dog", "cat"],
        encoder=encoder,
        estimator=estimator,
        embedding_size=3,
        hidden_size=4,
        attention_size=5,
        dropout=0.0,
    )
    rng = np.random.default_rng(seed)
    for part in (captioner.network.attention, captioner.network.decoder):
        for variable in part.trainable_variables:
            variable.assign(rng.normal(0, _SPREAD, variable.shape))
    annotations = rng.normal(size=(IMAGES, encoder.locations, encoder.size))
    tokens = rng.integers(1, len(captioner.vocabulary), (IMAGES, WORDS))
    return captioner, {
        "annotations": tf.tile(tf.constant(annotations, tf.float32), [COPIES, 1, 1]),
        "tokens": tf.tile(tf.constant(tokens, tf.int32), [COPIES, 1]),
    }


def lower_bound(captioner, data):
    """L_s of eq. 10, mean over the batch: every path weighed by its probability."""
    locations, words = captioner.encoder.locations, data["tokens"].shape[1]
    paths = np.array(list(itertools.product(range(locations), repeat=words)))
    weights = tf.one_hot(paths, locations)  # [S, T, L]

    def follow(logits, t):
        return tf.broadcast_to(weights[:, None, t], tf.shape(logits))

    trace, _ = captioner.network.trace(data, follow, samples=len(paths))
    p = tf.exp(tf.reduce_sum(trace.log_p_location, axis=-1))
    bound = tf.reduce_sum(p * tf.reduce_sum(trace.log_p_word, axis=-1), axis=0)
    return tf.reduce_mean(bound)


def soft_log_likelihood(captioner, data):
    """log p(y | a) under expected contexts (eq. 13), mean over the batch."""
    trace, _ = captioner.network.trace(data, lambda logits, t: tf.nn.softmax(logits))
    return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, axis=-1))


OBJECTIVES = {
    "lower_bound": lower_bound,
    "soft_log_likelihood": soft_log_likelihood,
}
