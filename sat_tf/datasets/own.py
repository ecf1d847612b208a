"""The user's own images and captions."""

import os
import pathlib

from sat_tf.datasets import flickr, folder, readers, rows
from sat_tf.datasets.grouping import group
from sat_tf.datasets.image_index import ImageIndex
from sat_tf.datasets.split_names import ACCEPTED, split_in


class OwnData(folder.FolderBuilder):
    """Images with a caption file: CSV, COCO, Karpathy's or neuraltalk2's JSON."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""Put a folder of images and a caption file into
one folder. The file is {rows.FORMS}.

A table has as many rows per image as it has captions. Its separator is the one that
splits the header into such columns. `file_name`, `filename`, `file_path`, `image_name`
and the like stand for `image`, and `text`, `comment`, `description` or `sentence` for
`caption`; case does not matter. Text is UTF-8 or UTF-16.

Images are found by their path, or by their base name wherever they lie. Letters that
macOS decomposes, backslashes and upper case make no difference where only one file can
be meant.

A column or key `split` is honoured: {", ".join(ACCEPTED)}, or other words for them
(val, dev, eval, Training, Validierung, ...). So are folders of splits, with a caption
file in each or with images only, and splits in the names of several files. Where
nothing is named, a hash of the file name chooses: 90 % train, 5 % validation, 5 % test.
Where there is no validation split, 5 % of train become one."""

    @staticmethod
    def read_records(source):
        """Records of `source`: a caption file, or a folder that holds some.

        Raises:
            ValueError: there is no caption file, or it cannot be read.
        """
        source = pathlib.Path(source)
        root = source if source.is_dir() else source.parent
        by_file = _read_files(source)
        listed = [
            row
            for parent in dict.fromkeys(file.parent for file in by_file)
            for row in flickr.read_lists(parent)
        ]
        found = flickr.only_listed(_with_splits(by_file, root), listed)
        if not found:
            raise ValueError(
                "Expected images with captions. Received: "
                f"{', '.join(map(str, by_file))}, which have no rows. Add one for "
                "each caption."
            )
        if root.name == "annotations":  # as COCO unpacks, beside train2014 and so on
            root = root.parent
        return group(found, ImageIndex(root))


def _read_files(source):
    """Rows by caption file: `source`, or those in it, or else in its folders."""
    if source.is_file():
        return {source: readers.read_rows(source)}
    refused = []
    for pattern in ("*", "*/*"):
        by_file = {}
        for file in sorted(source.glob(pattern)):
            if not _may_hold_captions(file.relative_to(source)) or not file.is_file():
                continue
            if is_ours(file):
                continue
            try:
                by_file[file] = readers.read_rows(file)
            except rows.NotCaptions as error:
                refused += error.reasons
        if by_file:
            return by_file
    if refused:
        raise rows.NotCaptions(*refused)
    raise ValueError(
        "Expected a caption file (.csv or .json), or a folder with one. "
        f"Received: data={str(source)!r}, which "
        f"{'has none' if source.is_dir() else 'does not exist'}. Write a CSV with "
        "the header `image,caption` beside the images, or check the path."
    )


def _may_hold_captions(path):
    name = path.name.lower()
    # Not what macOS hides beside every file and Jupyter in a folder, nor Flickr8k's
    # second, lemmatised copy, nor its lists of splits.
    hidden = any(part.startswith(".") for part in path.parts)
    others = name.endswith((".lemma.token.txt", "images.txt"))
    return name.endswith(readers.SUFFIXES) and not hidden and not others


# What `evaluate` writes, references in the form of COCO's captions among them.
_SCORES = {"predictions.json", "references.json", "scores.json"}
TAUGHT = "taught"  # the first key of what `teach` writes: how many are the teacher's


def is_ours(file):
    """Whether a file was written by `evaluate` or `teach`, and is to be asked for."""
    scores = all((file.parent / name).is_file() for name in _SCORES)
    return is_taught(file) or (file.name in _SCORES and scores)


def is_taught(file):
    """Whether `teach` has written a file: people's captions, and a teacher's."""
    with open(file, "rb") as opened:
        return f'"{TAUGHT}":'.encode() in opened.read(64)


def _with_splits(by_file, root):
    """All rows; where they name no split, with that of their file's name or folder.

    Raises:
        ValueError: some files are so named, and others hold images without a split.
    """
    found, splits = [], {}
    for file, rows_ in by_file.items():
        folder_split = split_in(file.parent.name) if file.parent != root else None
        split = (split_in(file.stem) if len(by_file) > 1 else None) or folder_split
        if split:
            splits[file] = split
        for row in rows_:
            # As the image folders of Hugging Face have it; else from the root.
            here = folder_split or os.path.isfile(file.parent / row.name)
            name = row.name
            if file.parent != root and here and not os.path.isabs(name):
                name = os.path.relpath(file.parent / name, root)
            found.append(row._replace(name=name, split=row.split or split))
    named = {row.name for row in found if row.split}
    unnamed = [row for row in found if row.name not in named]
    if splits and unnamed:
        raise ValueError(
            "Expected every caption file to say its split, or none. Received: "
            f"{next(iter(splits))}, which does by its name, and {unnamed[0].place}, "
            f"which does not. Name files or their folders {', '.join(ACCEPTED)}, or "
            "add a column `split`."
        )
    return found
