"""Noise of captions that does not depend on what they are padded with.

A batch is padded with captions without words, and a caption with steps without words;
neither may change what is drawn for the words there are.
"""

import tensorflow as tf

TINY = 1e-30  # in place of 0, whose logarithm is no number


def uniform(shape, seed):
    """Uniform numbers above 0, `[S, B, L]`, drawn image by image."""
    samples, images, locations = tf.unstack(shape)
    drawn = tf.random.stateless_uniform([images, samples, locations], seed, minval=TINY)
    return tf.transpose(drawn, [1, 0, 2])


def by_step(draw, seed, steps, dtype=tf.float32):
    """`draw(t, seed of step t)` of every step t, stacked along a first axis."""
    fold_in = tf.random.experimental.stateless_fold_in
    return tf.map_fn(
        lambda t: draw(t, fold_in(seed, t)),
        tf.range(steps),
        fn_output_signature=dtype,
    )
