"""One command: plans an archive, or finds its plan, and has what is missing done."""

import contextlib
import functools
import os
import pathlib
from typing import NamedTuple

from sat_tf.archive import files, models, plan, work
from sat_tf.engines import running
from sat_tf.runtime.files import alone


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
        engine, engine_options: see `running.open_engine`.
        batch_size: images captioned at once. part_size: images in a part.

    Returns:
        a `Summary`.

    Raises:
        ValueError: an option is wrong, another command began this archive, or another
            process is at work on it.
        ImportError: the engine is not installed.
        OSError: the engine gave up, or the output cannot be written.
    """
    _check(prefix, batch_size=batch_size, part_size=part_size)
    prefix = files.absolute(prefix)
    runs = running.open_engine(engine, engine_options)
    model = models.find(model)
    with _alone(prefix):
        begun = plan.read(prefix)
        archive = begun or plan.make(pattern, model, part_size)
        plan.refuse_another(archive, prefix, pattern, model, part_size)
        parts = len(archive.parts)
        missing = functools.partial(plan.missing, prefix, parts)
        if missing():
            exported = models.ready(model, prefix)
            task = work.Task(prefix, exported, batch_size, archive.identity)
            if not begun:  # last: what was refused has begun nothing
                plan.write(archive, prefix)
            caption = functools.partial(work.caption_part, task)
            captions = running.Job(caption, missing, parts, "part", prefix)
            running.finish(captions, runs, engine)
        plan.remove_unfinished(prefix)
        models.remove_exported(model, prefix)
        return _summary(prefix, parts)


@contextlib.contextmanager
def _alone(prefix):
    """Keeps other commands from a prefix; in a store, which knows no locks, nobody."""
    if files.is_remote(prefix):
        yield
        return
    path = pathlib.Path(prefix)
    try:
        with alone(path.parent, path.name):
            yield
    except OSError as error:
        if error.errno is None:  # it says already what is to be done
            raise
        raise OSError(
            error.errno,
            "Expected room for the output, and the right to read and write. "
            f"Received: {error.strerror}. Mend that and repeat the command: what is "
            "finished is kept",
            error.filename or prefix,
        ) from error


def _check(prefix, **sizes):
    for name, size in sizes.items():
        if size < 1:
            option = "--" + name.replace("_", "-")
            raise ValueError(
                f"Expected {option} to be a whole number >= 1. Received: {option} "
                f"{size}. Lower it only where memory is short."
            )
    if prefix.endswith("/") or os.path.isdir(prefix):
        raise ValueError(
            "Expected a prefix for the names of the output files. "
            f"Received: --out {prefix}, a folder. "
            f"Write, for instance, --out {prefix.rstrip('/')}/captions"
        )
    if not prefix or prefix.endswith("-bad"):
        raise ValueError(
            "Expected a prefix for the names of the output files, other than that of "
            f"another archive's dead letters. Received: --out {prefix!r}. Write, for "
            f"instance, --out {prefix.removesuffix('-bad') or 'captions'}"
        )


def _summary(prefix, parts):
    """Counted in the files, so that it is right whoever wrote them, and when."""
    captions = sum(
        files.read(plan.captions_path(prefix, number, parts)).count(b"\n")
        for number in range(parts)
    )
    bad = sum(
        files.read(plan.bad_path(prefix, number, parts)).count(b"\n")
        for number in plan.dead(prefix, parts)
    )
    return Summary(parts, captions, bad)
