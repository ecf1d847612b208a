"""From the rows of caption files to one `Record` per image, each in a split."""

import collections
import dataclasses
import pathlib

from sat_tf.datasets.image_index import plain
from sat_tf.datasets.records import Record, with_words
from sat_tf.datasets.rows import said
from sat_tf.datasets.split_names import (
    ACCEPTED,
    hashed_split,
    share_out,
    split_name,
    two_meanings,
)
from sat_tf.vocabulary import tokenise


def group(rows, index):
    """Records of `Row`s, in their order.

    An image without a split has that of its other rows; where no row names any, that
    of the folder it lies in, where all lie in folders so called; else a hashed one.
    Without a validation split, a hash takes some images of train for it.

    Raises:
        ValueError: the name of a split is not known, or only some of the folders are
            named after one.
    """
    found = _find(dict.fromkeys(row.name for row in rows), index)
    # Rows that name one file differently are of one image.
    keys = [found[row.name][0] or plain(row.name) for row in rows]
    names, problems, parts = {}, {}, {}
    for key, row in zip(keys, rows, strict=True):
        names.setdefault(key, plain(row.name))
        problems[key] = found[row.name][1]
    named = _named_splits(keys, rows)
    splits = {key: split for key, split in zip(keys, named, strict=True) if split}
    splits = splits or _split_folders(names, index)
    hashed = _hashed_splits(keys, rows, names, splits)
    for key, row, split in zip(keys, rows, named, strict=True):
        split = split or splits.get(key) or hashed[key]
        parts.setdefault((key, split), []).append(row)
    records = [
        _record(
            part,
            name=plain(part[0].name),
            split=split,
            path=None if problems[key] else key,
            problem=problems[key],
            chosen_from=None if key in splits else "",
        )
        for (key, split), part in parts.items()
    ]
    return _with_validation(records)


def _record(rows, problem, **known):
    rows = [row for row in rows if row.caption is not None]
    captions, empty = with_words([row.caption for row in rows])
    return Record(
        captions=captions,
        empty=tuple(rows[i].place for i in empty),
        problem=problem or (None if captions else "without captions"),
        **known,
    )


def _find(names, index):
    """Per name its file and None, or None and why there is none."""
    found = {name: index.find(name) for name in names}
    with_folder = {plain(name): found[name] for name in names if "/" in plain(name)}
    claims = collections.Counter(f[0] for f in with_folder.values() if len(f) == 1)
    answers = {}
    for name, paths in found.items():
        # Taken for its base name alone, though others name their folder as well.
        if len(paths) == 1 and "/" in plain(name) and claims[paths[0]] > 1:
            paths = [path for path in paths if index.is_in_folder(name, path)]
        problem = {0: "missing", 1: None}.get(len(paths), "ambiguous")
        answers[name] = (None if problem else paths[0], problem)
    return answers


def _named_splits(keys, rows):
    """Per row the split it names, or None."""
    splits = [split_name(row.split) if row.split else None for row in rows]
    unknown = {}
    if two_meanings(words := {row.split for row in rows if row.split}):
        raise ValueError(
            "Expected one word for each split. "
            f"Received: split={' and split='.join(map(repr, sorted(words)))}, where "
            "eval may mean validation or test. Call it validation or test."
        )
    for row, split in zip(rows, splits, strict=True):
        if split not in (None, *ACCEPTED):
            unknown.setdefault(split, []).append(row.place)
    if unknown:
        names = ", ".join(map(repr, unknown))
        places = said(places[0] for places in unknown.values())
        raise ValueError(
            f"Expected a split that is one of {', '.join(ACCEPTED)}, or another word "
            "for one of them, as val, dev, Training and Validierung are. "
            f"Received: {names} (first in {places}). Rename them; an image whose split "
            "is left empty gets one by a hash of its name."
        )
    return splits


def _split_folders(names, index):
    """Per file the split that a folder above it is named after, if all have one."""
    splits, others = {}, []
    for key in names:
        if isinstance(key, pathlib.Path):
            folders = index.folders(key)
            known = [s for s in map(split_name, folders) if s in ACCEPTED]
            if known:
                splits[key] = known[0]
            else:
                others.append(names[key])
    if splits and others:
        first = next(iter(splits))
        raise ValueError(
            "Expected all images in folders named after splits, or none. Received: "
            f"image={names[first]!r} in one, image={others[0]!r} and {len(others) - 1} "
            f"more not. Call the folders {', '.join(ACCEPTED)}, or name the splits in "
            "a column `split` of the caption file."
        )
    return splits


def _hashed_splits(keys, rows, names, splits):
    """A split by a hash for the images that have none."""
    unnamed = {key: name for key, name in names.items() if key not in splits}
    if splits:
        return {key: hashed_split(name) for key, name in unnamed.items()}
    # Only images that can be used fill a split.
    usable = {
        names[key]
        for key, row in zip(keys, rows, strict=True)
        if isinstance(key, pathlib.Path) and row.caption and tokenise(row.caption)
    }
    shared = share_out(usable or names.values(), ("train", "validation", "test"))
    return {key: shared.get(name, "train") for key, name in unnamed.items()}


def _with_validation(records):
    """With a validation split taken from train, if there is none."""
    if any(record.split == "validation" for record in records):
        return records
    usable = [r.name for r in records if r.split == "train" and not r.problem]
    shared = share_out(usable, ("train", "validation"))
    return [
        dataclasses.replace(record, split="validation", chosen_from="train")
        if record.split == "train" and shared.get(record.name) == "validation"
        else record
        for record in records
    ]
