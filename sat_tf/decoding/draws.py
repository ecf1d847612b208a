"""Random draws that depend on a seed tensor and on nothing else."""

import tensorflow as tf


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


def categorical(logits, seed):
    """One index int32 `[S, B]` per row of unnormalised log-probs `[S, B, N]`.

    Rows are drawn image by image, so that an image's draw depends on its place in
    the batch and not on how many images follow (a padded batch answers the same).
    """
    samples, images, size = tf.unstack(tf.shape(logits))
    rows = tf.reshape(tf.transpose(logits, [1, 0, 2]), [images * samples, size])
    drawn = tf.random.stateless_categorical(rows, 1, seed, dtype=tf.int32)
    # A row of nan draws an index outside; it must not fail the images beside it.
    drawn = tf.minimum(drawn, size - 1)
    drawn = tf.transpose(tf.reshape(drawn, [images, samples]))
    return tf.ensure_shape(drawn, logits.shape[:2])
