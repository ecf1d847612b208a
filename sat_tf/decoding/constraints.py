"""Words that may not be said next get log-probability -inf.

What remains is not renormalised: scores stay the model's own.
"""

import numpy as np
import tensorflow as tf

from sat_tf.vocabulary import EOS, PAD, UNK


def forbid(log_p, tokens, t, options):
    """`log_p [S, B, V]` without the words that `options` forbid as word number t.

    Args:
        log_p: nats.
        tokens: int32 `[S, B, T]`, the captions so far; the first t count.
        t: int32 scalar, how many words have been said.
        options: `DecodingOptions`.

    `<pad>` is never a word. Should nothing be left (every word would repeat an
    n-gram, and it is too early to end), the caption ends before `min_length`.
    """
    closed = _fixed_mask(log_p.shape[-1], options)
    not_yet = closed.copy()
    not_yet[EOS] = -np.inf
    mask = tf.where(t < options.min_length, not_yet, closed)
    allowed = log_p + mask
    if options.no_repeat_ngram:
        allowed = _without_repeats(allowed, tokens, t, options.no_repeat_ngram)
        if options.min_length:
            stuck = tf.reduce_max(allowed, axis=-1, keepdims=True) == -np.inf
            is_end = tf.range(log_p.shape[-1]) == EOS
            allowed = tf.where(stuck & is_end, log_p, allowed)
    return allowed


def _fixed_mask(size, options):
    """float32 `[V]`: -inf for words that are forbidden everywhere, else 0."""
    outside = [i for i in options.banned if i >= size]
    if outside:
        raise ValueError(
            f"Expected banned word ids below the vocabulary size {size}. "
            f"Received: banned={outside}. Take the ids from the model's vocabulary."
        )
    unknown = () if options.allow_unknown else (UNK,)
    mask = np.zeros(size, np.float32)
    mask[[PAD, *unknown, *options.banned]] = -np.inf
    if np.isneginf(np.delete(mask, EOS)).all():
        raise ValueError(
            "Expected at least one word that may be said. "
            f"Received: banned={len(options.banned)} ids of {size}. Ban fewer words."
        )
    return mask


def _without_repeats(log_p, tokens, t, n):
    """Forbid every word that would close an n-gram that the caption already has."""
    windows = tokens.shape[-1] - n + 1
    if windows < 1:
        return log_p
    last = tokens[..., n - 1 :]  # the n-th word of each window, [S, B, windows]
    repeats = tf.range(windows) + n - 1 < t
    for j in range(n - 1):
        recent = tf.gather(tokens, tf.maximum(t - n + 1 + j, 0), axis=-1)
        repeats &= tokens[..., j : j + windows] == recent[..., tf.newaxis]
    repeats = tf.broadcast_to(repeats, tf.shape(last))
    # Scattering by minimum costs the few repeated words, not a [.., windows, V].
    row, image, _ = tf.meshgrid(
        *map(tf.range, tf.unstack(tf.shape(last))), indexing="ij"
    )
    where = tf.stack([row, image, last], axis=-1)
    return tf.tensor_scatter_nd_min(
        log_p, where, tf.where(repeats, -float("inf"), float("inf"))
    )
