"""Boxes for the phrases of captions: Flickr30k Entities (Plummer et al. 2015).

They are read where they lie in a folder of photographs, in one of two forms: the
published folders `Annotations/*.xml` and `Sentences/*.txt`, or files `entities_*.json`,

    {image: {"size_confidence": 1.0, "captions": [{"tokens": ["a", "dog", ..],
    "phrases": [{"first": 0, "length": 2, "ambiguous": false,
                 "boxes": [[x1, y1, x2, y2], ..]}, ..]}, ..]}, ..}

with boxes in shares of width and height. There images whose `size_confidence` is below
0.9 and phrases that are `ambiguous` have no boxes.

Only the head of a phrase, its last word, gets the phrase's boxes.
"""

import dataclasses
import json
import pathlib
import re
import xml.etree.ElementTree as ET
from typing import NamedTuple

import numpy as np

from sat_tf.datasets.rows import read_text
from sat_tf.vocabulary import tokenise

_CONFIDENT = 0.9
_PHRASE = re.compile(r"\[/EN#(\d+)\S* ([^\]]*)\]")


class Sentence(NamedTuple):
    """One annotated caption.

    Attributes:
        letters: of all its words, without what lies between words: two splits of one
            caption into words agree in them.
        heads: per phrase how many letters there are up to its end, and its boxes
            `(ymin, xmin, ymax, xmax)`, relative.
    """

    letters: str
    heads: tuple


@dataclasses.dataclass(frozen=True)
class Published:
    """The two files of one image.

    Attributes:
        boxes, sentences: the XML and the text file.
        state: sizes and times of both.
    """

    boxes: pathlib.Path
    sentences: pathlib.Path
    state: tuple

    def read(self):
        """The image's `Sentence`s; ValueError if a file is broken."""
        by_phrase = _read_boxes(self.boxes)
        found = []
        for number, line in enumerate(read_text(self.sentences).split("\n"), 1):
            pieces = _PHRASE.split(line)
            if any("[/EN" in text for text in pieces[::3]):
                raise _broken(f"{self.sentences}, line {number}", "an open bracket")
            parts = [(pieces[0], ())]
            for phrase, text, after in zip(*[iter(pieces[1:])] * 3, strict=True):
                parts += [(text, by_phrase.get(phrase, ())), (after, ())]
            if line.strip():
                found.append(_sentence(parts))
        return found


@dataclasses.dataclass(frozen=True)
class Entry:
    """What an `entities_*.json` says of one image.

    Attributes:
        file: the file. content: of the entry.
    """

    file: pathlib.Path
    content: dict

    def read(self):
        """The image's `Sentence`s; ValueError if the entry is broken."""
        try:
            if self.content["size_confidence"] < _CONFIDENT:
                return []
            return [_sentence(_parts(caption)) for caption in self.content["captions"]]
        except (KeyError, TypeError, ValueError) as error:
            raise _broken(self.file, f"{type(error).__name__} {error}") from error


def annotate(records, found):
    """The records with what `published` or `tables` found about their images."""
    stems = (pathlib.Path(record.name).stem for record in records)
    return [
        dataclasses.replace(record, entities=found.get(stem))
        for record, stem in zip(records, stems, strict=True)
    ]


def regions_of(record):
    """Per caption of a record one list of boxes for each of its words, or None.

    Captions are found by their letters, so neither their order nor how they were split
    into words matters.

    Returns:
        the list, and the number of annotated sentences that are none of the captions.

    Raises:
        ValueError: a file is broken.
    """
    left = record.entities.read() if record.entities else []
    regions = []
    for caption in record.captions:
        words = tokenise(caption)
        letters = _letters(words)
        same = next((s for s in left if s.letters == letters), None)
        if same is None:
            regions.append(None)
            continue
        left.remove(same)
        ends = np.cumsum([len(_letters([word])) for word in words])
        boxes = [[] for _ in words]
        for end, those in same.heads:
            boxes[np.searchsorted(ends, end)] += those
        regions.append(boxes)
    return regions, len(left)


def published(source):
    """By the stem of an image's name, its `Published` files; {} without the folders.

    Raises:
        ValueError: one of an image's two files is missing.
    """
    kinds = {"Annotations": ".xml", "Sentences": ".txt"}
    if not all((source / folder).is_dir() for folder in kinds):
        return {}
    stems = {p.stem for f, kind in kinds.items() for p in (source / f).glob(f"*{kind}")}
    found = {}
    for stem in sorted(stems):
        files = [source / folder / f"{stem}{kind}" for folder, kind in kinds.items()]
        for file in files:
            if not file.is_file():
                raise _broken(file, "no such file")
        stats = [file.stat() for file in files]
        state = tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
        found[stem] = Published(*files, state)
    return found


def tables(source):
    """By the stem of an image's name, its `Entry`; {} without `entities_*.json`.

    Raises:
        ValueError: a file is broken.
    """
    found = {}
    for file in sorted(source.glob("entities_*.json")):
        try:
            entries = json.loads(read_text(file)).items()
        except (AttributeError, json.JSONDecodeError) as error:
            raise _broken(file, error) from error
        found |= {pathlib.Path(name).stem: Entry(file, e) for name, e in entries}
    return found


def _read_boxes(file):
    """Per phrase's number the boxes of an XML file; pixels count from 1."""
    try:
        tree = ET.parse(file)
        width, height = (int(tree.findtext(f"size/{x}")) for x in ("width", "height"))
        by_phrase = {}
        for thing in tree.iter("object"):
            box = thing.find("bndbox")
            if box is None:  # the whole scene, or nothing that can be seen
                continue
            ends = (int(box.findtext(x)) for x in ("ymin", "xmin", "ymax", "xmax"))
            top, left, bottom, right = ends
            relative = _box(
                *((top - 1) / height, (left - 1) / width),
                *(bottom / height, right / width),
            )
            for name in thing.iter("name"):
                by_phrase.setdefault(name.text, []).append(relative)
    except (ET.ParseError, TypeError, ValueError, ZeroDivisionError) as error:
        raise _broken(file, error) from error
    return by_phrase


def _parts(caption):
    """The text of a JSON caption in parts, each with its boxes."""
    tokens, parts, at = caption["tokens"], [], 0
    for phrase in sorted(caption["phrases"], key=lambda phrase: phrase["first"]):
        first, end = phrase["first"], phrase["first"] + phrase["length"]
        if not at <= first < end <= len(tokens):
            raise ValueError(f"phrase of tokens {first} to {end - 1}")
        boxes = [_box(y1, x1, y2, x2) for x1, y1, x2, y2 in phrase["boxes"]]
        parts += [(" ".join(tokens[at:first]), ())]
        parts += [(" ".join(tokens[first:end]), () if phrase["ambiguous"] else boxes)]
        at = end
    return [*parts, (" ".join(tokens[at:]), ())]


def _sentence(parts):
    """A `Sentence` of its parts, `(text, boxes)` each."""
    letters, heads = "", []
    for text, boxes in parts:
        own = _letters(tokenise(text))
        letters += own
        if own and boxes:
            heads.append((len(letters), boxes))
    return Sentence(letters, tuple(heads))


def _letters(words):
    return "".join(c for word in words for c in word if c.isalnum())


def _box(*ends):
    """Relative ends, within the image; ValueError if there is nothing between them."""
    ymin, xmin, ymax, xmax = (min(max(float(end), 0.0), 1.0) for end in ends)
    if not (ymin < ymax and xmin < xmax):
        raise ValueError(f"a box of no area, {ends}")
    return ymin, xmin, ymax, xmax


def _broken(file, why):
    return ValueError(
        "Expected boxes of phrases as Flickr30k Entities has them. "
        f"Received: {file}, which cannot be read: {why}. Take the files as they were "
        "published, or remove them to go on without boxes."
    )
