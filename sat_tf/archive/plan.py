"""The plan of an archive: which image is in which part, and where a part is written.

It is written once, as `PREFIX-plan.json`. A repeated command finds the same parts, even
if images were added to the folder in the mean time.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re

from sat_tf.archive import files
from sat_tf.runtime.files import whole

FORMAT = 1
_RECORDS = ".tfrecord"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How an archive is cut into parts.

    Attributes:
        pattern: what the files match, an absolute path or an address.
        folder: what relative names are relative to.
        model: the name of the captioner, as it was given.
        digest: which captioner that was, see `models.Model`.
        part_size: of how many image files a part is made.
        parts: names of files, one tuple a part. A file of TFRecords is a part.
    """

    pattern: str
    folder: str
    model: str
    digest: str
    part_size: int
    parts: tuple

    @property
    def identity(self):
        """A digest by which two plans are told apart."""
        return hashlib.sha256(repr(self).encode("utf-8", "surrogateescape")).hexdigest()


def make(pattern, model, part_size):
    """A new `Plan` of the files that match a pattern now.

    Args:
        pattern: as it was given.
        model: a `models.Model`.
        part_size: see `Plan`.

    Raises:
        ValueError: no file matches.
    """
    names = files.match(pattern)
    if not names:
        hint = "Check the path, and quote the pattern."
        if os.path.isdir(pattern):
            inside = os.path.join(pattern, "**", "*.jpg")
            hint = f"It is a folder; say which files in it: '{inside}'."
        raise ValueError(
            f"Expected a pattern that files match. Received: {pattern!r}. {hint}"
        )
    return Plan(
        pattern=files.absolute(pattern),
        folder=os.getcwd(),
        model=model.name,
        digest=model.digest,
        part_size=part_size,
        parts=tuple(_parts(names, part_size)),
    )


def _parts(names, size):
    images = [name for name in names if not has_records(name)]
    for first in range(0, len(images), size):
        yield tuple(images[first : first + size])
    yield from ((name,) for name in names if has_records(name))


def has_records(name):
    """Whether a file is one of TFRecords, by its name."""
    return _RECORDS in os.path.basename(name)


def path_of(prefix):
    """Where the plan of an archive is."""
    return f"{prefix}-plan.json"


def write(plan, prefix):
    """Keeps a plan."""
    values = {"format": FORMAT, **dataclasses.asdict(plan)}
    files.write(path_of(prefix), (json.dumps(values, indent=1) + "\n").encode())


def read(prefix):
    """The plan of an archive, `None` if it has not been begun."""
    path = path_of(prefix)
    if not files.exists(path):
        return None
    fix = "Restore it, or remove it and the parts beside it."
    with whole(path, "a plan as it was written", fix):
        values = dict(json.loads(files.read(path)))
        if values.pop("format") != FORMAT:
            raise ValueError(
                f"Expected a plan in format {FORMAT}. Received: {path} in another. "
                "Finish it with the version of sat_tf that began it."
            )
        parts = tuple(map(tuple, values.pop("parts")))
        return Plan(**values, parts=parts)


@functools.lru_cache(maxsize=1)
def read_once(prefix, digest):
    """As `read`, once in a process: the plan of a large archive takes a while.

    Args:
        prefix: of the archive. digest: of the plan, as another may take its place.
    """
    del digest
    return read(prefix)


def refuse_another(plan, prefix, pattern, model, part_size):
    """Raises `ValueError` if this is not the command that began the archive.

    Args:
        plan: the `Plan` that is there.
        prefix: where it is.
        pattern: as it was given now. model: a `models.Model`. part_size: see `Plan`.
    """
    differs = []
    if files.absolute(pattern) != plan.pattern:
        differs.append(f"PATTERN {pattern!r}, which was {plan.pattern!r}")
    if model.digest != plan.digest and model.name != plan.model:
        differs.append(f"--model {model.name}, which was {plan.model}")
    elif model.digest != plan.digest:
        differs.append(f"--model {model.name}, which has changed since")
    if part_size != plan.part_size:
        differs.append(f"--part-size {part_size}, which was {plan.part_size}")
    if differs:
        raise ValueError(
            f"Expected the command that began {path_of(prefix)}. "
            f"Received: {'; '.join(differs)}. Repeat the command as it was, or choose "
            "another --out."
        )


# ------------------------------------------------------------------ files of the parts


def captions_path(prefix, number, parts):
    """Where the captions of a part are; it is finished if this file exists."""
    return f"{prefix}{_suffix(number, parts)}"


def bad_path(prefix, number, parts):
    """Where the dead letters of a part are, if there are any."""
    return f"{prefix}-bad{_suffix(number, parts)}"


def all_captions(prefix, parts):
    """What matches the captions of all parts in a shell, and of no other prefix."""
    return f"{prefix}-{'?' * _width(parts)}-of-{parts:0{_width(parts)}}.jsonl"


def _suffix(number, parts):
    return f"-{number:0{_width(parts)}}-of-{parts:0{_width(parts)}}.jsonl"


def _width(parts):
    return max(5, len(str(parts)))


def missing(prefix, parts):
    """Numbers of the parts that are not finished, of `parts` parts in all."""
    finished = _there(prefix, captions_path, parts)
    return [number for number in range(parts) if number not in finished]


def dead(prefix, parts):
    """Numbers of the parts that have dead letters."""
    return sorted(_there(prefix, bad_path, parts))


def _there(prefix, path_of, parts):
    """Numbers of the parts that have a file.

    Files are known by their whole names: other prefixes may begin with this one.
    """
    paths = files.beginning_with(prefix, "-*.jsonl")
    found = set(map(os.path.basename, paths))
    return {
        number
        for number in range(parts)
        if os.path.basename(path_of(prefix, number, parts)) in found
    }


def remove_unfinished(prefix):
    """Removes what `files.write` left where it was killed."""
    name = re.escape(os.path.basename(prefix))
    file = r"(plan\.json|(bad-)?\d+-of-\d+\.jsonl)"
    ours = re.compile(rf"{name}-{file}\.[0-9a-f]+{re.escape(files.UNFINISHED)}")
    for path in files.beginning_with(prefix, "-*" + files.UNFINISHED):
        if ours.fullmatch(os.path.basename(path)):
            files.remove(path)
