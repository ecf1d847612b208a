"""Consensus: of all beams, the caption that the others agree with most.

The most probable caption is often a short one that few others resemble. The one with
the greatest expected similarity to a caption drawn from the beams (minimum Bayes risk,
Kumar & Byrne 2004; for captions, Devlin et al. 2015) says what most of them say.
"""

import keras
import tensorflow as tf

from sat_tf.reranking.base import Reranker
from sat_tf.vocabulary import PAD

LONGEST = 4  # words of an n-gram, as in BLEU-4


@keras.saving.register_keras_serializable("sat_tf")
class Consensus(Reranker):
    """How far the other beams agree with a beam, 0 to 1.

    Each beam's opinion weighs p(caption) ** strength: at 0 all count alike, at 1 by
    their probability; 0.3 is a good choice.
    """

    strength = 0.3

    @classmethod
    def is_off(cls, strength):
        """Only `None` is: at 0 all beams count alike."""
        return strength is None

    def score(self, beams, evidence, strength):
        """The expected agreement with a caption drawn from the beams, `[K, B]`."""
        del evidence
        return consensus(beams.tokens, beams.log_p, strength)


def consensus(tokens, log_p, exponent):
    """How far the beams of an image agree with each, `[K, B]`, 0 to 1.

    Args:
        tokens: `[K, B, T]`, `<pad>` after `<eos>`, which counts as a word.
        log_p: `[K, B]` nats; -inf where there is no caption, and such are the scores.
        exponent: a beam's opinion weighs p(caption) ** exponent: 0 = all alike.
    """
    missing = log_p == -float("inf")
    weight = tf.where(missing, log_p, exponent * tf.where(missing, 0.0, log_p))
    weight = tf.nn.softmax(weight, axis=0)
    score = tf.einsum("bjk,kb->jb", agreement(tokens, tokens), weight)
    return tf.where(missing, log_p, score)


def agreement(said, heard):
    """Share of their n-grams that captions of an image have in common, `[B, K, R]`.

    `2 |A and B| / (|A| + |B|)`, repeated ones clipped as BLEU does, mean of n = 1..4.

    Args:
        said: `[K, B, T]`, as `consensus` takes them. heard: `[R, B, T]`, likewise.
    """
    said, heard = (tf.transpose(tokens, [1, 0, 2]) for tokens in (said, heard))
    a, b = said[:, :, None, :, None], heard[:, None, :, None, :]
    word = (a == b) & (a != PAD)  # [B, K, R, T, T]
    again = (said[..., None] == said[..., None, :]) & (said != PAD)[..., None]
    gram, own, shares = word, again, []
    for n in range(1, min(LONGEST, said.shape[-1]) + 1):
        if n > 1:  # n-grams are equal where shorter ones are, and the next word
            gram = gram[..., :-1, :-1] & word[..., n - 1 :, n - 1 :]
            own = own[..., :-1, :-1] & again[..., n - 1 :, n - 1 :]
        there = tf.reduce_sum(tf.cast(gram, tf.float32), axis=-1)
        here = tf.reduce_sum(tf.cast(own, tf.float32), axis=-1)[:, :, None]
        common = tf.reduce_sum(tf.minimum(tf.math.divide_no_nan(there, here), 1.0), -1)
        total = _grams(said, n)[:, :, None] + _grams(heard, n)[:, None]
        shares.append(tf.math.divide_no_nan(2 * common, total))
    return tf.add_n(shares) / len(shares)


def _grams(tokens, n):
    length = tf.math.count_nonzero(tokens != PAD, axis=-1, dtype=tf.float32)
    return tf.maximum(length - n + 1, 0.0)
