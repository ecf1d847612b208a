"""Files on this machine, and in stores with addresses such as `gs://` and `s3://`.

Plain Python sees to the first, so that an archive on disks needs nothing else. The
others are left to Apache Beam's `FileSystems`, which reads them all alike; TensorFlow's
`tf.io.gfile` would need `tensorflow-io` for `s3://`, and there is none for TensorFlow
2.21.
"""

import contextlib
import glob
import os
import pathlib
import shutil
import tempfile
import uuid

from sat_tf.engines import BEAM

UNFINISHED = ".tmp"


def is_remote(path):
    """Whether a path is an address in a store."""
    return "://" in path


def absolute(path, folder=None):
    """The same file, wherever the reader stands.

    Args:
        path: as it was given.
        folder: what it is relative to, by default where this process stands.
    """
    if is_remote(path):
        return path
    return os.path.normpath(os.path.join(folder or os.getcwd(), path))


def match(pattern):
    """All files that match a pattern, sorted; `**` stands for any folders.

    Links to folders are followed, but for those that lead back to where they are.
    """
    if is_remote(pattern):
        (found,) = _systems().match([pattern])
        return sorted(metadata.path for metadata in found.metadata_list)
    if os.path.isfile(pattern):
        return [pattern]  # though its name may look like a pattern
    return sorted({path for path in _matches(pattern) if not os.path.isdir(path)})


def _matches(pattern):
    """What `glob.glob` finds with `recursive`, which runs in circles for ever."""
    parts = pathlib.PurePath(pattern).parts
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    at = parts.index("**")
    for start in glob.glob(os.path.join(os.curdir, *parts[:at])):
        for folder in _folders(start):
            rest = parts[at + 1 :] or "*"
            yield from _matches(os.path.join(glob.escape(folder), *rest))


def _folders(start, above=()):
    """A folder and those inside, hidden ones left out; `above` are around it."""
    here = os.path.realpath(start)
    if here in above:
        return
    yield start
    try:
        with os.scandir(start) as entries:
            inside = [each.path for each in entries if _is_folder(each)]
    except OSError:  # no folder, or one that may not be read
        return
    for folder in inside:
        if not os.path.basename(folder).startswith("."):
            yield from _folders(folder, (*above, here))


def _is_folder(entry):
    """Whether what `os.scandir` found is a folder, or a link to one."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def beginning_with(prefix, rest):
    """All files whose path is the `prefix` and something that matches `rest`."""
    return match((prefix if is_remote(prefix) else glob.escape(prefix)) + rest)


def exists(path):
    """Whether there is such a file."""
    return _systems().exists(path) if is_remote(path) else os.path.isfile(path)


def read(path):
    """The bytes of a file; raises `OSError`."""
    if not is_remote(path):
        return pathlib.Path(path).read_bytes()
    systems = _systems()
    with systems.open(path, compression_type=_as_it_is()) as file:
        return file.read()


def write(path, contents):
    """Writes bytes so that a reader sees all of them or none.

    Also where two workers write the same file at the same time: one is the last.
    """
    beside = f"{path}.{uuid.uuid4().hex}{UNFINISHED}"
    if not is_remote(path):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            pathlib.Path(beside).write_bytes(contents)
            os.replace(beside, path)
        finally:
            pathlib.Path(beside).unlink(missing_ok=True)
        return
    systems = _systems()
    with systems.create(beside, compression_type=_as_it_is()) as file:
        file.write(contents)
    if systems.exists(path):
        systems.delete([path])
    systems.rename([beside], [path])


def remove(path):
    """Removes a file, if it is there."""
    if not is_remote(path):
        pathlib.Path(path).unlink(missing_ok=True)
    elif exists(path):
        _systems().delete([path])


def copy_here(path, destination):
    """Copies a file, wherever it is, to a path on this machine."""
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    if not is_remote(path):
        shutil.copyfile(path, destination)
        return
    systems = _systems()
    with (
        systems.open(path, compression_type=_as_it_is()) as source,
        open(destination, "wb") as file,
    ):
        shutil.copyfileobj(source, file)


@contextlib.contextmanager
def here(path):
    """Yields the path of the file on this machine, or of a copy for the time being."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "copy")
        copy_here(path, copy)
        yield copy


def _systems():
    try:
        from apache_beam.io.filesystems import FileSystems
    except ModuleNotFoundError as error:
        raise ImportError(
            "Expected Apache Beam to be installed, which reads and writes files in "
            f"stores such as gs:// and s3://. Received: {error}. Install it: {BEAM}"
        ) from error
    return FileSystems


def _as_it_is():
    """Bytes are those of the file: none is unpacked for what its name ends in."""
    from apache_beam.io.filesystem import CompressionTypes

    return CompressionTypes.UNCOMPRESSED
