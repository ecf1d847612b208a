"""The images of a part: files of images, or records of a file of TFRecords."""

import concurrent.futures
import functools
import itertools
from typing import NamedTuple

from sat_tf.archive import files, plan

_THREADS = 8  # they wait for disks and networks
# Of a `tf.train.Example`, as TensorFlow's object detection, TFDS and we write it.
IMAGE_FEATURES = ("image/encoded", "image")
NAME_FEATURES = ("image/filename", "file_name", "filename")


class Item(NamedTuple):
    """One image, or why there is none."""

    name: str
    """Of the file, as it was matched; of a record, what it says, or `file:index`."""
    contents: bytes = b""
    """Encoded."""
    error: str = ""
    """What is wrong and what to do; empty if nothing is."""


def batches(names, folder, size):
    """Lists of `size` items, the next of which are read while one is at work.

    Args:
        names: of files. folder: what relative names are relative to.
        size: the last list may be shorter.
    """
    if any(plan.has_records(name) for name in names):
        items = itertools.chain.from_iterable(_records(n, folder) for n in names)
        while batch := list(itertools.islice(items, size)):
            yield batch
        return
    read = functools.partial(_read, folder=folder)
    firsts = range(0, len(names), size)
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        loaded = None
        for first in firsts:
            loading = pool.map(read, names[first : first + size])
            if loaded is not None:
                yield list(loaded)
            loaded = loading
        if loaded is not None:
            yield list(loaded)


def _read(name, folder):
    try:
        return Item(name, files.read(files.absolute(name, folder)))
    except OSError as error:
        reason = error.strerror or error
        return Item(
            name,
            error="Expected an image file that can be read. "
            f"Received: image={name!r} ({reason}). Check the file and its rights.",
        )


def _records(name, folder):
    """The items of a file of TFRecords, one after the other."""
    import tensorflow as tf

    path, index = files.absolute(name, folder), -1
    with files.here(path) as path:
        kind = "GZIP" if name.endswith(".gz") else ""
        records = tf.data.TFRecordDataset(path, kind).as_numpy_iterator()
        try:
            for index, record in enumerate(records):
                yield _item(f"{name}:{index}", record)
        except tf.errors.OpError as error:
            yield Item(
                f"{name}:{index + 1}",
                error="Expected a file of TFRecords that can be read to its end. "
                f"Received: {name!r}, of which {index + 1} records can be read "
                f"({type(error).__name__}). Write it anew; what follows is lost.",
            )


def _item(name, record):
    """The item of one serialised `tf.train.Example`."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        features = {}
    named = next(filter(None, (_first(features, key) for key in NAME_FEATURES)), b"")
    name = named.decode("utf-8", "surrogateescape") or name
    contents = next(filter(None, (_first(features, k) for k in IMAGE_FEATURES)), b"")
    if contents:
        return Item(name, contents)
    return Item(
        name,
        error=f"Expected an encoded image in the feature {' or '.join(IMAGE_FEATURES)}."
        f" Received: a record with the features {sorted(features)}. Write it so.",
    )


def _first(features, key):
    """The first bytes of a feature; empty if there are none."""
    values = features[key].bytes_list.value if key in features else ()
    return values[0] if values else b""
