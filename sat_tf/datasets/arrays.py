"""Arrays of any length: they grow in pieces, are kept on disk, and mapped from there.

What is mapped takes no time to open, and no memory but for the pages that are looked
at, which all processes of a machine share.
"""

import contextlib
import io
import itertools
import json
import os

import numpy as np

from sat_tf.runtime import caches, files


class Growing:
    """Arrays that grow at their ends.

    Args:
        opened: gives the binary file that an array of some name is written to; by
            default they stay in memory.
    """

    def __init__(self, opened=lambda name: io.BytesIO()):
        self._opened, self._files, self._ends = opened, {}, {}
        self.kinds = {}
        """Name -> dtype and shape, for JSON."""

    def append(self, name, values):
        """Puts `values` `[n, ..]` behind those that are there."""
        values = np.asarray(values)
        if name not in self._files:
            self._files[name] = self._opened(name)
            self.kinds[name] = [values.dtype.str, [0, *values.shape[1:]]]
        self._files[name].write(values.tobytes())
        self.kinds[name][1][0] += len(values)

    def append_rows(self, name, lengths):
        """Puts where rows of these `lengths` end behind the ends that are there.

        The first is 0: `n + 1` numbers say where each of `n` rows starts, and its end.
        """
        if name not in self._ends:
            self._ends[name] = 0
            self.append(name, np.zeros(1, np.int64))
        ends = self._ends[name] + np.cumsum(lengths, dtype=np.int64)
        self.append(name, ends)
        if len(ends):
            self._ends[name] = int(ends[-1])

    def to_disk(self):
        """Has the disk take all that files hold."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())

    def read(self, name):
        """The array of a name, as it is now."""
        file = self._files[name]
        if isinstance(file, io.BytesIO):
            dtype, shape = self.kinds[name]
            return np.frombuffer(file.getvalue(), dtype).reshape(shape)
        file.flush()
        return _mapped(file.name, *self.kinds[name])


def keep(cache_dir, name, fingerprint, write):
    """Arrays that are written once, and mapped from then on.

    Every array is written beside and renamed, and the manifest comes last: after a
    kill there is none, and the same call writes all of them anew. Two processes that
    write the same at once both do the work.

    Args:
        cache_dir: the folder for caches; made if need be.
        name: what people call it: the folder's name begins with it.
        fingerprint: JSON values; everything the content depends on, and nothing else.
        write: appends all arrays to a `Growing`; returns JSON values to keep with them,
            among them `n_records`.

    Returns:
        name -> array, which may only be read, and what `write` returned.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    folder = caches.folder(cache_dir, fingerprint, name)
    manifest = caches.read_manifest(folder)
    if manifest is None or not _whole(folder, manifest):
        try:
            with caches.writing(folder):
                manifest = _write(folder, fingerprint, write)
        except OSError as error:
            raise OSError(
                error.errno,
                "Expected a directory with room for what is kept of the captions. "
                f"Received: {error.strerror}. Make room, or choose another cache "
                "directory, by SAT_TF_CACHE or --cache-dir",
                str(folder),
            ) from error
    caches.note_use(folder)
    arrays = {n: _mapped(_file(folder, n), *k) for n, k in manifest["arrays"].items()}
    return arrays, manifest["said"]


def _write(folder, fingerprint, write):
    with contextlib.ExitStack() as stack:

        def opened(name):
            beside = stack.enter_context(files.replacing(_file(folder, name)))
            return stack.enter_context(open(beside, "wb"))

        arrays = Growing(opened)
        said = write(arrays)
        arrays.to_disk()
    manifest = {
        "fingerprint": fingerprint,
        "n_records": said["n_records"],
        "arrays": arrays.kinds,
        "said": said,
    }
    with files.replacing(folder / caches.MANIFEST) as beside:
        beside.write_text(json.dumps(manifest) + "\n", "utf-8")
    return manifest


def _file(folder, name):
    return folder / f"{name}.bin"


def _whole(folder, manifest):
    """Whether every array is as long as the manifest says."""
    with contextlib.suppress(FileNotFoundError):
        return all(
            os.path.getsize(_file(folder, name)) == _bytes(*kind)
            for name, kind in manifest["arrays"].items()
        )
    return False


def _bytes(dtype, shape):
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _mapped(path, dtype, shape):
    if not _bytes(dtype, shape):  # there is nothing to map
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path, dtype, "r", shape=tuple(shape)))


def blocks(number, size):
    """Where blocks of `size`, the last one smaller, start and end in `number`."""
    edges = [*range(0, number, size), number]
    return itertools.pairwise(edges)
