"""Several processes in one run: the chief writes, and all know the same."""

import contextlib
import json
import re

import numpy as np
import tensorflow as tf

from sat_tf.runtime import replicas
from sat_tf.training.run import Run
from sat_tf.training_step import updates

# In many lines of an error, the one that says what has happened.
_REASON = re.compile(r"Collective ops is aborted by: (.+?)[.:]*( \[type\..*)?$", re.M)


def is_chief(strategy):
    """Whether this process is the one that writes; alone it is."""
    return strategy.extended.should_checkpoint


def told(strategy, value=None):
    """What the chief's `value` is, to be read from JSON; all wait for one another."""
    if not updates.has_workers(strategy):
        return value
    text = json.dumps(value).encode() if is_chief(strategy) else b""
    size = int(_of_chief(strategy, np.array([len(text)]))[0])
    padded = np.frombuffer(text.ljust(size), np.uint8)
    return json.loads(_of_chief(strategy, padded).astype(np.uint8).tobytes())


def _of_chief(strategy, numbers):
    """The chief's whole numbers, of as many as all give."""
    shares = strategy.experimental_distribute_values_from_function(
        lambda _: tf.constant(numbers.astype(np.int64))
    )
    return strategy.experimental_local_results(_sum(strategy, shares))[0].numpy()


@tf.function(autograph=False, reduce_retracing=True)
def _sum(strategy, shares):
    """The first replica's share, on all."""

    def of_first(share):
        return replicas.total(replicas.only_first([share])[0])

    return strategy.run(of_first, args=(shares,))


@contextlib.contextmanager
def chief_first(strategy):
    """The chief goes through this block, and then the others, who find its work."""
    if not is_chief(strategy):
        told(strategy)
    yield
    if is_chief(strategy):
        told(strategy)


@contextlib.contextmanager
def together():
    """Raises `OSError` where another worker has gone."""
    try:
        yield
    except tf.errors.OpError as error:
        told_why = _REASON.search(error.message)
        gone = tf.errors.UnavailableError, tf.errors.AbortedError
        if not told_why and not isinstance(error, gone):
            raise
        reason = told_why[1] if told_why else error.message.partition("\n")[0]
        raise OSError(
            "Expected all workers to stay until the end. "
            f"Received: {reason.rstrip('.')}. Start all of them again with the "
            "same command: the run resumes from the chief's last checkpoint."
        ) from error


class Reader(Run):
    """The folder of a run, for workers that are not the chief: they write nothing."""

    @contextlib.contextmanager
    def alone(self):
        """Nothing: the chief keeps other runs out."""
        yield self

    def open(self, settings):
        """Nothing: the chief checks them."""

    def learn_from(self, vocabulary, splits):
        """Nothing: the chief checks them."""

    def save_checkpoint(self, captioner, progress):
        """Nothing."""

    def save_best(self, captioner, metadata):
        """Nothing."""

    def save_history(self, history):
        """Nothing."""

    def log(self, row):
        """Nothing."""


def run_in(folder, strategy):
    """The `Run` of a folder, as this process may use it."""
    return (Run if is_chief(strategy) else Reader)(folder)


def check_progress(strategy, progress, folder):
    """Raises `ValueError` if a worker does not see the chief's checkpoint."""
    step = told(strategy, progress.step)
    if step != progress.step:
        raise ValueError(
            "Expected a folder of the run that all workers see. Received: "
            f"out={str(folder)!r}, at step {progress.step} here and {step} at the "
            "chief. Choose an --out on a file system that they share."
        )


def follow(run, captioner):
    """Has all workers start from the checkpoint that the chief has just written."""
    told(captioner.strategy)
    if isinstance(run, Reader):
        run.restore(captioner)


def _share_seeds(captioner):
    """Brings all draws to where the chief's first replica is."""
    states = updates.seed_states(captioner)
    values = [state.numpy().tolist() for state in states]
    for state, value in zip(states, told(captioner.strategy, values), strict=True):
        state.assign(np.array(value, state.numpy().dtype))


def fit(captioner, dataset, *, steps_per_epoch, callbacks, **_):
    """One epoch as `captioner.fit`, which Keras cannot spread over processes.

    Args:
        captioner: a compiled `ShowAttendTell`.
        dataset: of batches for all replicas together, the same in every process.
        steps_per_epoch: updates.
        callbacks: list of Keras callbacks, told of every update.

    Returns:
        name -> the mean over the updates.
    """
    strategy = captioner.strategy
    _share_seeds(captioner)
    captioner.make_train_function()
    captioner.reset_metrics()
    shares = captioner.distribute_strategy.experimental_distribute_dataset(dataset)

    @tf.function(autograph=False, reduce_retracing=True)
    def update(share):
        return strategy.run(captioner.train_step, args=(share,))

    for callback in callbacks:
        callback.set_model(captioner)
    for step, share in zip(range(steps_per_epoch), shares):  # noqa: B905, endless
        logs = {
            name: float(strategy.experimental_local_results(value)[0])
            for name, value in update(share).items()
        }
        for callback in callbacks:
            callback.on_train_batch_end(step, logs)
    return logs
