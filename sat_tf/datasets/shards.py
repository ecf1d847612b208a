"""The shards of a cache: each is made by itself, in any order, by any process.

A cache is a folder of shards, each a plain run of fixed-size records, and a manifest,
named after its content: see `sat_tf.runtime.caches`.
"""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import shutil

import numpy as np

from sat_tf.runtime import caches, files

_SHARD_BYTES = 64 * 2**20


@dataclasses.dataclass(frozen=True)
class Draft:
    """A cache some shards of which may be there. Small: engines send it about.

    Attributes:
        directory: its folder, or where that is to be.
        name: what people call it.
        manifest: what it says of itself, a dict.
    """

    directory: pathlib.Path
    name: str
    manifest: dict

    def __len__(self):
        return caches.n_shards(self.manifest)

    @property
    def missing(self):
        """Numbers of the shards that are not there."""
        return caches.missing_shards(self.directory, self.manifest)

    @property
    def record_bytes(self):
        """Of one record."""
        shape, dtype = self.manifest["record_shape"], self.manifest["dtype"]
        return record_bytes(shape, np.dtype(dtype))

    def span(self, i):
        """Numbers of the first record of shard `i`, and of that behind its last."""
        per_shard = self.manifest["records_per_shard"]
        return i * per_shard, min((i + 1) * per_shard, self.manifest["n_records"])

    @contextlib.contextmanager
    def writing(self):
        """While inside, nobody removes what is being written; see `caches.writing`.

        Raises:
            OSError: the folder cannot be made.
        """
        with contextlib.ExitStack() as inside:
            with self.told():
                inside.enter_context(caches.writing(self.directory))
            yield

    def make(self, i, batches):
        """Makes shard `i`, unless somebody else has been faster.

        It is written beside, flushed to disk and renamed: after a kill or a full disk,
        the shards that are there are whole. Twice at a time does no harm.

        Args:
            i: number of the shard.
            batches: iterable of arrays `[b, *record_shape]`, the records of `span(i)`.

        Raises:
            ValueError: they have another shape, are not finite or not as many.
            OSError: the folder cannot be written, or the disk is full.
        """
        path = caches.shard(self.directory, i)
        if path.is_file():
            return
        with self.writing():
            records = self._collected(batches, *self.span(i))
            with self.told():
                self.write_manifest()
                with files.replacing(path) as beside, open(beside, "wb") as file:
                    file.write(records)
                    file.flush()
                    os.fsync(file.fileno())
                # Of a command that was killed, before somebody mended the image.
                of_any = caches.complaint(self.directory, i, "*")
                for left in self.directory.glob(of_any.name):
                    left.unlink(missing_ok=True)

    def _collected(self, batches, start, stop):
        shape, dtype = self.manifest["record_shape"], np.dtype(self.manifest["dtype"])
        records, filled = np.empty((stop - start, *shape), dtype), 0
        for batch in batches:
            batch = _checked(batch, tuple(shape), dtype)
            rest = records[filled:]
            rest[: len(batch)] = batch[: len(rest)]
            filled += len(batch)
        if filled != len(records):
            raise ValueError(
                f"Expected {len(records)} records. Received: {filled}. Read the split "
                "again: its images changed meanwhile."
            )
        return records

    def write_manifest(self):
        """Before the first shard: what fails until then leaves nothing behind."""
        if caches.read_manifest(self.directory) is None:
            with files.replacing(self.directory / caches.MANIFEST) as path:
                path.write_text(json.dumps(self.manifest, indent=1), "utf-8")

    @contextlib.contextmanager
    def told(self):
        """Says of an `OSError` what was to be written, and how to go on."""
        try:
            yield
        except OSError as error:
            size = self.manifest["n_records"] * self.record_bytes
            raise OSError(
                error.errno,
                "Expected a directory with room for the cache of "
                f"{size / 1e9:.2f} GB. Received: {error.strerror}. Make room, or "
                "choose another cache directory, and run the same command again: "
                "complete shards are kept",
                str(self.directory),
            ) from error


def plan(cache_dir, *, n_records, record_shape, dtype, fingerprint, name="cache"):
    """The `Draft` of a cache; nothing is written.

    Args:
        cache_dir: the folder for caches. There, a folder of the same content is used
            whatever it is called.
        n_records: how many there are.
        record_shape: of one record.
        dtype: of the records.
        fingerprint: JSON values; everything the content depends on, and nothing else.
        name: what people call it: the folder's name begins with it.
    """
    per_shard = max(1, _SHARD_BYTES // record_bytes(record_shape, np.dtype(dtype)))
    manifest = {
        "fingerprint": fingerprint,
        "record_shape": list(record_shape),
        "dtype": np.dtype(dtype).name,
        "n_records": n_records,
        "records_per_shard": per_shard,
    }
    directory = caches.folder(cache_dir, manifest, name)
    return Draft(directory, name, manifest)


def record_bytes(record_shape, dtype):
    """The size of one record."""
    return int(np.prod(record_shape)) * dtype.itemsize


def check_room(drafts):
    """Raises `OSError` if the disk has no room for what is missing of all of them."""
    needed = 0
    for draft in drafts:
        spans = map(draft.span, draft.missing)
        needed += sum(stop - start for start, stop in spans) * draft.record_bytes
        with draft.told():
            if shutil.disk_usage(draft.directory).free < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _checked(batch, shape, dtype):
    with np.errstate(over="ignore"):
        batch = np.asarray(batch).astype(dtype, copy=False)
    finite = dtype.kind != "f" or np.isfinite(batch).all()
    if batch.shape[1:] != shape or not finite:
        raise ValueError(
            f"Expected records of shape {shape}, finite in {dtype}. "
            f"Received: shape={batch.shape[1:]}, finite={bool(finite)}. "
            "Check the encoder and its weights."
        )
    return batch
