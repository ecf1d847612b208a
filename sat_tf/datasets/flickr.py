"""The text layout of Flickr8k and Flickr30k."""

import pathlib

from sat_tf.datasets import entities, readers, tables
from sat_tf.datasets.grouping import group
from sat_tf.datasets.image_index import ImageIndex
from sat_tf.datasets.rows import Place, Row, read_text

_LISTS = {"train": "train", "dev": "validation", "test": "test"}


def read_records(source, token_file, prefix, boxes, need_lists=True):
    """Records of a Flickr folder, with the boxes of their phrases where it has some.

    Args:
        source: the folder; `dataset_*.json` in it is read instead of the text files.
        token_file: name of the caption file.
        prefix: the lists of splits are `{prefix}.{train,dev,test}Images.txt`.
        boxes: how they are found, `entities.published` or `entities.tables`.
        need_lists: whether images left unsplit are an error, or split by a hash.

    Raises:
        ValueError: a file is missing or broken.
    """
    source = pathlib.Path(source)
    index = ImageIndex(source)
    karpathy = sorted(source.glob("dataset_*.json"))
    if karpathy:
        found = group(readers.read_rows(karpathy[0]), index)
        return entities.annotate(found, boxes(source))
    token_file = source / token_file
    if not token_file.is_file():
        raise _missing(source, f"{token_file.name} or dataset_*.json")
    captions = tables.read_tokens(token_file, read_text(token_file))
    listed = read_lists(source, prefix)
    if not listed and need_lists:
        raise _missing(source, f"{prefix}.trainImages.txt, .devImages.txt or .test...")
    found = group(only_listed(captions, listed), index)
    return entities.annotate(found, boxes(source))


def read_lists(source, prefix="*"):
    """Rows of the images in `{prefix}.{train,dev,test}Images.txt`, without captions."""
    return [
        Row(name, None, split, Place(str(path), "line", line))
        for part, split in _LISTS.items()
        for path in sorted(source.glob(f"{prefix}.{part}Images.txt"))
        for line, name in enumerate(read_text(path).split("\n"), 1)
        if name.strip()
    ]


def only_listed(captions, listed):
    """Every listed image, captioned or not; images in no list are no part of the data.

    All of `captions`, where no image is listed.
    """
    splits = {row.name.strip(): row.split for row in listed}
    named = [row._replace(split=splits.get(row.name.strip())) for row in captions]
    return [*listed, *(r for r in named if r.split)] if listed else captions


def _missing(source, name):
    return ValueError(
        f"Expected a folder with {name}. Received: data_dir={str(source)!r}, which "
        "has none. Pass the folder that holds the files as they were published."
    )
