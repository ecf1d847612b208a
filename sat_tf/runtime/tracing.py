"""Graphs, where they are not worth their tracing."""

import contextlib

FEW = 8  # images


@contextlib.contextmanager
def untraced(images):
    """Inside, every operation runs as it comes, where there are at most `FEW` images.

    To trace what reads, encodes and captions takes longer than to do it for a batch of
    them. This is TensorFlow's setting for the whole process; it is put back at the end.

    Args:
        images: their number, or `None` where it is not known.
    """
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    few = images is not None and images <= FEW
    tf.config.run_functions_eagerly(before or few)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)
