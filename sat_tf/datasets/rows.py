"""What a caption file says, row by row, and where it says it."""

import json
import pathlib
from typing import NamedTuple

# What others call the columns or keys. A name in the first set goes before the second.
IMAGE = (
    {"image"},
    {"file_name", "filename", "file_path", "filepath"}
    | {"image_name", "image_path", "image_file", "file"},
)
CAPTION = (
    {"caption", "captions"},
    {"text", "comment", "description", "sentence"},
)
FORMS = """a table (CSV; separated by comma, semicolon, tab or `|`) with the header
`image,caption` and, where wanted, `split`; JSON
`[{"file_path": ..., "captions": [...]}]`, as a list or one entry a line; COCO captions
JSON; Karpathy's JSON; or Flickr's `image.jpg#0<TAB>caption`"""
_SHOWN = 5
_PLURALS = {"entry": "entries"}


class Place(NamedTuple):
    """Where something stands in a file: in which `line`, `entry` or so, from 1."""

    file: str
    unit: str
    number: int | str

    def __str__(self):
        return f"{self.file}, {self.unit} {self.number}"


class Row(NamedTuple):
    """One caption of one image.

    Attributes:
        name: of the image, as written.
        caption: None in a row that only lists the image.
        split: as written; None where the file does not say.
        place: a `Place`.
    """

    name: str
    caption: str | None
    split: str | None
    place: Place | None = None


class NotCaptions(ValueError):
    """A file that holds something other than captions.

    Args:
        reasons: why, one for each such file.
    """

    def __init__(self, *reasons):
        self.reasons = reasons
        super().__init__(
            f"Expected a caption file: {' '.join(FORMS.split())}. "
            f"Received: {'; '.join(reasons)}. Bring it into one of these forms."
        )


def said(places):
    """Some places in words: `captions.csv, lines 4, 7 and 9`."""
    by_file = {}
    for file, unit, number in places:
        by_file.setdefault((file, unit), []).append(str(number))
    texts = []
    for (file, unit), numbers in by_file.items():
        shown, more = numbers[:_SHOWN], len(numbers) - _SHOWN
        shown += [f"{more} more"] if more > 0 else []
        first, last = ", ".join(shown[:-1]), shown[-1]
        numbers = f"{first} and {last}" if first else last
        units = unit if len(shown) == 1 else _PLURALS.get(unit, f"{unit}s")
        texts.append(f"{file}, {units} {numbers}")
    return "; ".join(texts)


def read_text(path):
    """The text of a file in UTF-8 or UTF-16, with a byte order mark or without.

    Raises:
        ValueError: it is in another encoding, or no text; the message says where.
    """
    contents = pathlib.Path(path).read_bytes()
    # The rule of JSON's RFC 4627; it holds for all text that begins in ASCII.
    encoding = json.detect_encoding(contents)
    try:
        text = contents.decode(encoding)
    except UnicodeDecodeError as error:
        place = Place(str(path), "line", contents.count(b"\n", 0, error.start) + 1)
        raise ValueError(
            "Expected text in UTF-8 or UTF-16. "
            f"Received: {place}, with the byte 0x{contents[error.start]:02x} that "
            f"{encoding} does not allow there. Save the file as UTF-8 (in Excel: "
            '"CSV UTF-8"); it may be in Windows-1252 now.'
        ) from error
    if "\0" in text:
        place = Place(str(path), "line", text.count("\n", 0, text.index("\0")) + 1)
        raise ValueError(
            f"Expected text. Received: {place}, with a zero byte. Save the file as "
            "UTF-8, or take a whole copy of it."
        )
    return text


def pick(names, place):
    """Which of some column or key names are meant by `IMAGE` and by `CAPTION`.

    Returns:
        two indices, or None where one of them is not there.

    Raises:
        ValueError: several may be meant.
    """
    plain = ["_".join(str(n).lower().replace("-", " ").split()) for n in names]
    chosen = []
    for tiers in (IMAGE, CAPTION):
        found = ([i for i, n in enumerate(plain) if n in tier] for tier in tiers)
        chosen.append(next(filter(None, found), None))
    if None in chosen:
        return None
    for found, wanted in zip(chosen, ("image", "caption"), strict=True):
        if len(found) > 1:
            raise ValueError(
                f"Expected one column or key for the {wanted}. Received: {place}, "
                f"with {' and '.join(repr(names[i]) for i in found)}. "
                "Remove or rename all but one."
            )
    return tuple(found for (found,) in chosen)
