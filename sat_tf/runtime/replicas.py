"""What the replicas of a captioner, each with its share of a batch, have in common."""

import tensorflow as tf


def total(values):
    """Sums over all replicas; with one replica, what was given.

    Every replica must ask, in the same order, and outside loops and branches.

    Args:
        values: a tensor, or any nesting of tensors; `None` stays what it is.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    flat = tf.nest.flatten(values)
    there = [tf.convert_to_tensor(value) for value in flat if value is not None]
    summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, there))
    found = [None if value is None else next(summed) for value in flat]
    return tf.nest.pack_sequence_as(values, found)


def only_first(values):
    """The values on the first replica, and zeros on the others.

    Args:
        values: list of tensors, the same on all replicas.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    first = tf.equal(context.replica_id_in_sync_group, 0)
    return [tf.where(first, value, tf.zeros_like(value)) for value in values]
