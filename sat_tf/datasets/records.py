"""Images on disk with their captions, whatever file listed them."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import pathlib
import warnings

import tensorflow as tf

from sat_tf import images
from sat_tf.datasets import entities, schema
from sat_tf.datasets.rows import said
from sat_tf.datasets.split_names import ACCEPTED
from sat_tf.vocabulary import tokenise

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
        entities: what says which boxes the captions' phrases have, see `entities`;
            None where they are unknown.
        chosen_from: None where the data name the split; `""` where nothing was named
            and a hash chose, `train` where the hash took it out of that.
    """

    name: str
    split: str
    captions: tuple
    empty: tuple = ()
    path: pathlib.Path | None = None
    problem: str | None = None
    entities: object = None
    chosen_from: str | None = None


def with_words(captions):
    """The captions that have words, and the indices of those that have none."""
    worded = [bool(tokenise(caption)) for caption in captions]
    kept = (c.strip() for c, has in zip(captions, worded, strict=True) if has)
    return tuple(kept), [i for i, has in enumerate(worded) if not has]


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
    """Hash of names, captions, splits, boxes, places, sizes and times of `records`."""
    digest = hashlib.sha256()
    for record in records:
        stat = record.path.stat() if record.path else None
        state = (stat.st_size, stat.st_mtime_ns) if stat else None
        content = record.name, record.split, record.captions, record.path, state
        digest.update(repr((*content, record.entities)).encode())
    return digest.hexdigest()


def examples(records, split):
    """Yield `(key, example)` of `schema.features()` for the usable records of a split.

    Images that are missing, broken or without captions are left out with one counted
    warning, and so are the boxes of sentences that are no captions.

    Raises:
        ValueError: no usable image is left, or a file of boxes is broken.
    """
    records = [record for record in records if record.split == split]
    problems = collections.defaultdict(list)
    strange, n_good = collections.Counter(), 0
    for record, contents, problem in read_all(records):
        if problem:
            problems[problem].append(record.name)
        else:
            n_good += 1
            example, n_strange = _example(record, contents)
            strange.update({record.name: n_strange})
            yield record.name, example
    if problems:
        message = left_out(problems, split, n_good)
        warnings.warn(message, stacklevel=2)
    if strange := +strange:
        warnings.warn(
            "Left out the boxes of some sentences: expected each to be a caption of "
            f"its image in split {split!r}. Received: {strange.total()} that are not "
            f"({', '.join(list(strange)[:3])}{', ...' if len(strange) > 3 else ''}). "
            "Take captions and boxes of one publication, or go on without.",
            stacklevel=2,
        )


def examples_by_beam(records, split):
    """What `examples` yields, as an `apache_beam.PTransform`: any worker reads any.

    It leaves out the same images, of which `warn_of_fewer` then warns.
    """
    import apache_beam as beam

    def usable(record):
        record, contents, problem = _read(record)
        if not problem:
            yield record.name, _example(record, contents)[0]

    records = [record for record in records if record.split == split]
    return beam.Create(records) | beam.FlatMap(usable)


def warn_of_fewer(split, n_good, n_listed):
    """Warns of images that a split was prepared without, where there are some."""
    if n_good < n_listed:
        warnings.warn(
            "Left out some images: expected images that can be read and have captions "
            f"in split {split!r}. Received: {n_good} of {n_listed}. Mend the others, "
            "which `sat-tf check-data` lists, or go on without.",
            stacklevel=2,
        )


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
    """The example of a record, and how many annotated sentences fit no caption."""
    regions, n_strange = entities.regions_of(record)
    captions = [
        {"text": text, "regions": schema.regions(words or [])}
        for text, words in zip(record.captions, regions, strict=True)
    ]
    example = {"image": contents, "file_name": record.name, "captions": captions}
    return example, n_strange


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
