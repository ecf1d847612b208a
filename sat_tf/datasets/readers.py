"""The caption files that captioning data come in, each to `(name, caption, split)`.

The split is None where the file does not say; the caption is None in a row that only
lists the image.
"""

import csv
import json
import pathlib

CAPTION_SUFFIXES = (".csv", ".json", ".txt")


def read_rows(path):
    """Rows of a caption file: CSV, COCO, Karpathy's or neuraltalk2's JSON.

    Raises:
        ValueError: the file is none of them; the message says what was looked for.
    """
    path = pathlib.Path(path)
    try:
        if path.suffix.lower() != ".json":
            return _csv_rows(path)
        with path.open(encoding="utf-8") as file:
            return _json_rows(json.load(file))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            "Expected a caption file: CSV with the header `image,caption` (and, if "
            '`split`), JSON `[{"file_path": ..., "captions": [...]}]`, COCO captions '
            f"JSON or Karpathy's JSON. Received: {str(path)!r}, "
            f"{type(error).__name__}: {error}. Bring it into one of these forms."
        ) from error


def is_caption_file(path):
    """Whether a file in a data folder is worth reading: by its suffix and beginning."""
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in CAPTION_SUFFIXES:
        return False
    if suffix == ".json":
        return True
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = [column.strip().lower() for column in file.readline().split(",")]
    return "image" in header and "caption" in header


def read_token_file(path):
    """Rows of Flickr's `image.jpg#0<TAB>caption` file."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        key, tab, caption = line.partition("\t")
        if not tab:
            if line.strip():
                raise ValueError(
                    "Expected lines of the form `image.jpg#0<TAB>caption`. "
                    f"Received: {str(path)!r}, line {number}: {line[:60]!r}. "
                    "Take the file as it was published."
                )
            continue
        rows.append((key.rpartition("#")[0] or key, caption, None))
    return rows


def _csv_rows(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, skipinitialspace=True)
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        missing = {"image", "caption"} - set(reader.fieldnames)
        if missing:
            raise ValueError(f"no column {', '.join(sorted(missing))}")
        return [(row["image"], row["caption"], row.get("split")) for row in reader]


def _json_rows(content):
    if isinstance(content, list):
        rows = [_neuraltalk_rows(entry) for entry in content]
    elif "annotations" in content:
        rows = [_coco_rows(content)]
    else:
        rows = [_karpathy_rows(image) for image in content["images"]]
    return [row for part in rows for row in part]


def _neuraltalk_rows(entry):
    """Rows of `{"file_path": ..., "captions": [...]}`."""
    return [
        (entry["file_path"], caption, entry.get("split"))
        for caption in entry["captions"] or [None]
    ]


def _coco_rows(content):
    """Rows of `{"images": [{"id", "file_name"}], "annotations": [...]}`."""
    names = {image["id"]: image["file_name"] for image in content["images"]}
    rows = [(name, None, None) for name in names.values()]
    for annotation in content["annotations"]:
        rows.append((names[annotation["image_id"]], annotation["caption"], None))
    return rows


def _karpathy_rows(image):
    """Rows of `{"filename", "split", "sentences": [{"raw"}]}`; COCO has a path too."""
    name = "/".join(filter(None, [image.get("filepath"), image["filename"]]))
    return [
        (name, sentence["raw"], image.get("split"))
        for sentence in image["sentences"] or [{"raw": None}]
    ]
