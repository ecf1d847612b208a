"""A teacher's captions, in a file that people can read and `train` takes.

What a captioner says of the training images with all its means (a search over many
beams, ranked by its rerankers) is taught to another as more captions of them: knowledge
distillation on the level of sequences (Kim & Rush 2016). People say one thing in many
ways, and a small decoder that owes each of them a share says none of them well; a
teacher says it in a few.
"""

import json
import os
import pathlib
import shutil

import numpy as np
from tqdm import tqdm

from sat_tf import datasets
from sat_tf.captioner import ShowAttendTell
from sat_tf.datasets import own
from sat_tf.datasets.image_index import ImageIndex
from sat_tf.evaluation.cider import CiderD
from sat_tf.evaluation.evaluate import cached_inputs, fingerprint, predict
from sat_tf.runtime.caches import default_cache
from sat_tf.runtime.files import alone, file_on_disk, replacing, whole
from sat_tf.vocabulary import tokenise

# Words are drawn from the softmax of log_p over this. At 1 few captions are worth
# learning, towards 0 they are those that the beams have.
TEMPERATURE = 0.8


def teach(
    teacher,
    data,
    out,
    *,
    data_dir=None,
    count=5,
    beam=None,
    draws=0,
    cache_dir=None,
    encoder_weights=None,
    progress=True,
):
    """Writes a caption file with a teacher's captions behind those of people.

    The training images get captions by the teacher: of its beams, and of captions drawn
    from it, those with the greatest CIDEr-D against people's captions. They are what it
    can say, and what people did say of this image rather than of others. Beams are
    probable and much alike; draws add words that no beam has. Images of the other
    splits get none. A call that was interrupted goes on behind the last whole round,
    the beams or one draw of all images, when it is repeated.

    Args:
        teacher: a shipped captioner's name, a run, or a saved folder.
        data, data_dir: see `datasets.load`; images in files.
        out: the caption file, `[{"taught", "file_path", "split", "captions"}]`, where
            the last so many captions are the teacher's. It is not read along with the
            others of its folder, but only where it is named. Images keep the
            names they had where they are found by them from its folder, and so what
            has been cached of them; else they get a path, relative to its folder if
            they lie below it.
        count: captions per training image.
        beam: its beams per image; by default as many as it decodes with.
        draws: captions per image drawn from it, with `TEMPERATURE`.
        cache_dir: by default `default_cache()`.
        encoder_weights: a path, for a teacher that was saved without its encoder.
        progress: whether to show a bar.

    Returns:
        how many `images` and `captions` the file has.

    Raises:
        ValueError: no such teacher or data, the data have no image files, fewer beams
            and draws than `count`, or another process is at work on the file.
    """
    out = file_on_disk(out, "the file of captions")
    _check_out(out)
    records = _records(data, data_dir)
    captioner = ShowAttendTell.from_preset(teacher, encoder_weights=encoder_weights)
    rounds = _rounds(captioner, beam, draws)
    _check(count, rounds)
    split = datasets.load(data, "train", data_dir=data_dir, cache_dir=cache_dir)
    inputs, key = cached_inputs(captioner, split, cache_dir or default_cache())
    label = f"captions by {teacher}" if progress else None
    begun = out.with_name(f"{out.name}.{_digest(captioner, split, rounds)}")
    with alone(begun):
        said = _said(captioner, inputs, key, rounds, label, begun)
        counts = _write(out, records, _best_of(split, said, count, progress))
        shutil.rmtree(begun, ignore_errors=True)
    return counts


def _records(data, data_dir):
    """The usable records of a data set that is made of files."""
    source = datasets.source_of(data, data_dir)
    if source is None:
        raise ValueError(
            "Expected data whose images are files: your own, or flickr8k or flickr30k "
            f"with --data-dir. Received: data={str(data)!r}. Give their folder."
        )
    builder, path = source
    return [r for r in builder.read_records(path) if r.path and r.captions]


def _check_out(out):
    """Refuses a file that is somebody else's: people's captions, say."""
    if out.suffix.lower() != ".json" or (out.exists() and not own.is_taught(out)):
        raise ValueError(
            "Expected a .json file that is not there, or that teach has written. "
            f"Received: out={os.fspath(out)!r}. Choose another name, say taught.json."
        )


def _rounds(captioner, beam, draws):
    """What is asked for, one after the other: beams, and a draw as often as wanted."""
    if draws < 0:
        raise ValueError(
            f"Expected draws >= 0. Received: draws={draws}. Give 0 or more."
        )
    searched = {} if beam is None else {"decoder": "beam", "beam": beam}
    drawn = captioner.options(decoder="sample", temperature=TEMPERATURE)
    return [captioner.options(**searched), *[drawn] * draws]


def _digest(captioner, split, rounds):
    """Of all that a round's captions depend on, beside its number."""
    asked = repr([split.fingerprint, *rounds[:2], captioner.get_config()])
    return fingerprint(asked, captioner.weights)[:12]


def _said(captioner, inputs, key, rounds, label, begun):
    """All captions of every image, in the order in which they were found.

    Each round is kept in the folder `begun`, and taken from there if it is there.
    """
    said = [[] for _ in range(len(inputs))]
    for number, options in enumerate(rounds):
        kept = begun / f"{number}.json"
        if not kept.exists():
            progress = label and f"{label}, {number + 1} of {len(rounds)}"
            found = predict(
                captioner, inputs, key, options, seed=number, progress=progress
            )
            texts = [[beam.caption for beam in caption.beams] for caption in found]
            with replacing(kept) as path:
                path.write_text(json.dumps(texts), "utf-8")
        with whole(kept, "captions as `teach` keeps them", "Remove it."):
            texts = json.loads(kept.read_text("utf-8"))
        for captions, more in zip(said, texts, strict=True):
            captions += more
    return said


def _check(count, rounds):
    """Refuses what would teach fewer captions than were asked for."""
    most = sum(options.width for options in rounds)
    if not 1 <= count <= most:
        raise ValueError(
            f"Expected from 1 to {most} captions, as many as the beams and the draws. "
            f"Received: captions={count}. Ask for fewer, or for more beams or draws."
        )


def _best_of(split, said, count, progress):
    """File name -> of what was said of the image, what people agree with most."""
    people = [[tokenise(text) for text in each] for each in split.captions]
    cider = CiderD(people)
    images = zip(split.file_names, said, people, strict=True)
    judged = tqdm(images, "the best of them", len(said), disable=not progress)
    return {name: _best(own, heard, count, cider) for name, own, heard in judged}


def _best(captions, people, count, cider):
    captions = [text for text in dict.fromkeys(captions) if tokenise(text)]
    agreed = cider.scores([tokenise(text) for text in captions], people)
    return [captions[k] for k in np.argsort(-np.array(agreed), kind="stable")[:count]]


def _write(out, records, taught):
    index = ImageIndex(out.absolute().parent)
    rows = []
    for record in records:
        more = taught.get(record.name, []) if record.split == "train" else []
        rows.append(
            {
                own.TAUGHT: len(more),
                "file_path": _name(record, index),
                "split": record.split,
                "captions": [*record.captions, *more],
            }
        )
    with replacing(out) as path:
        path.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return {"images": len(rows), "captions": sum(len(row["captions"]) for row in rows)}


def _name(record, index):
    path = pathlib.Path(record.path).absolute()
    if index.find(record.name) == [path]:
        return record.name
    inside = path.is_relative_to(index.root)
    return os.fspath(path.relative_to(index.root) if inside else path)
