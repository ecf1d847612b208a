"""Terms of the loss that are pure functions."""

import tensorflow as tf

from sat_tf.runtime import replicas


def log_likelihood(logits, tokens):
    """log p(y_t | s, a) of the words that were said, and nothing at padding.

    Args:
        logits: `[S, B, T, V]`, before softmax.
        tokens: int32 `[B, T]`, 0 at padding.

    Returns:
        `[S, B, T]` nats, exactly 0 at padding.
    """
    words = tf.broadcast_to(tokens[None], tf.shape(logits)[:3])
    log_p = -tf.nn.sparse_softmax_cross_entropy_with_logits(words, logits)
    return tf.where(words > 0, log_p, 0.0)


def mean_log_p(logits, log_p_word, tokens):
    """Mean of log p over the whole vocabulary: what label smoothing rewards.

    Args:
        logits: `[S, B, T, V]`, before softmax.
        log_p_word: `[S, B, T]`, from `log_likelihood`.
        tokens: int32 `[B, T]`, 0 at padding.

    Returns:
        `[S, B, T]` nats, exactly 0 at padding (Szegedy et al. 2016, section 7).
    """
    words = tf.broadcast_to(tokens[None], tf.shape(logits)[:3])
    said = tf.gather(logits, words, axis=-1, batch_dims=3)
    log_normaliser = said - log_p_word
    smooth = tf.reduce_mean(logits, axis=-1) - log_normaliser
    return tf.where(words > 0, smooth, 0.0)


def smoothing(logits, tokens):
    """What label smoothing adds to log p of a caption for each share it moves, `[B]`.

    Args:
        logits: `[S, B, T, V]`, before softmax. tokens: int32 `[B, T]`, 0 at padding.
    """
    log_p = log_likelihood(logits, tokens)
    extra = mean_log_p(logits, log_p, tokens) - log_p
    return tf.reduce_mean(tf.reduce_sum(extra, axis=-1), axis=0)


def mean_over_captions(values, mask):
    """Mean of `values` `[B]` over the captions that have words.

    The others only fill a batch up to its size: they count for nothing. A replica that
    has a share of the batch gets its share of the mean: the sum over its captions by
    the number of all.

    Args:
        values: `[B]`.
        mask: `[B, T]`, 1 at words and 0 at padding.
    """
    spoken = tf.reduce_max(mask, axis=-1)
    total = tf.reduce_sum(tf.where(spoken > 0, values, 0.0))
    return total / tf.maximum(replicas.total(tf.reduce_sum(spoken)), 1.0)


def doubly_stochastic(alpha, mask):
    """sum_i (1 - sum_t alpha_ti)^2, the penalty of eq. 14.

    With many more locations than words its optimum is the *uniform* map: at
    L = 196 and 12 words no map can bring every sum near 1, and the flattest comes
    closest. It held the attention at 5.1 of 5.28 nats when tried on hard attention,
    so its weight defaults to 0.

    Args:
        alpha: `[S, B, T, L]`.
        mask: `[B, T]`, 1 at words and 0 at padding.

    Returns:
        `[B]`, mean over the S samples.
    """
    seen = tf.einsum("sbtl,bt->sbl", alpha, mask)
    return tf.reduce_mean(tf.reduce_sum(tf.square(1.0 - seen), axis=-1), axis=0)
