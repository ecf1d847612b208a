"""The work on one part of an archive; it knows no engine.

It may be done twice, or twice at a time, or be killed at any moment: a part is written
as a whole, and what is written is the same every time.
"""

import json
from typing import NamedTuple

import tensorflow as tf

from sat_tf import images as image_files
from sat_tf.archive import files, models, plan, readers


class Task(NamedTuple):
    """What a worker has to know. Small: engines send it about."""

    prefix: str
    """Of the output, an absolute path or an address that every worker reaches."""
    model: str
    """The folder of the SavedModel, likewise."""
    batch_size: int
    """Images captioned at once."""
    plan: str
    """`identity` of the plan: a worker may still know one that was there before."""


class Counts(NamedTuple):
    """What became of the images of a part."""

    captions: int
    bad: int


def caption_part(task, number):
    """Captions one part and writes it: what every engine does on its workers.

    The dead letters are written before the captions, whose file says that all is done.

    Args:
        task: a `Task`. number: of the part, from 0.

    Returns:
        the `Counts` of this part.
    """
    archive = plan.read_once(task.prefix, task.plan)
    names, parts = archive.parts[number], len(archive.parts)
    captioner, rows = models.load(task.model, archive.digest), []
    for batch in readers.batches(names, archive.folder, task.batch_size):
        rows += caption_items(captioner, batch)
    good = [row for row in rows if "error" not in row]
    bad = [row for row in rows if "error" in row]
    bad_path = plan.bad_path(task.prefix, number, parts)
    if bad:
        files.write(bad_path, _lines(bad))
    else:
        files.remove(bad_path)  # of a killed attempt, before somebody mended the files
    files.write(plan.captions_path(task.prefix, number, parts), _lines(good))
    return Counts(len(good), len(bad))


def _lines(rows):
    """JSON, one a line."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def caption_items(captioner, items):
    """A JSON-ready row of each item, in order: a caption, or `image` and `error`.

    Args:
        captioner: see `models.load`.
        items: list of `readers.Item`.
    """
    rows = dict(enumerate(_refused(item, item.error) for item in items))
    readable = {i: item for i, item in enumerate(items) if not item.error}
    rows |= _answers(captioner, readable)
    # What the graph cannot read, Pillow may: WebP, TIFF and other kinds of BMP.
    again = {}
    for i, item in readable.items():
        if "error" in rows[i]:
            contents, error = _look_again(item)
            if contents:
                again[i] = item._replace(contents=contents)
            rows[i] = _refused(item, error or rows[i]["error"])
    rows |= _answers(captioner, again)
    return list(rows.values())


def _refused(item, error):
    return {"image": item.name, "error": error}


def _look_again(item):
    """A refused file as a PNG, if Pillow reads it; else what `sat-tf caption` says."""
    try:
        contents = image_files.to_decodable(item.contents, item.name)
        image_files.load(contents, mode="squash", name=item.name)
    except ValueError as error:
        return None, str(error)
    return (contents if contents != item.contents else None), None


def _answers(captioner, items):
    """Rows of items by number, captioned as one batch."""
    if not items:
        return {}
    try:
        outputs = captioner([item.contents for item in items.values()])
    except tf.errors.InvalidArgumentError as error:
        # A SavedModel of somebody else's that fails where ours say what is wrong.
        if len(items) > 1:
            return {
                i: row
                for i, item in items.items()
                for row in _answers(captioner, {i: item}).values()
            }
        reason = error.message.partition("\n")[0]
        return {i: _refused(item, reason) for i, item in items.items()}
    return {
        i: _row(item, {name: values[b] for name, values in outputs.items()})
        for b, (i, item) in enumerate(items.items())
    }


def _row(item, said):
    if said["error"]:
        return _refused(item, said["error"].decode())
    spoken = slice(0, int(said["length"]))
    return {
        "image": item.name,
        "caption": said["caption"].decode(),
        "score": float(said["score"]),
        "words": [word.decode() for word in said["words"][spoken]],
        "locations": said["locations"][spoken].tolist(),
    }
