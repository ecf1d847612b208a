"""Consensus: of all beams, the caption that the others agree with most.

The most probable caption is often a short one that few others resemble. The one with
the greatest expected similarity to a caption drawn from the beams (minimum Bayes risk,
Kumar & Byrne 2004; for captions, Devlin et al. 2015) says what most of them say.
"""

import tensorflow as tf

from sat_tf.vocabulary import EOS, PAD

LONGEST = 4  # words of an n-gram, as in BLEU-4
# Recall counts twice: beams say less than people do, and by a plain F short ones win.
# On Flickr8k dev captions get 10.0 words for 9.2 (people's have 10.9), METEOR 20.5 for
# 20.0 and CIDEr-D 54.7 for 53.0; BLEU-4 21.8 for 22.0.
RECALL = 2.0


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


def expected_words(tokens, detected):
    """How far each beam says what is expected of the image, `[K, B]`, 0 to 1.

    `(1 + r) sum_{w in A} p(w) / (|A| + r sum_w p(w))` of its set of words A, with r =
    `RECALL`: the weighted F measure of the words it is expected to have in common with
    a caption that a person would write.

    Args:
        tokens: `[K, B, T]`, as `consensus` takes them.
        detected: p(a caption of the image says word w), `[B, V]`.
    """
    tokens = tf.transpose(tokens, [1, 0, 2])
    time = tf.range(tf.shape(tokens)[-1])
    earlier = time[:, None] > time
    repeats = tf.reduce_any((tokens[..., None] == tokens[..., None, :]) & earlier, -1)
    word = tf.cast((tokens != PAD) & ~repeats, tf.float32)
    found = tf.reduce_sum(word * tf.gather(detected, tokens, batch_dims=1), axis=-1)
    wanted = tf.reduce_sum(detected, axis=-1)[:, None]
    size = tf.reduce_sum(word, axis=-1) + RECALL * wanted
    return tf.transpose(tf.math.divide_no_nan((1 + RECALL) * found, size))


def grounded_words(tokens, locations, evidence):
    """How far the places that each beam looked at say its words, `[K, B]`, nats.

    The mean over its words of log p(word | place) - log p(word).

    Args:
        tokens: `[K, B, T]`, as `consensus` takes them; `<eos>` has no place.
        locations: int `[K, B, T]`, where each word was looked at.
        evidence: of every word at every place, `[B, L, V]`.
    """
    looks = tf.transpose(tf.stack([locations, tokens], axis=-1), [1, 0, 2, 3])
    found = tf.transpose(tf.gather_nd(evidence, looks, batch_dims=1), [1, 0, 2])
    word = tf.cast(tokens > EOS, tf.float32)
    words = tf.reduce_sum(word, axis=-1)
    return tf.math.divide_no_nan(tf.reduce_sum(word * found, axis=-1), words)


def agreement(said, heard, recall=1.0):
    """Share of their n-grams that captions of an image have in common, `[B, K, R]`.

    `(1 + r) |A and B| / (|A| + r |B|)`, r = `recall`, repeated ones clipped as BLEU
    does, mean of n = 1..4.

    Args:
        said: `[K, B, T]`, as `consensus` takes them. heard: `[R, B, T]`, likewise.
        recall: 1 = the plain F measure, above 1 what was heard should be said.
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
        total = _grams(said, n)[:, :, None] + recall * _grams(heard, n)[:, None]
        shares.append(tf.math.divide_no_nan((1 + recall) * common, total))
    return tf.add_n(shares) / len(shares)


def _grams(tokens, n):
    length = tf.math.count_nonzero(tokens != PAD, axis=-1, dtype=tf.float32)
    return tf.maximum(length - n + 1, 0.0)
