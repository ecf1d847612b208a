"""The user's own images and captions."""

import pathlib
import re

from sat_tf.datasets import folder, readers, records

_SPLIT_IN_NAME = re.compile(r"train|validation|valid|val|dev|test")


class OwnData(folder.FolderBuilder):
    """Images with a caption file: CSV, COCO, Karpathy's or neuraltalk2's JSON."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = """Put a folder of images and a caption file into one
folder: CSV with the header `image,caption` and as many rows per image as it has
captions, JSON `[{"file_path": ..., "captions": [...]}]`, COCO captions JSON or
Karpathy's. A column or key `split` (train, validation, test) is honoured."""

    @staticmethod
    def read_records(source):
        """Records of `source`: a caption file, or a folder that holds some.

        Where several files stand side by side, a split in their names counts, as in
        `captions_train2014.json`. Images without a split get one by a hash.

        Raises:
            ValueError: there is no caption file, or it cannot be read.
        """
        source = pathlib.Path(source)
        files = _caption_files(source)
        root = source if source.is_dir() else source.parent
        if root.name == "annotations":  # as COCO unpacks, beside train2014 and so on
            root = root.parent
        rows = []
        for file in files:
            named = _SPLIT_IN_NAME.search(file.stem) if len(files) > 1 else None
            default = named.group() if named else None
            rows += [
                (name, caption, split or default)
                for name, caption, split in readers.read_rows(file)
            ]
        return records.group(rows, records.ImageIndex(root))


def _caption_files(source):
    files = [source]
    if source.is_dir():
        files = sorted(filter(readers.is_caption_file, source.iterdir()))
    if not files or not files[0].is_file():
        raise ValueError(
            "Expected a caption file (.csv or .json), or a folder with one. "
            f"Received: data={str(source)!r}, which "
            f"{'has none' if source.is_dir() else 'does not exist'}. Write a CSV with "
            "the header `image,caption` beside the images, or check the path."
        )
    return files
