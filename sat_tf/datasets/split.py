"""A split as the rest of the package sees it: names, captions, encoded images."""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from sat_tf.datasets.records import split_name


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of one data set; everything but the pixels is in memory.

    Attributes:
        name: of the data set.
        split: of the split, e.g. `train`.
        file_names: one per image.
        captions: per image, its captions as written.
        regions: per image and caption, float32 `[words, 4]` boxes (relative ymin,
            xmin, ymax, xmax; zero area = this word names no region), or None where
            they are unknown.
        images: `tf.data.Dataset` of encoded files (scalar strings), same order.
        fingerprint: changes when the names, the captions or the data change.
    """

    name: str
    split: str
    file_names: tuple
    captions: tuple
    regions: tuple
    images: tf.data.Dataset = dataclasses.field(repr=False)
    fingerprint: str = ""

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
        known = sorted({split_name(known) for known in builder.info.splits})
        raise ValueError(
            f"Expected a split of {name}: {', '.join(known)}. "
            f"Received: split={split!r}. Choose one that is there, or add its files."
        ) from error
    names, captions, regions = [], [], []
    for file_name, text, boxes, ends in examples.map(_text).as_numpy_iterator():
        names.append(file_name.decode())
        captions.append(tuple(caption.decode() for caption in text))
        boxes = np.split(boxes, ends[1:-1])
        regions.append(tuple(rows if len(rows) else None for rows in boxes))
    return Split(
        name=name,
        split=split,
        file_names=tuple(names),
        captions=tuple(captions),
        regions=tuple(regions),
        images=examples.map(lambda example: example["image"]),
        fingerprint=_fingerprint(builder, split, names, captions),
    )


def _text(example):
    captions = example["captions"]
    regions = captions["regions"]
    return example["file_name"], captions["text"], regions.values, regions.row_splits


def _fingerprint(builder, split, names, captions):
    # The sizes stand for the pixels; reading those would take as long as caching them.
    sizes = sorted((s.name, s.num_bytes) for s in builder.info.splits.values())
    content = repr((builder.info.full_name, split, names, captions, sizes))
    return hashlib.sha256(content.encode()).hexdigest()
