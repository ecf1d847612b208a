"""Images on disk with their captions, whatever file listed them."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import pathlib
import warnings

import tensorflow as tf

from sat_tf import images
from sat_tf.datasets.image_index import ImageIndex, plain
from sat_tf.datasets.rows import said
from sat_tf.datasets.split_names import (
    ACCEPTED,
    hashed_split,
    share_out,
    split_name,
)
from sat_tf.vocabulary import tokenise

__all__ = ["ImageIndex", "Record", "group", "hashed_split", "split_name"]

# Why an image is left out, and what to do about it.
PROBLEMS = {
    "missing": "Put the image folder beside the caption file.",
    "ambiguous": "Several files have that name: write the folder too, as in a/x.jpg.",
    "undecodable": "Save them anew as JPEG or PNG.",
    "without captions": "Write captions for them.",
}
_READERS = 4
_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Record:
    """One image of one split, as some file lists it.

    Attributes:
        name: as in the caption file, with `/` between folders.
        split: TFDS's name of it.
        captions: as written, those without words left out.
        empty: the places of those that were left out.
        path: the image file; None where it is missing or ambiguous.
        problem: one of `PROBLEMS`, or None.
        chosen_from: None where the data name the split; `""` where nothing was named
            and a hash chose, `train` where the hash took it out of that.
    """

    name: str
    split: str
    captions: tuple
    empty: tuple = ()
    path: pathlib.Path | None = None
    problem: str | None = None
    chosen_from: str | None = None


def with_words(captions):
    """The captions that have words, and the indices of those that have none."""
    worded = [bool(tokenise(caption)) for caption in captions]
    kept = (c.strip() for c, has in zip(captions, worded, strict=True) if has)
    return tuple(kept), [i for i, has in enumerate(worded) if not has]


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


def notes(records):
    """What was decided in the data's stead, in sentences."""
    counts = collections.Counter(record.split for record in records)
    hashed = collections.Counter(r.split for r in records if r.chosen_from == "")
    taken = sum(record.chosen_from == "train" for record in records)
    if hashed:
        each = ", ".join(f"{n} in {s}" for s in ACCEPTED if (n := hashed[s]))
        yield (
            f"{hashed.total()} of {len(records)} images name no split. A hash of their "
            f"file names puts {each} (of many images 90 % are in train, 5 % in "
            "validation, 5 % in test)."
        )
    if taken:
        yield (
            f"No split is called validation. A hash of the file names takes {taken} "
            f"of the {taken + counts['train']} images of train for it (of many images "
            "5 %, and one at least)."
        )


def complaints(records):
    """What was left out of the captions, in sentences."""
    empty = [place for record in records for place in record.empty]
    if empty:
        yield (
            "Expected words in every caption. "
            f"Received: {len(empty)} without, left out: {said(empty)}. Write them, or "
            "go on without."
        )


def in_two_splits(records):
    """Names, or files under several names, that occur in more than one split."""
    return list(dict.fromkeys(r.name for image in _leaks(records) for r in image))


def _leaks(records):
    """Per image that is in several splits, its records."""
    images_ = collections.defaultdict(list)
    for record in records:
        images_[record.path or record.name].append(record)
    return [found for found in images_.values() if len({r.split for r in found}) > 1]


def refuse_leaks(records):
    """Raise ValueError if an image is in two splits."""
    leaks = _leaks(records)
    if leaks:
        splits = sorted({record.split for record in leaks[0]})
        raise ValueError(
            "Expected every image in one split. "
            f"Received: {len(leaks)} in several, as image={leaks[0][0].name!r} in "
            f"{' and '.join(map(repr, splits))}. Remove them from all but one: a model "
            "must not be tested on images it was trained on."
        )


def fingerprint(records):
    """Hash of names, captions, splits, places, sizes and times of `records`."""
    digest = hashlib.sha256()
    for record in records:
        stat = record.path.stat() if record.path else None
        state = (stat.st_size, stat.st_mtime_ns) if stat else None
        content = record.name, record.split, record.captions, record.path, state
        digest.update(repr(content).encode())
    return digest.hexdigest()


def examples(records, split):
    """Yield `(key, example)` of `schema.features()` for the usable records of a split.

    Images that are missing, broken or without captions are left out with one counted
    warning.

    Raises:
        ValueError: no usable image is left.
    """
    records = [record for record in records if record.split == split]
    problems = collections.defaultdict(list)
    n_good = 0
    for record, contents, problem in read_all(records):
        if problem:
            problems[problem].append(record.name)
        else:
            n_good += 1
            yield record.name, _example(record, contents)
    if problems:
        message = left_out(problems, split, n_good)
        warnings.warn(message, stacklevel=2)


def read_all(records):
    """Yield `(record, contents, problem)`, read in parallel, in order.

    `contents` are bytes that `images.decode` reads, or None; `problem` is one of
    `PROBLEMS` or None.
    """
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        # In chunks: all at once, the pool would hold every file in memory.
        for start in range(0, len(records), _CHUNK):
            yield from pool.map(_read, records[start : start + _CHUNK])


def _read(record):
    if record.path is None:
        return record, None, record.problem
    try:
        contents = images.to_decodable(record.path.read_bytes())
        images.decode(contents)
    except (OSError, ValueError, tf.errors.InvalidArgumentError):
        return record, None, "undecodable"
    return record, contents, record.problem


def _example(record, contents):
    captions = [{"text": text, "regions": []} for text in record.captions]
    return {"image": contents, "file_name": record.name, "captions": captions}


def left_out(problems, split, n_good):
    """What is said of a split with images that cannot be used.

    Args:
        problems: per one of `PROBLEMS`, the names of the images.
        split: of them.
        n_good: how many others there are.

    Raises:
        ValueError: none.
    """
    counts = "; ".join(
        f"{len(names)} {problem} ({', '.join(names[:3])}"
        f"{', ...' if len(names) > 3 else ''})"
        for problem, names in sorted(problems.items())
    )
    fixes = " ".join(PROBLEMS[problem] for problem in sorted(problems))
    message = (
        f"images that can be read and have captions in split {split!r}. "
        f"Received: {n_good} of {n_good + sum(map(len, problems.values()))}; {counts}. "
    )
    if not n_good:
        raise ValueError(f"Expected {message}{fixes}")
    return (
        f"Left out some images: expected {message}{fixes} Or go on without; "
        "`sat-tf check-data` lists them all."
    )
