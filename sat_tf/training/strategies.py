"""What a run trains on: one device, or several with a share of every batch each."""

import contextlib
import functools
import os

import tensorflow as tf
from tensorflow.python.eager import context

# A worker that gives no sign of life for so long is given up, in milliseconds. By
# TensorFlow's own 10 seconds, a busy machine or a slow disk ends a run of days. One
# that is killed is mostly missed at once all the same, as its connections close.
HEARTBEAT_TIMEOUT = 100_000


def make(name):
    """The `tf.distribute.Strategy` of a name on the command line.

    Args:
        name: `none`, one device; `mirrored`, all GPUs of this machine (or, if it has
            none, its logical CPUs); `multi_worker`, those of all workers of
            `TF_CONFIG`, which has to be made before TensorFlow does anything else.

    Raises:
        ValueError: `TF_CONFIG` does not tell who they are.
    """
    if name == "multi_worker":
        return _of_workers()
    return _mirrored() if name == "mirrored" else tf.distribute.get_strategy()


def _of_workers():
    """One for the workers of `TF_CONFIG`, without which TensorFlow takes this alone."""
    find = tf.distribute.cluster_resolver.TFConfigClusterResolver
    try:
        if not find().cluster_spec().jobs:
            raise ValueError("no cluster")
        _be_patient()
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, TypeError, AttributeError, tf.errors.OpError) as error:
        raise ValueError(
            "Expected TF_CONFIG to name all workers, and which of them this is: "
            '{"cluster":{"worker":["HOST:PORT","HOST:PORT"]},'
            '"task":{"type":"worker","index":0}}. '
            f"Received: TF_CONFIG={os.environ.get('TF_CONFIG')!r} "
            f"({str(error).splitlines()[0].rstrip('.')}). Set it so for every worker, "
            "each with its own index, or choose --strategy mirrored."
        ) from error


def _be_patient():
    """Has `MultiWorkerMirroredStrategy` wait `HEARTBEAT_TIMEOUT` for signs of life.

    It arranges for them itself, and neither takes nor has a public way to set a time.
    """
    of_process = context.context()
    of_process.configure_coordination_service = functools.partial(
        type(of_process).configure_coordination_service,
        of_process,
        heartbeat_timeout_in_ms=HEARTBEAT_TIMEOUT,
    )


@functools.cache
def _mirrored():
    """One for all runs of a process.

    TensorFlow 2.21 numbers the sums of every `MirroredStrategy` from 100, and takes
    those of two strategies with the same number for one. Logical CPUs share a memory,
    so one of them sums for all; collectives would copy the gradients in chunks.
    """
    find, sums = tf.config.list_logical_devices, None
    devices = find("GPU")
    if not devices:
        devices, sums = find("CPU"), tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy([device.name for device in devices], sums)


def check(strategy, recipe):
    """Raises `ValueError` if replicas cannot divide a recipe's batches evenly."""
    number, batch_size = strategy.num_replicas_in_sync, recipe.data.batch_size
    if batch_size % number:
        raise ValueError(
            f"Expected batches that {number} replicas can divide evenly. "
            f"Received: data.batch_size={batch_size}. "
            f"Set data.batch_size={-(-batch_size // number) * number}."
        )


@contextlib.contextmanager
def one_device(captioner):
    """A captioner on one device, which goes on where this one is.

    Args:
        captioner: a `ShowAttendTell`. With several replicas it is a copy that is used,
            and in the end the captioner has learned what its copy has.
    """
    if captioner.strategy.num_replicas_in_sync == 1:
        yield captioner
        return
    copy = type(captioner).from_config(captioner.get_config())
    _assign(copy, captioner)
    yield copy
    _assign(captioner, copy)


def _assign(captioner, other):
    """Gives a captioner every variable of another one like it, with where draws are."""
    for variable, value in zip(captioner.variables, other.variables, strict=True):
        variable.assign(value.numpy())
    captioner.encoder.standardise.finalize_state()
