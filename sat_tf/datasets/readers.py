"""The caption files that captioning data come in, each to its `Row`s.

Tables and token files are read in `tables`; here is JSON: entries of one image each, in
a list (as neuraltalk2 has it) or one a line (JSON lines), COCO's and Karpathy's.
"""

import json
import pathlib
import re

from sat_tf.datasets import tables
from sat_tf.datasets.rows import NotCaptions, Place, Row, pick, read_text

SUFFIXES = (".csv", ".tsv", ".txt", ".token", ".json", ".jsonl")
_BEGINNING = 2**16


def read_rows(path):
    """The rows of a caption file in one of `rows.FORMS`.

    Raises:
        NotCaptions: the file holds something else.
        ValueError: it holds captions, but some cannot be read; the message says
            which, and what to do.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() in (".json", ".jsonl"):
        return _json_rows(path, read_text(path))
    with path.open("rb") as file:  # it may be large, and something else
        beginning = file.read(_BEGINNING)
    tables.Header(path, beginning.decode(json.detect_encoding(beginning), "replace"))
    return tables.read(path, read_text(path))


def _json_rows(path, text):
    values = list(_values(path, text))
    if len(values) == 1 and isinstance(content := values[0][1], list):
        places = (Place(str(path), "entry", i) for i in range(1, len(content) + 1))
        values = list(zip(places, content, strict=True))
    elif len(values) == 1 and isinstance(content, dict):
        if {"images", "annotations"} <= content.keys():
            return _coco_rows(path, content)
        if "images" in content:
            return _karpathy_rows(path, content["images"])
    if not any(isinstance(entry, dict) and pick([*entry], p) for p, entry in values):
        raise NotCaptions(f"{path}, where no entry has an image with captions")
    return [row for place, entry in values for row in _entry_rows(entry, place)]


def _values(path, text):
    """Yield every JSON value with the line it begins in."""
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    at, line, space = 0, 1, re.compile(r"\s*")
    while (start := space.match(text, at).end()) < len(text):
        line += text.count("\n", at, start)
        try:
            value, at = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(
                f"Expected JSON. Received: {path}, {error}. Correct it there, or write "
                "the file with a JSON library."
            ) from error
        except _TwiceError as error:
            raise ValueError(
                f"Expected every key once in an entry. Received: {path}, with "
                f"{error} twice in the entry that begins {error.entry}. Keep one; "
                "several captions go into a list."
            ) from error
        yield Place(str(path), "line", line), value
        line += text.count("\n", start, at)


class _TwiceError(Exception):
    entry = ""


def _object(pairs):
    """A dict; JSON in which a key is there twice would lose a value without a word."""
    entry = dict(pairs)
    if len(entry) < len(pairs):
        keys = [key for key, _ in pairs]
        error = _TwiceError(next(repr(key) for key in keys if keys.count(key) > 1))
        error.entry = json.dumps(entry)[:80]
        raise error
    return entry


def _entry_rows(entry, place):
    """Rows of `{"file_path": ..., "captions": [...]}`."""
    picked = pick([*_checked(entry, dict, "an entry", place)], place)
    if picked is None:
        raise _unlike("an image with `captions`", [*entry], place)
    image, captions = (list(entry.values())[i] for i in picked)
    name = _name(image, place)
    split = entry.get("split")
    split = None if split is None else _text(split, "the name of a split", place)
    if captions is None or isinstance(captions, str):
        captions = [captions] if captions else []
    captions = _checked(captions, list, "captions", place)
    # A caption that is null is an empty one; an image without any is still listed.
    captions = ["" if c is None else _text(c, "a caption", place) for c in captions]
    return [Row(name, caption, split, place) for caption in captions or [None]]


def _coco_rows(path, content):
    """Rows of `{"images": [{"id", "file_name"}], "annotations": [...]}`."""
    annotations = _checked(content["annotations"], list, "annotations", path)
    if not any(isinstance(a, dict) and "caption" in a for a in annotations):
        raise NotCaptions(f"{path}, whose annotations have no `caption`")
    names, rows = {}, []
    for i, image in enumerate(_checked(content["images"], list, "images", path), 1):
        place = Place(str(path), "image", i)
        key = _key(image, "id", place)
        if key in names:
            raise _unlike("every id once", key, place)
        names[key] = _name(_value(image, "file_name", place), place)
        rows.append(Row(names[key], None, None, place))
    for i, annotation in enumerate(annotations, 1):
        place = Place(str(path), "annotation", i)
        key = _key(annotation, "image_id", place)
        if key not in names:
            raise _unlike("the id of an image", key, place)
        caption = _value(annotation, "caption", place)
        caption = "" if caption is None else _text(caption, "a caption", place)
        rows.append(Row(names[key], caption, None, place))
    return rows


def _karpathy_rows(path, entries):
    """Rows of `{"filename", "split", "sentences": [{"raw"}]}`; COCO has a path too."""
    rows = []
    entries = _checked(entries, list, "images", path)
    if not any(isinstance(entry, dict) and "sentences" in entry for entry in entries):
        raise NotCaptions(f"{path}, whose images have no `sentences`")
    for i, entry in enumerate(entries, 1):
        place = Place(str(path), "image", i)
        name = _name(_value(entry, "filename", place), place)
        if entry.get("filepath"):
            name = f"{_text(entry['filepath'], 'a path', place)}/{name}"
        sentences = _value(entry, "sentences", place)
        captions = [
            _text(_value(sentence, "raw", place), "a sentence", place)
            for sentence in _checked(sentences, list, "sentences", place)
        ]
        split = entry.get("split")
        split = None if split is None else _text(split, "the name of a split", place)
        rows += [Row(name, caption, split, place) for caption in captions or [None]]
    return rows


def _value(entry, key, place):
    if not isinstance(entry, dict) or key not in entry:
        raise _unlike(f"an object with the key `{key}`", entry, place)
    return entry[key]


def _key(entry, key, place):
    value = _value(entry, key, place)
    return value if isinstance(value, int) else _text(value, f"the `{key}`", place)


def _name(value, place):
    name = _text(value, "the name of an image", place)
    if not name.strip():
        raise _unlike("the name of an image", name, place)
    return name


def _text(value, what, place):
    text = _checked(value, str, what, place)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _unlike(f"{what} in whole characters", value, place) from None
    return text


def _checked(value, kind, what, place):
    if not isinstance(value, kind):
        name = {str: "text", list: "a list", dict: "an object"}[kind]
        raise _unlike(f"{what} as {name}", value, place)
    return value


def _unlike(expected, received, place):
    received = ascii(received)
    received = received if len(received) < 80 else f"{received[:80]}..."
    return ValueError(
        f"Expected {expected}. Received: {received} in {place}. Correct it there."
    )
