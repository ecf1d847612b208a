"""A split as the rest of the package sees it: names, captions, encoded images."""

import dataclasses
import hashlib
import itertools

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from sat_tf.datasets.regions import NONE
from sat_tf.datasets.split_names import split_name

_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of one data set; everything but the pixels is in memory.

    Attributes:
        name: of the data set.
        split: of the split, e.g. `train`.
        file_names: one per image.
        captions: per image, its captions as written.
        regions: per image and caption, a tuple with one float32 `[n, 4]` of boxes
            (relative ymin, xmin, ymax, xmax; n = 0: it names no region) for each word
            of `vocabulary.tokenise`; or None where they are unknown.
        images: `tf.data.Dataset` of encoded files (scalar strings), same order.
        image_digests: int64 `[N]`, a hash of each encoded file.
        image_fingerprint: of `images` alone, wherever they lie and whatever is said
            of them.
        fingerprint: changes when the names, the captions or the images change.
        notes: what was decided when the files were read, in sentences.
    """

    name: str
    split: str
    file_names: tuple
    captions: tuple
    regions: tuple
    images: tf.data.Dataset = dataclasses.field(repr=False)
    image_digests: np.ndarray = dataclasses.field(repr=False, compare=False)
    image_fingerprint: str
    fingerprint: str = ""
    notes: tuple = ()

    def __len__(self):
        return len(self.file_names)


def read_split(builder, name, split):
    """Read a split of a prepared TFDS `builder` in its fixed order.

    Args:
        builder: a `tfds.core.DatasetBuilder` with `schema.features()`.
        name: what to call the data set.
        split: a TFDS split, e.g. `train`, `validation[:10]`, `train+restval`.

    Raises:
        ValueError: the builder has no such split.
    """
    try:
        examples = builder.as_dataset(
            split=split,
            decoders={"image": tfds.decode.SkipDecoding()},
            shuffle_files=False,
            # One file after the other: the order is the same on every machine.
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
    except ValueError as error:
        raise no_split(name, split, builder.info.splits) from error
    names, captions, regions = [], [], []
    files = [np.zeros((0, 2), np.int64)]
    for batch in examples.map(_text).ragged_batch(_BATCH):
        names += [name.decode() for name in batch["names"].numpy()]
        texts = batch["texts"].to_list()
        captions += [tuple(text.decode() for text in row) for row in texts]
        regions += _regions(batch["boxes"])
        files.append(batch["image"].numpy())
    files = np.concatenate(files)
    images = hashlib.sha256(files.tobytes()).hexdigest()
    fingerprint = hashlib.sha256(repr((names, captions, images)).encode())
    return Split(
        name=name,
        split=split,
        file_names=tuple(names),
        captions=tuple(captions),
        regions=tuple(regions),
        images=examples.map(lambda example: example["image"]),
        image_digests=files[:, 0],
        image_fingerprint=images,
        fingerprint=fingerprint.hexdigest(),
        notes=getattr(builder.builder_config, "notes", ()),
    )


def no_split(name, split, known):
    """The ValueError that the data set `name` has no split `split`."""
    known = sorted({split_name(other) for other in known})
    return ValueError(
        f"Expected a split of {name}: {', '.join(known)}. "
        f"Received: split={split!r}. Choose one that is there, or add its images; "
        "`sat-tf train` takes train and validation."
    )


def _text(example):
    captions, image = example["captions"], example["image"]
    # Reading the captions reads the images as well, and this hash costs next to nothing
    # beside that. TensorFlow promises that it will never change.
    number = tf.strings.to_hash_bucket_fast(image, 2**63 - 1)
    length = tf.cast(tf.strings.length(image), tf.int64)
    return {
        "image": tf.stack([number, length]),
        "names": example["file_name"],
        "texts": captions["text"],
        "boxes": captions["regions"],
    }


def _regions(boxes):
    """Ragged boxes `[images, captions, words, n, 4]` as `Split.regions`."""
    captions = boxes.values
    words = captions.values
    # Most words have none: they share one array.
    each = [a if len(a) else NONE for a in _cut(words.values.numpy(), words)]
    rows = [tuple(row) or None for row in _cut(each, captions)]
    return [tuple(row) for row in _cut(rows, boxes)]


def _cut(values, ragged):
    """The values in the rows of a ragged tensor."""
    return [values[a:b] for a, b in itertools.pairwise(ragged.row_splits.numpy())]
