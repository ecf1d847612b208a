"""What TFDS has prepared, record by record, on a disk or in a bucket.

Its own reading parses one record at a time, which for captions takes ten times as long
as many at once, and reads captions where images alone are wanted.
"""

import errno
import functools
import os

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core import file_adapters

from sat_tf.datasets import schema
from sat_tf.datasets.split_names import split_name

_BATCH = 256
_REGIONS = "captions/regions/ragged_"
_SEVERAL = {
    "captions/text": tf.string,
    f"{_REGIONS}row_lengths_0": tf.int64,
    f"{_REGIONS}row_lengths_1": tf.int64,
    f"{_REGIONS}flat_values": tf.float32,
}
_TEXT = tf.io.FixedLenFeature([], tf.string)


def is_prepared(folder):
    """Whether TFDS has prepared data in a folder, be it in a bucket.

    Raises:
        OSError: TensorFlow cannot read the address.
    """
    try:
        return tf.io.gfile.exists(os.path.join(folder, "dataset_info.json"))
    except tf.errors.OpError as error:
        raise OSError(
            errno.EIO,
            "Expected an address that TensorFlow can read from here. "
            f"Received: {error.message.splitlines()[0]}. Check it and your rights, or "
            "copy the data to a disk",
            os.fspath(folder),
        ) from error


def open_prepared(folder):
    """The TFDS builder of a folder that one of `sat_tf` has prepared.

    Raises:
        ValueError: the data have other features.
    """
    builder = tfds.builder_from_directory(os.fspath(folder))
    found, expected = builder.info.features, schema.features()
    if found.get_tensor_info() != expected.get_tensor_info():
        raise ValueError(
            "Expected data that a builder of sat_tf has prepared. Received: "
            f"data={os.fspath(folder)!r}, of the features {', '.join(sorted(found))}. "
            "Prepare them by a builder over sat_tf.datasets.schema.features()."
        )
    return builder


def files_of(builder, name, split):
    """Which records of which files make up a split, in its fixed order.

    Args:
        builder: a prepared TFDS builder. name: what the data set is called.
        split: a TFDS split, e.g. `train`, `validation[:10]`, `train+restval`.

    Returns:
        list of TFDS's `FileInstruction`.

    Raises:
        ValueError: there is no such split.
    """
    known = builder.info.splits
    theirs = split.replace(
        "validation", _names(builder).get("validation", "validation")
    )
    try:
        files = known[theirs].file_instructions
    except (KeyError, ValueError) as error:
        raise no_split(name, split, known) from error
    if not files:
        raise ValueError(
            f"Expected a split with images. Received: split={split!r} of {name}, which "
            "has none. Choose a larger part of it."
        )
    return files


def no_split(name, split, known):
    """The ValueError that the data set `name` has no split `split`."""
    known = sorted({split_name(other) for other in known})
    return ValueError(
        f"Expected a split of {name}: {', '.join(known)}. "
        f"Received: split={split!r}. Choose one that is there, or add its images; "
        "`sat-tf train` takes train and validation."
    )


def reader_of(builder, files):
    """`Split.read_files` of some `FileInstruction`s; it needs no builder."""
    name = _names(builder).get("file_name", "file_name")
    return functools.partial(_read_files, builder.info.file_format, name, files)


def _read_files(file_format, file_name, files, start=0, stop=None):
    """The files of the images from `start` to before `stop`, or of all."""

    def parse(record):
        parsed = tf.io.parse_single_example(record, {"image": _TEXT, file_name: _TEXT})
        return {"image": parsed["image"], "file_name": parsed[file_name]}

    some = list(_between(files, start, stop))
    return _records(file_format, some).map(parse, tf.data.AUTOTUNE)


def _between(files, start, stop):
    """The `FileInstruction`s of the records from `start` to before `stop`."""
    for file in files:
        first = max(start, 0)
        last = file.take if stop is None else min(stop, file.take)
        if first < last:
            yield file.replace(skip=file.skip + first, take=last - first)
        start -= file.take
        stop = None if stop is None else stop - file.take


def batches_of(builder, files):
    """A `tf.data.Dataset` of what is said of the images of some `FileInstruction`s.

    Of each batch of B images with C captions of W words whose regions are known:

    * `image`: int64 `[B, 2]`, a hash and the length of each encoded file.
    * `name`: `[B]`. `captions`: `[B]`, how many each has. `caption`: `[C]`.
    * `words`: `[C]`, for how many words of each the regions are known; `[0]` where
      the data know none. `boxes`: `[W]`, how many each word has. `edges`: all of them.
    """
    file_name = _names(builder).get("file_name", "file_name")

    def parse(records):
        several = {name: tf.io.RaggedFeature(kind) for name, kind in _SEVERAL.items()}
        features = {"image": _TEXT, file_name: _TEXT, **several}
        parsed = tf.io.parse_example(records, features)
        image, (text, words, boxes, edges) = parsed["image"], map(parsed.get, _SEVERAL)
        # Reading the captions reads the images as well, and this hash costs next to
        # nothing beside that. TensorFlow promises that it will never change.
        number = tf.strings.to_hash_bucket_fast(image, 2**63 - 1)
        length = tf.cast(tf.strings.length(image), tf.int64)
        return {
            "image": tf.stack([number, length], axis=-1),
            "name": parsed[file_name],
            "captions": text.row_lengths(),
            "caption": text.flat_values,
            "words": words.flat_values,
            "boxes": boxes.flat_values,
            "edges": edges.flat_values,
        }

    records = _records(builder.info.file_format, files).batch(_BATCH)
    return records.map(parse, tf.data.AUTOTUNE).prefetch(2)


def _names(builder):
    """Our names of features and splits -> those of data that TFDS calls otherwise."""
    return getattr(builder, "AS_PREPARED", {})


def _records(file_format, files):
    adapter = file_adapters.ADAPTER_FOR_FORMAT[file_format]
    names = [file.filename for file in files]
    places = np.array([(file.skip, file.take) for file in files], np.int64)
    parts = tf.data.Dataset.from_tensor_slices((names, places))
    # One file after the other: the order is the same on every machine.
    return parts.flat_map(
        lambda name, at: adapter.make_tf_data(name).skip(at[0]).take(at[1])
    )
