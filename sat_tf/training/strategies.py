"""What a run trains on: one device, or several with a share of every batch each."""

import tensorflow as tf


def make(name):
    """The `tf.distribute.Strategy` of a name on the command line.

    Args:
        name: `none`, one device; `mirrored`, all GPUs of this machine (or, if it has
            none, its logical CPUs).
    """
    if name == "mirrored":
        find = tf.config.list_logical_devices
        devices = find("GPU") or find("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def check(strategy, recipe):
    """Raises `ValueError` if replicas cannot divide a recipe's batches evenly."""
    number, batch_size = strategy.num_replicas_in_sync, recipe.data.batch_size
    if batch_size % number:
        raise ValueError(
            f"Expected batches that {number} replicas can divide evenly. "
            f"Received: data.batch_size={batch_size}. "
            f"Set data.batch_size={-(-batch_size // number) * number}."
        )
