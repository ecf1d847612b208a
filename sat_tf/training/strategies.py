"""What a run trains on: one device, or several with a share of every batch each."""

import tensorflow as tf

STRATEGIES = ("none", "mirrored")


def make(name, recipe):
    """The `tf.distribute.Strategy` of a name.

    Args:
        name: `none`, one device; `mirrored`, all GPUs of this machine (or, if it has
            none, its logical CPUs).
        recipe: a `Recipe`.

    Raises:
        ValueError: there is no such strategy, or its replicas cannot divide the
            recipe's batches evenly.
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"Expected strategy to be one of {', '.join(STRATEGIES)}. "
            f"Received: strategy={name!r}. Choose one of them."
        )
    if name == "none":
        return tf.distribute.get_strategy()
    find = tf.config.list_logical_devices
    strategy = tf.distribute.MirroredStrategy(
        [d.name for d in find("GPU") or find("CPU")]
    )
    number, batch_size = strategy.num_replicas_in_sync, recipe.data.batch_size
    if batch_size % number:
        raise ValueError(
            f"Expected batches that {number} replicas can divide evenly. "
            f"Received: data.batch_size={batch_size}. "
            f"Set data.batch_size={-(-batch_size // number) * number}."
        )
    return strategy
