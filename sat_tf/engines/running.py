"""A large work in parts, of which an engine has the missing ones done."""

import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from typing import NamedTuple

from sat_tf.engines import BEAM, ENGINES
from sat_tf.runtime import interrupts

_INSTALL = {"apache_beam": BEAM, "pyspark": "pip install 'sat_tf[spark]'"}
_LOOK_EVERY = 2.0  # seconds


class Job(NamedTuple):
    """A large work in parts."""

    work: Callable
    """Does a part, and returns named counts; small, as engines send it about."""
    missing: Callable
    """Returns what `work` takes of each part that is not done, a list."""
    total: int
    """How many parts there are in all."""
    unit: str
    """What a part is called."""
    where: str
    """Where they are written, for messages."""


def open_engine(name, options):
    """An engine with its options read.

    Args:
        name: a key of `ENGINES`. options: words that it reads as options.

    Raises:
        ValueError: an option is wrong.
        ImportError: the engine is not installed.
    """
    # Beam warns of services whose libraries are not installed.
    logging.disable(logging.WARNING)
    try:
        return ENGINES[name](options)
    except ModuleNotFoundError as error:
        install = _INSTALL.get((error.name or "").partition(".")[0])
        if install is None:
            raise
        raise ImportError(
            f"Expected the library of the engine {name!r} to be installed. "
            f"Received: {error}. Install it: {install}"
        ) from error
    finally:
        logging.disable(logging.NOTSET)


def finish(job, engine, name):
    """Has what is missing of a job done; shows a bar meanwhile.

    Args:
        job: a `Job`. engine: from `open_engine`, of this `name`.

    Raises:
        OSError: the engine gave up.
    """
    missing = job.missing()
    if not missing:
        return
    with _progress(job), _interruptible() as stopped:
        try:
            engine.run(job.work, missing)
        except Exception as error:  # engines raise what they like
            if stopped:
                raise KeyboardInterrupt from error
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise OSError(
                f"Expected the engine {name!r} to finish {len(missing)} {job.unit}s. "
                f"Received: {reason}. What is finished is kept. Set SAT_TF_TRACEBACK=1 "
                "to see the cause, fix it, and repeat the command."
            ) from error
    if left := job.missing():
        raise OSError(
            f"Expected {job.total} finished {job.unit}s at {job.where}. Received: "
            f"{job.total - len(left)}. Check that workers write where this command "
            "reads, and repeat it."
        )


@contextlib.contextmanager
def _interruptible():
    """Yields a list that has something in it once Ctrl-C was pressed.

    Engines make errors of their own of it, and log them at length.
    """
    stopped = []

    def stop(*_):
        stopped.append(True)
        logging.disable(logging.CRITICAL)
        raise KeyboardInterrupt

    if not interrupts.are_ours():
        yield stopped
        return
    handler = signal.signal(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, handler)
        logging.disable(logging.NOTSET)


@contextlib.contextmanager
def _progress(job):
    """A bar that counts finished parts by their files, whoever writes them."""
    from tqdm import tqdm

    done = job.total - len(job.missing())
    stop = threading.Event()
    with tqdm(total=job.total, initial=done, unit=job.unit, disable=None) as bar:

        def look():
            bar.update(job.total - len(job.missing()) - bar.n)

        def watch():
            while not stop.wait(_LOOK_EVERY):
                look()

        watching = threading.Thread(target=watch, daemon=True)
        if not bar.disable:
            watching.start()
        try:
            yield
            look()
        finally:
            stop.set()
