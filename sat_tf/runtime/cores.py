"""How the processor's cores are shared where several batches are at work at once."""

import contextlib
import os

_ASKED = "TF_NUM_INTRAOP_THREADS"  # what TensorFlow is told by people


def one_core_each():
    """Has each of TensorFlow's operations keep to one core, from the start.

    An operation of a small batch is over before a second core has woken up for its
    half. Where there are batches enough, it is faster to give each a core: two of
    photographs at once take 0.8 of the time of one on two cores
    (docs/results/speed.md). Nothing changes where a GPU works, where somebody said how
    many threads an operation shall have, or when TensorFlow has begun to compute.

    Returns:
        how many batches should be at work at once.
    """
    import tensorflow as tf  # which takes seconds

    if tf.config.list_physical_devices("GPU"):
        return 1
    threading = tf.config.threading
    if _ASKED not in os.environ and not threading.get_intra_op_parallelism_threads():
        with contextlib.suppress(RuntimeError):  # it has begun
            threading.set_intra_op_parallelism_threads(1)
    return number()


def number():
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
