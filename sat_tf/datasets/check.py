"""What is in a data set, and what is wrong with it, before hours are spent on it."""

import collections
import contextlib
import dataclasses
import hashlib

import tensorflow as tf
import tqdm

from sat_tf import datasets, images
from sat_tf.datasets import records
from sat_tf.datasets.prepared import no_split
from sat_tf.datasets.rows import Place
from sat_tf.datasets.split import read_split
from sat_tf.datasets.split_names import ACCEPTED, split_name
from sat_tf.recipes import RECIPES
from sat_tf.vocabulary import UNK, Vocabulary

_SHOWN = 5


@dataclasses.dataclass
class Report:
    """Findings about one data set. Lists hold image names as the captions have them.

    Attributes:
        data: name or path.
        errors: what `train` refuses the data for, in its words.
        warnings: what it leaves out, and goes on without.
        notes: what was decided in the data's stead.
        splits: per split, the number of usable `images` and their `captions`.
        in_two_splits: an error; nothing can be trained on such data.
        same_content: pairs of names with the very same file, in different splits.
        missing: listed, but not found.
        ambiguous: several files have the name.
        undecodable: found, but not an image.
        without_captions: images that no caption speaks of.
        empty_captions: images with an empty caption.
        duplicate_captions: images that have one caption twice.
        vocabulary_size: distinct words in the training captions, cut at `max_size`.
        coverage: per split, the share of its words that the vocabulary holds.
    """

    data: str
    errors: list = dataclasses.field(default_factory=list)
    warnings: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)
    splits: dict = dataclasses.field(default_factory=dict)
    in_two_splits: list = dataclasses.field(default_factory=list)
    same_content: list = dataclasses.field(default_factory=list)
    missing: list = dataclasses.field(default_factory=list)
    ambiguous: list = dataclasses.field(default_factory=list)
    undecodable: list = dataclasses.field(default_factory=list)
    without_captions: list = dataclasses.field(default_factory=list)
    empty_captions: list = dataclasses.field(default_factory=list)
    duplicate_captions: list = dataclasses.field(default_factory=list)
    vocabulary_size: int = 0
    coverage: dict = dataclasses.field(default_factory=dict)

    @property
    def ok(self):
        """Whether training can start."""
        return not self.errors

    def to_dict(self):
        """The findings for JSON, with `ok`."""
        return {"ok": self.ok, **dataclasses.asdict(self)}

    def lines(self):
        """The findings as lines of text."""
        yield f"{self.data}: {'ok' if self.ok else 'cannot be trained on'}"
        for split, counts in self.splits.items():
            coverage = self.coverage.get(split)
            covered = "" if coverage is None else f", {coverage:.1%} of words known"
            yield (
                f"  {split}: {counts['images']} images, "
                f"{counts['captions']} captions{covered}"
            )
        if self.vocabulary_size:
            yield f"  vocabulary: {self.vocabulary_size} words from train"
        for kind in ("errors", "warnings", "notes"):
            for text in getattr(self, kind):
                yield f"  {kind[:-1].upper()}: {text}"
        for title, found, fix in [
            ("in two splits", self.in_two_splits, "keep each in one"),
            ("same file in two splits", self.same_content, "remove one of each"),
            ("missing", self.missing, "add them, or go on without"),
            (
                "ambiguous",
                self.ambiguous,
                "say the folder too, as in a/x.jpg",
            ),
            ("undecodable", self.undecodable, "save anew as JPEG or PNG"),
            ("without captions", self.without_captions, "left out"),
            ("with a caption twice", self.duplicate_captions, "kept; remove one"),
        ]:
            if found:
                shown = ", ".join(map(str, found[:_SHOWN]))
                more = ", ..." if len(found) > _SHOWN else ""
                yield f"  {title}: {len(found)} images ({shown}{more}): {fix}"


def check(data, data_dir=None, *, max_size=10_000):
    """Read all of a data set, every image included, and report.

    Args:
        data, data_dir: as for `datasets.load`. Files are read where they are, nothing
            is prepared; data sets without files of their own are prepared first.
        max_size: of the vocabulary whose coverage is reported.

    Returns:
        A `Report`; what `train` would refuse the data for is in its `errors`.

    Raises:
        ValueError: there is no such data set or path.
    """
    source = datasets.source_of(data, data_dir)
    report = Report(str(data))
    try:
        found, read = _open(data, data_dir, source)
    except ValueError as error:
        report.errors.append(str(error))
        return report
    report.warnings += records.complaints(found)
    report.notes += records.notes(found)
    report.in_two_splits += records.in_two_splits(found)
    with _refusals(report):
        records.refuse_leaks(found)
    captions = _read_images(report, found, read)
    for split in ("train", "validation"):
        if split not in report.splits:
            report.errors.append(str(no_split(data, split, report.splits)))
    _cover(report, captions, max_size)
    return report


@contextlib.contextmanager
def _refusals(report):
    """Puts an error that `train` stops at into the report."""
    try:
        yield
    except ValueError as error:
        report.errors.append(str(error))


def _open(data, data_dir, source):
    """Records of a data set and the iterable that reads their images."""
    if source is not None:
        builder, path = source
        found = builder.read_records(path)
        return found, records.read_all(found)
    builder = datasets.prepare(data, data_dir)
    splits = [read_split(builder, str(data), split) for split in builder.info.splits]
    found = [
        _record(split, name, texts)
        for split in splits
        for name, texts in zip(split.file_names, split.captions, strict=True)
    ]
    contents = (contents for split in splits for contents in split.images)
    return found, map(_read_prepared, found, contents)


def _record(split, name, texts):
    captions, empty = records.with_words(texts)
    place = Place(split.name, "image", name)
    return records.Record(
        name=name,
        split=split_name(split.split),
        captions=captions,
        empty=(place,) * len(empty),
        problem=None if captions else "without captions",
    )


def _read_prepared(record, contents):
    try:
        images.decode(contents)
    except tf.errors.InvalidArgumentError:
        return record, None, "undecodable"
    return record, contents.numpy(), record.problem


def _read_images(report, found, read):
    """Counts what the images and captions are like; the captions per split."""
    order = dict.fromkeys([*ACCEPTED, *(record.split for record in found)])
    there = {record.split for record in found}
    report.splits = {s: {"images": 0, "captions": 0} for s in order if s in there}
    captions = collections.defaultdict(list)
    problems = collections.defaultdict(lambda: collections.defaultdict(list))
    contents_seen = {}
    for record, contents, problem in tqdm.tqdm(read, total=len(found), unit="image"):
        if problem:
            getattr(report, problem.replace(" ", "_")).append(record.name)
            problems[record.split][problem].append(record.name)
        else:
            report.splits[record.split]["images"] += 1
            report.splits[record.split]["captions"] += len(record.captions)
            captions[record.split] += record.captions
        if contents:
            content = hashlib.sha256(contents).digest()
            first = contents_seen.setdefault(content, record)
            if first.split != record.split and first.name != record.name:
                report.same_content.append((first.name, record.name))
        if record.empty:
            report.empty_captions.append(record.name)
        if len(set(record.captions)) < len(record.captions):
            report.duplicate_captions.append(record.name)
    for split, names in problems.items():
        with _refusals(report):
            records.left_out(names, split, report.splits[split]["images"])
    return captions


def _cover(report, captions, max_size):
    if not captions["train"]:
        return
    vocabulary = Vocabulary.from_captions(captions["train"], max_size)
    report.vocabulary_size = len(vocabulary)
    for split, texts in captions.items():
        ids = [i for text in texts for i in vocabulary.encode(text)[:-1]]
        report.coverage[split] = 1 - ids.count(UNK) / max(1, len(ids))
    for min_count in sorted({r.data.min_count for r in RECIPES.values()}):
        try:
            Vocabulary.from_captions(captions["train"], max_size, min_count)
        except ValueError as error:
            names = [n for n, r in RECIPES.items() if r.data.min_count == min_count]
            report.warnings.append(
                f"With the recipe {' or '.join(names)} as it is, train refuses this: "
                f"{error}"
            )
