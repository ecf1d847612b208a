"""Random draws that depend on a seed and on nothing else."""

import math

import tensorflow as tf

_AT_ONCE = 4  # numbers for one count of Philox, TensorFlow's generator


def as_seed(seed):
    """A `[2]` int32 seed from a number, a `[2]` tensor, or None.

    None draws a fresh one *in the graph*: every call of an exported function then
    answers differently.
    """
    if seed is None:
        return tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
    seed = tf.cast(seed, tf.int32)
    if seed.shape.rank == 0:
        return tf.stack([seed, 0])
    if seed.shape != [2]:
        raise ValueError(
            "Expected a seed that is a number or a tensor of two numbers. "
            f"Received: seed with shape={seed.shape}. Pass e.g. seed=17."
        )
    return seed


def uniforms(seed, first, images, shape):
    """Numbers in 0..1, 1 excluded, for each of some images: float32 `[B, *shape]`.

    A seed has one endless row of numbers, and each image its own stretch of it, found
    by counting: what an image gets does not depend on the images beside it.

    Args:
        seed: int32 `[2]`. first: index of the first image. images: B, how many.
        shape: of the numbers of one image, static.
    """
    size = math.prod(shape)
    each = -(-size // _AT_ONCE)
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    counter += tf.cast(tf.stack([first * each, 0]), counter.dtype)
    drawn = tf.raw_ops.StatelessRandomUniformV2(
        shape=[images, each * _AT_ONCE],
        key=key,
        counter=counter,
        alg=tf.random.Algorithm.PHILOX.value,
    )
    return tf.reshape(drawn[:, :size], [images, *shape])


def categorical(logits, draw):
    """One index int32 `[..]` per row of unnormalised log-probabilities `[.., N]`.

    By inversion of the cumulated probabilities, at `draw`, `[..]` in 0..1. A row of
    nan draws 0; it must not fail the images beside it.
    """
    mass = tf.cumsum(tf.nn.softmax(tf.cast(logits, tf.float32)), axis=-1)
    # Their sum is only nearly 1; what has no probability adds nothing, and is passed.
    passed = mass <= draw[..., tf.newaxis] * mass[..., -1:]
    return tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)
