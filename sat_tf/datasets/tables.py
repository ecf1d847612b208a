"""Caption files of one caption a line: separated columns, and Flickr's token files.

Of separated columns the header decides: the separator is that of `,`, `;`, tab and `|`
which splits it into a column of images and one of captions, or the one that a first
line `sep=;` names. Nothing is guessed from the rows.
"""

import csv
import io
import os
import re

from sat_tf.datasets.rows import NotCaptions, Place, Row, pick, said
from sat_tf.runtime.files import IMAGE_SUFFIXES

_SEPARATORS = ",;\t|"
_SEP_LINE = re.compile(r"\s*\"?sep=(.)\"?\s*", re.IGNORECASE)
_LIST = re.compile(r"\[\s*(['\"]).*\1\s*\]", re.DOTALL)
_TOKEN = re.compile(r"[^\t]+#\d+\t")


class Header:
    """The first line that says something, and what follows from it.

    Args:
        path: of the file, for messages.
        text: its beginning is enough.

    Attributes:
        separator: between columns; None in a token file, which has no header.
        names: of the columns.
        image, caption, split: their places among the columns; split may be None.
        line: its number, from 1.
        quoting: as in `csv`.

    Raises:
        NotCaptions: there is no column of images, or none of captions.
        ValueError: there are several.
    """

    def __init__(self, path, text):
        separators = _SEPARATORS
        for self.line, line in enumerate(io.StringIO(text, newline=None), 1):
            if named := _SEP_LINE.fullmatch(line):
                separators = named[1]
            elif line.strip():
                break
        else:
            raise NotCaptions(f"{path}, which is empty")
        self.separator = None
        if _TOKEN.match(line):
            return
        place = Place(str(path), "line", self.line)
        for separator in separators:
            self.names = _split(line, separator)
            if picked := pick(self.names, place):
                self.image, self.caption = picked
                self.separator = separator
                break
        else:
            raise NotCaptions(
                f"{place}: {line[:80].strip()!r}, which names no column `image` beside "
                "a column `caption`"
            )
        splits = [i for i, n in enumerate(self.names) if n.lower() == "split"]
        self.split = splits[0] if splits else None
        # Flickr30k's results.csv has quotation marks as people wrote them.
        flickr30k = "comment_number" in self.names
        self.quoting = csv.QUOTE_NONE if flickr30k else csv.QUOTE_MINIMAL


def _split(line, separator):
    try:
        fields = next(csv.reader([line], delimiter=separator, skipinitialspace=True))
    except csv.Error:
        return []
    names = [field.strip() for field in fields]
    # A column that has no name has no values either, but for R's row numbers.
    while names and not names[-1]:
        names.pop()
    return names


def read(path, text):
    """The rows of separated columns, or of a token file; raises as `Header` does."""
    header = Header(path, text)
    if header.separator is None:
        return read_tokens(path, text)
    rows, problems = [], {}
    for line, fields in _records(path, text, header):
        if not any(field.strip() for field in fields):
            continue
        place = Place(str(path), "line", line)
        row, problem = _row(fields, header, place)
        if problem:
            problems.setdefault(problem, []).append(place)
        rows.append(row)
    for (expected, fix), places in problems.items():
        raise ValueError(
            f"Expected {expected}. Received: {said(places)} ({len(places)} of "
            f"{len(rows)} rows). {fix}"
        )
    return rows


def read_tokens(path, text):
    """Rows of Flickr's `image.jpg#0<TAB>caption` file."""
    rows = []
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if not line.strip():
            continue
        place = Place(str(path), "line", number)
        key, tab, caption = line.partition("\t")
        if not tab:
            raise ValueError(
                "Expected lines of the form `image.jpg#0<TAB>caption`. "
                f"Received: {place}: {line[:60].strip()!r}. "
                "Take the file as it was published."
            )
        rows.append(Row(key.rpartition("#")[0] or key, caption.strip(), None, place))
    return rows


def _records(path, text, header):
    """Yield `(line, fields)`; a field in quotation marks may go on over lines."""
    lines = io.StringIO(text, newline="")
    for _ in range(header.line):
        lines.readline()
    reader = csv.reader(
        lines,
        delimiter=header.separator,
        quoting=header.quoting,
        skipinitialspace=True,
        strict=True,
    )
    while True:
        line = header.line + reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                "Expected quotation marks in pairs around a field. Received: "
                f"{Place(str(path), 'line', line)}, where a row begins that "
                f"cannot be read: {error}. Close the quotation mark; one inside a "
                'quoted field is written twice ("").'
            ) from error


def _row(fields, header, place):
    """A row, and what was expected of it and how to mend it, or None."""
    while len(fields) > len(header.names) and not fields[-1].strip():
        fields = fields[:-1]
    n_columns = len(header.names)
    problem = None
    if len(fields) > n_columns:
        problem = (
            f"{n_columns} fields in every row, as in the header",
            f"Put a caption that holds {header.separator!r} into quotation marks, and "
            "name every column.",
        )
    elif any(_holds_rows(field, header) for field in fields):
        problem = (
            "captions without rows in them",
            "There is one quotation mark too many at the beginning: close it, or "
            "remove it.",
        )
    fields = [field.strip() for field in fields] + [""] * (n_columns - len(fields))
    if _LIST.fullmatch(fields[header.caption]):
        problem = problem or (
            "one caption in every row",
            "Write a row for each caption of a list: in pandas, explode makes them.",
        )
    if not fields[header.image] and fields[header.caption]:
        problem = problem or (
            "the name of an image with every caption",
            "Write it into every row.",
        )
    split = fields[header.split] if header.split is not None else None
    row = Row(fields[header.image], fields[header.caption], split or None, place)
    return row, problem


def _holds_rows(field, header):
    """Whether a quotation mark that was not closed has taken rows into a field."""
    for line in re.split(r"[\r\n]+", field)[1:]:
        names = line.split(header.separator)[header.image :][:1]
        suffixes = (os.path.splitext(name.strip(' "'))[1] for name in names)
        if header.separator in line and IMAGE_SUFFIXES & {s.lower() for s in suffixes}:
            return True
    return False
