"""Images on disk with their captions, whatever file listed them."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import pathlib
import warnings

import tensorflow as tf

from sat_tf import images

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff".split()
)
# What data sets call their splits, and what TFDS calls them.
SPLITS = {"val": "validation", "dev": "validation", "valid": "validation"}
_READERS = 4
_CHUNK = 64


@dataclasses.dataclass(frozen=True)
class Record:
    """One image of one split, as some file lists it.

    Attributes:
        name: as in the caption file.
        split: TFDS's name of it.
        captions: as written, the empty ones left out.
        n_empty: how many were left out.
        path: the image file; None where it is missing.
    """

    name: str
    split: str
    captions: tuple
    n_empty: int
    path: pathlib.Path | None


def split_name(name):
    """The TFDS name of a split: `val` and `dev` are `validation`."""
    return SPLITS.get(name.strip().lower(), name.strip().lower())


def hashed_split(name):
    """A split for an image that has none: 90% train, 5% validation, 5% test.

    It depends on the name alone, so an image stays where it is as data are added.
    """
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
    return "train" if place < 0.9 else "validation" if place < 0.95 else "test"


class ImageIndex:
    """Finds images under a folder by the name a caption file gives them."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self._by_name = collections.defaultdict(list)
        for folder, subfolders, files in os.walk(self.root):
            subfolders.sort()
            for file in sorted(files):
                if os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES:
                    self._by_name[file].append(pathlib.Path(folder, file))

    def find(self, name):
        """The file of this name: as a path, else the one so called; None: neither."""
        path = self.root / name
        if path.is_file():
            return path
        found = self._by_name.get(os.path.basename(name), [])
        return found[0] if len(found) == 1 else None


def group(rows, index):
    """Records of `(image name, caption, split)` rows, in their order.

    A caption of None lists the image alone; a split of None is that of the image's
    other rows, or a hashed one.
    """
    splits = {name: split for name, _, split in rows if split}
    captions = {}
    for name, caption, split in rows:
        split = split_name(split or splits.get(name) or hashed_split(name))
        texts = captions.setdefault((name, split), [])
        if caption is not None:
            texts.append(caption.strip())
    return [
        Record(name, split, tuple(filter(None, texts)), texts.count(""), found)
        for (name, split), texts in captions.items()
        for found in [index.find(name)]
    ]


def in_two_splits(records):
    """Names, or files under several names, that occur in more than one split."""
    splits = collections.defaultdict(set)
    for record in records:
        splits[record.path or record.name].add(record.split)
    leaks = {key for key, where in splits.items() if len(where) > 1}
    names = (r.name for r in records if (r.path or r.name) in leaks)
    return list(dict.fromkeys(names))


def refuse_leaks(records):
    """Raise ValueError if an image is in two splits."""
    leaks = in_two_splits(records)
    if leaks:
        splits = sorted({r.split for r in records if r.name == leaks[0]})
        raise ValueError(
            "Expected every image in one split. "
            f"Received: {len(leaks)} in several, as image={leaks[0]!r} in "
            f"{' and '.join(map(repr, splits))}. Remove them from all but one: a model "
            "must not be tested on images it was trained on."
        )


def fingerprint(records):
    """Hash of names, captions, splits, places, sizes and times of `records`."""
    digest = hashlib.sha256()
    for record in records:
        stat = record.path.stat() if record.path else None
        state = (stat.st_size, stat.st_mtime_ns) if stat else None
        digest.update(repr((record, state)).encode())
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
        problem = problem or (None if record.captions else "without captions")
        if problem:
            problems[problem].append(record.name)
        else:
            n_good += 1
            yield record.name, _example(record, contents)
    if problems:
        _complain(problems, split, n_good, len(records))


def read_all(records):
    """Yield `(record, contents, problem)`, read in parallel, in order.

    `contents` are bytes that `images.decode` reads, or None; `problem` is `missing`,
    `undecodable` or None.
    """
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        # In chunks: all at once, the pool would hold every file in memory.
        for start in range(0, len(records), _CHUNK):
            yield from pool.map(_read, records[start : start + _CHUNK])


def _read(record):
    if record.path is None:
        return record, None, "missing"
    try:
        contents = images.to_decodable(record.path.read_bytes())
        images.decode(contents)
    except (OSError, ValueError, tf.errors.InvalidArgumentError):
        return record, None, "undecodable"
    return record, contents, None


def _example(record, contents):
    captions = [{"text": text, "regions": []} for text in record.captions]
    return {"image": contents, "file_name": record.name, "captions": captions}


def _complain(problems, split, n_good, n_records):
    counts = "; ".join(
        f"{len(names)} {problem} ({', '.join(names[:3])}"
        f"{', ...' if len(names) > 3 else ''})"
        for problem, names in sorted(problems.items())
    )
    message = (
        f"images that can be read and have captions in split {split!r}. "
        f"Received: {n_good} of {n_records}; {counts}. "
    )
    if not n_good:
        raise ValueError(
            f"Expected {message}Put the image folder beside the caption file."
        )
    warnings.warn(
        f"Left out some images: expected {message}Repair them or go on without; "
        "`sat-tf check-data` lists them all.",
        stacklevel=2,
    )
