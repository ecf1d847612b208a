"""Files that are whole or not there: written beside, then renamed."""

import contextlib
import os
import pathlib


@contextlib.contextmanager
def replacing(path):
    """Yields a path beside `path` to write to, renamed to `path` at the end.

    A reader sees the old file or the new one, never half of it; after an
    error the old file is untouched and the half-written one is removed.
    The folder is made if need be.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
