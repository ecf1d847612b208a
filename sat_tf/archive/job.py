"""One command: plans an archive, or finds its plan, and has what is missing done."""

import contextlib
import logging
import os
import signal
import threading
from typing import NamedTuple

from sat_tf.archive import ENGINES, files, models, plan, work
from sat_tf.runtime import interrupts

_INSTALL = {"apache_beam": files.BEAM, "pyspark": "pip install 'sat_tf[spark]'"}
_LOOK_EVERY = 2.0  # seconds


class Summary(NamedTuple):
    """What an archive has come to, parts that were finished earlier included."""

    parts: int
    captions: int
    bad: int


def caption_archive(
    pattern,
    model,
    prefix,
    *,
    engine="beam",
    engine_options=(),
    batch_size=32,
    part_size=256,
):
    """Captions all images that match a pattern, or those that are still missing.

    Args:
        pattern: of image files or of files of TFRecords, see `files.match`.
        model: see `models.find`.
        prefix: what the names of all files of the output begin with.
        engine: a key of `ENGINES`. engine_options: words that it reads as options.
        batch_size: images captioned at once. part_size: images in a part.

    Returns:
        a `Summary`.

    Raises:
        ValueError: an option is wrong, or another command began this archive.
        ImportError: the engine is not installed.
        OSError: the engine gave up.
    """
    _check(prefix, batch_size=batch_size, part_size=part_size)
    prefix = files.absolute(prefix)
    runs = _engine(engine, engine_options)
    model = models.find(model)
    archive = plan.read(prefix)
    if archive is None:
        archive = plan.make(pattern, model, part_size)
        plan.write(archive, prefix)
    plan.refuse_another(archive, prefix, pattern, model, part_size)
    missing = plan.missing(prefix, len(archive.parts))
    if missing:
        task = work.Task(prefix, models.ready(model, prefix), batch_size)
        with _progress(prefix, len(archive.parts)):
            _run(runs, task, missing, engine)
    files.remove_unfinished(prefix)
    models.remove_exported(model, prefix)
    return _summary(prefix, len(archive.parts))


def _check(prefix, **sizes):
    for name, size in sizes.items():
        if size < 1:
            option = "--" + name.replace("_", "-")
            raise ValueError(
                f"Expected {option} a whole number >= 1. Received: {option} {size}. "
                "Lower it only where memory is short."
            )
    if prefix.endswith("/") or os.path.isdir(prefix):
        raise ValueError(
            "Expected what the names of the output begin with. "
            f"Received: --out {prefix}, a folder. "
            f"Write, for instance, --out {prefix.rstrip('/')}/captions"
        )


def _engine(name, options):
    """An engine with its options read, or what to install for it."""
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


def _run(engine, task, missing, name):
    with _interruptible() as stopped:
        try:
            engine.run(task, missing)
        except Exception as error:  # engines raise what they like
            if stopped:
                raise KeyboardInterrupt from error
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise OSError(
                f"Expected the engine {name!r} to finish {len(missing)} parts. "
                f"Received: {reason}. What is finished is kept; mend the cause, see it "
                "with SAT_TF_TRACEBACK=1, and repeat the command."
            ) from error
    parts = len(plan.read_once(task.prefix).parts)
    if left := plan.missing(task.prefix, parts):
        raise OSError(
            f"Expected {parts} finished parts at {task.prefix}. Received: "
            f"{parts - len(left)}. Check that workers write where this command reads, "
            "and repeat it."
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
def _progress(prefix, parts):
    """A bar that counts finished parts by their files, whoever writes them."""
    from tqdm import tqdm

    done = parts - len(plan.missing(prefix, parts))
    stop = threading.Event()
    with tqdm(total=parts, initial=done, unit="part", disable=None) as bar:

        def look():
            bar.update(parts - len(plan.missing(prefix, parts)) - bar.n)

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


def _summary(prefix, parts):
    """Counted in the files, so that it is right whoever wrote them, and when."""
    captions = sum(
        files.read(plan.captions_path(prefix, number, parts)).count(b"\n")
        for number in range(parts)
    )
    bad = files.beginning_with(prefix, f"-bad-*-of-{parts:05}.jsonl")
    return Summary(parts, captions, sum(files.read(p).count(b"\n") for p in bad))
