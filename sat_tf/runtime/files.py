"""Files that are whole or not there: written beside, then renamed."""

import contextlib
import datetime
import fcntl
import os
import pathlib
import platform
import sys
import uuid
import zipfile
import zlib

# What files of arrays that are not whole raise.
_TORN = (EOFError, zipfile.BadZipFile, zlib.error)
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff".split()
)


def on_disk(path, what):
    """A `pathlib.Path`, of what this machine can lock, map and rename.

    Args:
        path: that was given. what: it is to be, in words for an error.

    Raises:
        ValueError: it is an address, such as `gs://bucket/folder`.
    """
    if "://" in os.fspath(path):
        raise ValueError(
            f"Expected {what} on a disk of this machine, or on one that is mounted. "
            f"Received: {os.fspath(path)!r}. Only prepared TFDS data are read from "
            "such an address (give the folder of their dataset_info.json as the data); "
            "mount the rest, or copy it."
        )
    return pathlib.Path(path)


def folder_on_disk(path, what):
    """The same of a folder, made if need be; asked before the work begins.

    Raises:
        ValueError: it is an address or a file, or it cannot be made.
    """
    path = on_disk(path, what)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"Expected {what}, or a path where one can be made. Received: "
            f"{os.fspath(path)!r}: {error.strerror}. Choose another path."
        ) from error
    return path


def file_on_disk(path, what):
    """The same of a file that is to be written; asked before the work begins.

    Raises:
        ValueError: it is an address or a folder, or there is no folder to write it to.
    """
    path = on_disk(path, what)
    if path.is_dir():
        raise ValueError(
            f"Expected the name of {what}. Received: {os.fspath(path)!r}, which is a "
            "folder. Name a file in it."
        )
    above = next(each for each in path.absolute().parents if each.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        reason = "cannot be written to" if above.is_dir() else "is not a folder"
        raise ValueError(
            f"Expected {what} in a folder that can be written to. Received: "
            f"{os.fspath(path)!r}, but {os.fspath(above)!r} {reason}. Choose another "
            "path."
        )
    return path


@contextlib.contextmanager
def whole(path, wanted, fix):
    """Yields a path to read from; names the file if it turns out to be damaged.

    Args:
        path: of the file. wanted: what was expected, in words. fix: what to do.

    Raises:
        ValueError: what was read made no sense.
    """
    try:
        yield path
    except (ValueError, KeyError, TypeError, AttributeError, *_TORN) as error:
        if str(error).startswith("Expected"):  # it says already what is wrong
            raise
        raise ValueError(
            f"Expected {wanted}. Received: {path}, damaged or of another version "
            f"({type(error).__name__}: {error}). {fix}"
        ) from error


@contextlib.contextmanager
def replacing(path):
    """Yields a path beside `path` to write to, renamed to `path` at the end.

    A reader sees the old file or the new one, never half of it; after an
    error the old file is untouched and the half-written one is removed. Nobody else
    writes to that path, on another machine either.
    The folder is made if need be.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder, prefix=""):
    """Keeps other processes out of a folder that results are written to.

    By a lock of the kernel's on the file `.lock` in it, which ends with this process,
    however that may end. The file stays and says who had the lock last. The folder is
    made if need be.

    Args:
        folder: a path.
        prefix: of the names of the results, where the folder may hold others too. The
            file is then `.PREFIX.lock`.

    Raises:
        ValueError: somebody else is at work there.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = f".{prefix}.lock" if prefix else ".lock"
    lock = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(lock, folder / prefix)
        since = datetime.datetime.now().isoformat(" ", "seconds")
        holder = f"process {os.getpid()} on {platform.node()} since {since}"
        os.ftruncate(lock, 0)
        os.write(lock, holder.encode())
        yield
    finally:
        os.close(lock)


def _lock(lock, out):
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(lock, 1000).decode() or "another process"
        raise ValueError(
            "Expected an output that no other process is writing. "
            f"Received: out={str(out)!r}, in use by {holder}. "
            "Wait for it to end, stop it, or choose another --out."
        ) from None
    except OSError as error:  # some network file systems have no locks
        print(
            f"Warning: {out} cannot be locked ({error.strerror}). "
            "Start nothing else with this --out until the command has ended.",
            file=sys.stderr,
        )
