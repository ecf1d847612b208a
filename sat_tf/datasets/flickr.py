"""The text layout of Flickr8k and Flickr30k."""

import pathlib

from sat_tf.datasets import readers, records

_LISTS = {"train": "train", "dev": "validation", "test": "test"}


def read_records(source, token_file, prefix, need_lists=True):
    """Records of a Flickr folder.

    Args:
        source: the folder; `dataset_*.json` in it is read instead of the text files.
        token_file: name of the caption file.
        prefix: the lists of splits are `{prefix}.{train,dev,test}Images.txt`.
        need_lists: whether images are left unsplit an error, or split by a hash.

    Raises:
        ValueError: a file is missing.
    """
    source = pathlib.Path(source)
    index = records.ImageIndex(source)
    karpathy = sorted(source.glob("dataset_*.json"))
    if karpathy:
        return records.group(readers.read_rows(karpathy[0]), index)
    if not (source / token_file).is_file():
        raise _missing(source, f"{token_file} or dataset_*.json")
    captions = readers.read_token_file(source / token_file)
    splits = {
        split: (source / f"{prefix}.{part}Images.txt")
        for part, split in _LISTS.items()
        if (source / f"{prefix}.{part}Images.txt").is_file()
    }
    if not splits and need_lists:
        raise _missing(source, f"{prefix}.trainImages.txt, .devImages.txt or .test...")
    if not splits:
        return records.group(captions, index)
    # Every listed image, captioned or not; images in no list are not part of the data.
    rows = [
        (name, None, split)
        for split, path in splits.items()
        for name in path.read_text("utf-8").split()
    ]
    listed = {name: split for name, _, split in rows}
    rows += [(name, text, listed[name]) for name, text, _ in captions if name in listed]
    return records.group(rows, index)


def _missing(source, name):
    return ValueError(
        f"Expected a folder with {name}. Received: data_dir={str(source)!r}, which "
        "has none. Pass the folder that holds the files as they were published."
    )
