"""Arrays computed once per image, kept on disk, read in any order.

How a cache lies on disk, and is written, says `shards.py`. Records are read by `pread`,
never mapped: the pages a random order touches stay the operating system's and do not
count as this process's memory, however large the data.
"""

import concurrent.futures
import dataclasses
import errno
import functools
import gc
import os
import pathlib
import weakref
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tqdm

from sat_tf import images
from sat_tf.datasets import shards
from sat_tf.runtime import caches

_READERS = 4


class ArrayCache:
    """Read access to a complete cache.

    Args:
        directory: where it was written.

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
        self._record_bytes = shards.record_bytes(self.record_shape, self.dtype)
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


def write(cache_dir, produce, **content):
    """Write a cache, or the part of it that is not there yet, and open it.

    After a kill or a full disk the same call goes on with the shards that are missing.
    Two processes that write the same cache at once both do the work.

    Args:
        cache_dir: the folder for caches; made if need be.
        produce: `produce(start, stop)` iterates over arrays `[b, *record_shape]`, the
            records from number `start` to before number `stop`.
        content: see `shards.plan`.

    Returns:
        An `ArrayCache`.

    Raises:
        ValueError: `produce` makes records of another shape or not finite in `dtype`.
        OSError: the folder cannot be written, or the disk is full.
    """
    return fill(shards.plan(cache_dir, **content), produce)


def fill(draft, produce):
    """`write` for a `shards.Draft`."""
    with draft.writing():
        if missing := draft.missing:
            shards.check_room([draft])
            images = sum(stop - start for start, stop in map(draft.span, missing))
            total = draft.manifest["n_records"]
            options = {"total": total, "initial": total - images, "unit": "image"}
            with tqdm.tqdm(desc=draft.name, **options) as progress:
                for i in missing:
                    draft.make(i, _counted(produce(*draft.span(i)), progress))
        with draft.told():
            draft.write_manifest()
            return ArrayCache(draft.directory)


def _counted(batches, progress):
    for batch in batches:
        yield batch
        progress.update(len(batch))


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is kept of every image.

    Attributes:
        name: for people.
        size: height and width of the images.
        mode: as in `images.resize`.
        record_shape, dtype: of a record.
        of: float32 images `[b, *size, 3]` in 0..255 to records `[b, *record_shape]`.
        made_by: string that names what `of` computes with; None: nothing.
        batch_size: images per call of `of`.
    """

    name: str
    size: tuple
    mode: str
    record_shape: tuple
    dtype: str
    of: Callable = dataclasses.field(repr=False)
    made_by: str | None = None
    batch_size: int = 32

    def draft(self, split, cache_dir):
        """The `shards.Draft` of what is kept of a `Split`."""
        data = pathlib.Path(split.name).resolve().name
        height, width = self.size
        fingerprint = {
            "images": split.image_fingerprint,
            "size": list(self.size),
            "mode": self.mode,
        }
        if self.made_by is not None:
            fingerprint["encoder"] = self.made_by
        return shards.plan(
            cache_dir,
            n_records=len(split),
            record_shape=self.record_shape,
            dtype=self.dtype,
            fingerprint=fingerprint,
            name=f"{data}-{split.split}-{self.name}-{height}x{width}-{self.mode}",
        )

    def records(self, read_files, start, stop):
        """Iterates over batches of records, from image `start` to before `stop`.

        Images are decoded and resized in parallel with what is made of them.

        Args:
            read_files: see `Split`.

        Raises:
            ValueError: an image that cannot be read or, with mode `none`, is of another
                size.
        """
        images.check_mode(self.mode)
        enough = images.enough_for(self.size, self.mode)

        def read(file):
            pixels = images.decode(file["image"], enough)
            return images.resize(pixels, self.size, self.mode)

        decoded = read_files(start, stop).map(read, tf.data.AUTOTUNE)
        try:
            for batch in decoded.batch(self.batch_size).prefetch(2):
                yield np.asarray(self.of(batch))
                start += len(batch)
        except tf.errors.InvalidArgumentError:
            # TensorFlow does not say which image it was.
            for file in read_files(start, stop).as_numpy_iterator():
                name = file["file_name"].decode()
                images.load(file["image"], self.size, self.mode, name=name)
            raise
        finally:
            del decoded  # its graphs hold one another, 0.7 MB that Python leaves be
            gc.collect()


def pixels(size, mode):
    """The `Kind` of images that are kept as they are, resized: uint8 `[H, W, 3]`."""

    def rounded(images):
        return tf.cast(tf.round(images), tf.uint8)

    return Kind("pixels", tuple(size), mode, (*size, 3), "uint8", rounded)


def features(encode, *, record_shape, made_by, size, mode, **options):
    """The `Kind` of what an encoder makes of images: float16 `[L, D]`.

    Args:
        encode: float32 images `[b, H, W, 3]` in 0..255 to features `[b, L, D]`.
        record_shape: `(L, D)`.
        made_by: string that names the encoder, its weights and its cut.
        size, mode, options: see `Kind`.
    """
    size = tuple(size)
    return Kind(
        "features", size, mode, record_shape, "float16", encode, made_by, **options
    )


def keep(split, kind, cache_dir):
    """The `ArrayCache` of what is kept of a split, written if need be.

    Args:
        split: a `Split`. kind: a `Kind`. cache_dir: the folder for caches.

    Raises:
        ValueError: see `Kind.records`. OSError: see `write`.
    """
    records = functools.partial(kind.records, split.read_files)
    return fill(kind.draft(split, cache_dir), records)


def _close(descriptors):
    for descriptor in descriptors:
        os.close(descriptor)
