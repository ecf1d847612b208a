"""Arrays computed once per image, kept on disk, read in any order.

A cache is a folder of shards, each a plain run of fixed-size records, and a manifest,
named after its content: see `sat_tf.runtime.caches`.
Records are read by `pread`, never mapped: the pages a random order touches stay the
operating system's and do not count as this process's memory, however large the data.
"""

import concurrent.futures
import errno
import json
import os
import pathlib
import shutil
import weakref

import numpy as np
import tensorflow as tf
import tqdm

from sat_tf import images
from sat_tf.runtime import caches, files

_SHARD_BYTES = 64 * 2**20
_READERS = 4


class ArrayCache:
    """Read access to a complete cache.

    Args:
        directory: where `write` put it.

    Attributes:
        record_shape, dtype: of one record.
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        manifest = caches.read_manifest(self.directory)
        missing = manifest and caches.missing_shards(self.directory, manifest)
        if manifest is None or missing:
            raise ValueError(
                "Expected a complete cache. "
                f"Received: directory={str(directory)!r}, "
                f"{f'{len(missing)} shards missing' if missing else 'no manifest'}. "
                "Write it first; what is there will be kept."
            )
        self.record_shape = tuple(manifest["record_shape"])
        self.dtype = np.dtype(manifest["dtype"])
        self._n_records = manifest["n_records"]
        self._per_shard = manifest["records_per_shard"]
        self._record_bytes = _record_bytes(self.record_shape, self.dtype)
        self._files = [
            os.open(caches.shard(self.directory, i), os.O_RDONLY)
            for i in range(caches.n_shards(manifest))
        ]
        caches.note_use(self.directory)
        weakref.finalize(self, _close, self._files)
        self._pool = concurrent.futures.ThreadPoolExecutor(_READERS)

    def __len__(self):
        return self._n_records

    def read(self, indices):
        """The records at `indices` `[n]`, in that order; `[n, *record_shape]`.

        Raises:
            IndexError: an index lies outside the cache.
            OSError: a shard is shorter than it was.
        """
        indices = np.asarray(indices, np.int64)
        if indices.size and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(
                f"Expected indices from 0 to {len(self) - 1}. "
                f"Received: {indices.min()}..{indices.max()}. Take the captions and "
                "the cache from the same split."
            )
        records = np.empty((len(indices), *self.record_shape), self.dtype)
        rows = memoryview(records.reshape(-1).view(np.uint8))
        # In the order they lie on disk; each thread takes one run of it.
        order = np.array_split(np.argsort(indices, kind="stable"), _READERS)

        def read_run(places):
            for place in places:
                start = place * self._record_bytes
                row = rows[start : start + self._record_bytes]
                self._read_into(row, int(indices[place]))

        list(self._pool.map(read_run, order))
        return records

    def _read_into(self, row, index):
        shard, position = divmod(index, self._per_shard)
        offset = position * self._record_bytes
        while row:
            n_read = os.preadv(self._files[shard], [row], offset)
            if not n_read:
                raise OSError(
                    errno.EIO,
                    f"Expected {self._per_shard} records. Received: a shorter shard. "
                    "Delete it and write the cache again",
                    str(caches.shard(self.directory, shard)),
                )
            row, offset = row[n_read:], offset + n_read


def write(
    cache_dir, produce, *, n_records, record_shape, dtype, fingerprint, name="cache"
):
    """Write a cache, or the part of it that is not there yet, and open it.

    A shard is written beside, flushed to disk and renamed: after a kill or a full
    disk, the shards that are there are whole, and the same call goes on behind them.
    Two processes that write the same cache at once both do the work.

    Args:
        cache_dir: the folder for caches; made if need be. There, a folder of the same
            content is used whatever it is called.
        produce: `produce(start)` iterates over arrays `[b, *record_shape]`, the
            records from number `start` on.
        n_records: how many there are.
        record_shape: of one record.
        dtype: of the records.
        fingerprint: JSON values; everything the content depends on, and nothing else.
        name: what people call it: the folder's name begins with it.

    Returns:
        An `ArrayCache`.

    Raises:
        ValueError: `produce` makes records of another shape or not finite in `dtype`.
        OSError: the folder cannot be written, or the disk is full.
    """
    dtype = np.dtype(dtype)
    per_shard = max(1, _SHARD_BYTES // _record_bytes(record_shape, dtype))
    manifest = {
        "fingerprint": fingerprint,
        "record_shape": list(record_shape),
        "dtype": dtype.name,
        "n_records": n_records,
        "records_per_shard": per_shard,
    }
    directory = caches.folder(cache_dir, manifest, name)
    try:
        with caches.writing(directory):
            missing = caches.missing_shards(directory, manifest)
            if missing:
                _write_shards(directory, produce, manifest, missing, name)
            _write_manifest(directory, manifest)
            return ArrayCache(directory)
    except OSError as error:
        raise OSError(
            error.errno,
            "Expected a directory with room for the cache of "
            f"{n_records * _record_bytes(record_shape, dtype) / 1e9:.2f} GB. "
            f"Received: {error.strerror}. Make room, or choose another cache "
            "directory, and run the same command again: complete shards are kept",
            str(directory),
        ) from error


def cache_pixels(split, size, mode, cache_dir):
    """Cache the resized pixels of a split; uint8 `[H, W, 3]` per image.

    Args:
        split: a `Split`.
        size: height and width.
        mode: as in `images.resize`.
        cache_dir: the folder for caches.

    Raises:
        ValueError: an image that cannot be read or, with mode `none`, is of another
            size.
    """

    def produce(start):
        for batch in _read(split, start, size, mode, 32):
            yield tf.cast(tf.round(batch), tf.uint8)

    return write(
        cache_dir,
        produce,
        n_records=len(split),
        record_shape=(*size, 3),
        dtype="uint8",
        fingerprint=_fingerprint(split, size, mode),
        name=_name(split, "pixels", size, mode),
    )


def cache_features(
    split, encode, *, record_shape, fingerprint, size, mode, cache_dir, batch_size=32
):
    """Cache what an encoder makes of a split; float16 `[L, D]` per image.

    Images are decoded and resized in parallel with the encoder.

    Args:
        split: a `Split`.
        encode: float32 images `[b, H, W, 3]` in 0..255 to features `[b, L, D]`.
        record_shape: `(L, D)`.
        fingerprint: string that names the encoder, its weights and its cut.
        size: height and width of the encoder's images.
        mode: as in `images.resize`.
        cache_dir: the folder for caches.
        batch_size: images per call of `encode`.

    Raises:
        ValueError: as `cache_pixels`.
    """

    def produce(start):
        for batch in _read(split, start, size, mode, batch_size):
            yield np.asarray(encode(batch))

    return write(
        cache_dir,
        produce,
        n_records=len(split),
        record_shape=record_shape,
        dtype="float16",
        fingerprint={**_fingerprint(split, size, mode), "encoder": fingerprint},
        name=_name(split, "features", size, mode),
    )


def _read(split, start, size, mode, batch_size):
    """Float32 images `[b, *size, 3]` of a split, from image number `start` on."""
    images.check_mode(mode)
    enough = images.enough_for(size, mode)

    def read(contents):
        return images.resize(images.decode(contents, enough), size, mode)

    batches = split.images.skip(start).map(read, tf.data.AUTOTUNE)
    try:
        for batch in batches.batch(batch_size).prefetch(2):
            yield batch
            start += len(batch)
    except tf.errors.InvalidArgumentError:
        # TensorFlow does not say which image it was.
        files_left = split.images.skip(start).as_numpy_iterator()
        for name, contents in zip(split.file_names[start:], files_left, strict=True):
            images.load(contents, size, mode, name=name)
        raise


def _close(descriptors):
    for descriptor in descriptors:
        os.close(descriptor)


def _fingerprint(split, size, mode):
    return {"images": split.image_fingerprint, "size": list(size), "mode": mode}


def _name(split, kind, size, mode):
    data = pathlib.Path(split.name).resolve().name
    return f"{data}-{split.split}-{kind}-{size[0]}x{size[1]}-{mode}"


def _record_bytes(record_shape, dtype):
    return int(np.prod(record_shape)) * dtype.itemsize


def _write_shards(directory, produce, manifest, missing, name):
    n_records, per_shard = manifest["n_records"], manifest["records_per_shard"]
    dtype, shape = np.dtype(manifest["dtype"]), tuple(manifest["record_shape"])
    # Shards complete in order, so all behind the first missing one are missing.
    start = filled = missing[0] * per_shard
    needed = (n_records - start) * _record_bytes(shape, dtype)
    if shutil.disk_usage(directory).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    shard = np.empty((per_shard, *shape), dtype)
    progress = tqdm.tqdm(total=n_records, initial=start, desc=name, unit="image")
    with progress:
        for batch in produce(start):
            batch = _checked(batch, shape, dtype)
            progress.update(len(batch))
            while len(batch):
                at = filled % per_shard
                part, batch = np.split(batch, [per_shard - at])
                shard[at : at + len(part)] = part
                filled += len(part)
                if filled % per_shard == 0 or filled == n_records:
                    _write_manifest(directory, manifest)
                    path = caches.shard(directory, (filled - 1) // per_shard)
                    _write_shard(path, shard[: at + len(part)])
    if filled != n_records:
        raise ValueError(
            f"Expected {n_records} records. Received: {filled}. Read the split again: "
            "its images changed meanwhile."
        )


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


def _write_manifest(directory, manifest):
    """Before the first shard: what fails until then leaves nothing behind."""
    if not (directory / caches.MANIFEST).is_file():
        with files.replacing(directory / caches.MANIFEST) as path:
            path.write_text(json.dumps(manifest, indent=1), "utf-8")


def _write_shard(path, records):
    with files.replacing(path) as beside, open(beside, "wb") as file:
        file.write(records)
        file.flush()
        os.fsync(file.fileno())
