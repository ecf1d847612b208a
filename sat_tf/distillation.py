"""Distillation: a captioner learns what another says, beside what people say.

What a teacher says of the training images with all its means (a search over many beams,
the consensus among them, its detector) is taught as more captions of them: knowledge
distillation on the level of sequences (Kim & Rush 2016). People say one thing in many
ways, and a small decoder that owes each of them a share says none of them well; a
teacher says it in a few.
"""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

from sat_tf import storage
from sat_tf.captioner import ShowAttendTell
from sat_tf.decoding.consensus import LONGEST, agreement
from sat_tf.evaluation import cached_inputs, predict
from sat_tf.vocabulary import PAD

# Beams are short, and by a plain F measure the shortest agree best: on Flickr8k the
# five best then have 9.3 words, with these 9.8, as people's have 10.9.
PEOPLE = 3.0
RECALL = 4.0


def fingerprint(teacher):
    """Of a captioner's files: a run must not change its teacher half-way.

    Args:
        teacher: a shipped captioner's name, a run, or a saved folder.

    Raises:
        ValueError: there is none.
    """
    try:
        folder = storage.find(teacher)
    except ValueError as error:
        raise ValueError(
            "Expected teacher to be a trained captioner. "
            f"Received: teacher={str(teacher)!r}, where none is. Train it first, as "
            f"the preset flickr with --out {teacher}, or name yours with --set "
            "teacher=RUN."
        ) from error
    digest = hashlib.sha256()
    for name in ("config.json", "weights.npz"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def teacher_captions(
    split, teacher, count, *, cache_dir, encoder_weights=None, progress=True
):
    """The beams of a teacher, decoding as it does by default, that are worth learning.

    Those with the greatest `score + PEOPLE * agreement with people`: what it would say
    anyway, and what people did say of the image.

    Args:
        split: a `datasets.Split`.
        teacher: as `fingerprint` takes it; one that decodes by consensus. Its features
            come from the same cache as the student's: it must have the same trunk and
            `resize_mode`.
        count: captions per image.
        cache_dir: see `cached_inputs`.
        encoder_weights: a path, for a teacher that was saved without its encoder.
        progress: whether to show a bar.

    Returns:
        image name -> list of `count` captions, or of as many as there are, best first.

    Raises:
        ValueError: the teacher has no consensus, or fewer beams than `count`.
    """
    captioner = ShowAttendTell.from_preset(teacher, encoder_weights=encoder_weights)
    options = captioner.options()
    if options.width == 1 or options.consensus is None:
        raise ValueError(
            "Expected a teacher that decodes by consensus, as its beams are compared. "
            f"Received: teacher={str(teacher)!r}. Train it with, say, "
            "--set beam=40 --set consensus=0.3, as the preset flickr does."
        )
    if not 1 <= count <= options.width:
        raise ValueError(
            f"Expected teacher_captions from 1 to {options.width}, the beams that "
            f"{str(teacher)!r} keeps. Received: teacher_captions={count}. "
            "Ask for fewer, or train a teacher with more beams."
        )
    inputs, key = cached_inputs(captioner, split, cache_dir)
    label = f"captions by {teacher}" if progress else None
    said = predict(captioner, inputs, key, options, progress=label)
    encode = captioner.vocabulary.encode
    return {
        name: _best(caption.beams, people, count, encode)
        for name, caption, people in zip(
            split.file_names, said, split.captions, strict=True
        )
    }


def _best(beams, people, count, encode):
    captions = [beam.caption for beam in beams]
    said, heard = (_padded([encode(c) for c in each]) for each in (captions, people))
    agreed = tf.reduce_mean(agreement(said, heard, RECALL)[0], axis=-1).numpy()
    scores = [beam.score for beam in beams] + PEOPLE * agreed
    return [captions[k] for k in np.argsort(-scores, kind="stable")[:count]]


def _padded(rows):
    """Rows of ids as the tokens of one image, `[K, 1, T]`."""
    tokens = np.full((len(rows), 1, max(LONGEST, *map(len, rows))), PAD, "int32")
    for row, ids in zip(tokens, rows, strict=True):
        row[0, : len(ids)] = ids
    return tf.constant(tokens)


def taught(split, said):
    """The split with a teacher's captions behind those of people.

    Args:
        split: a `datasets.Split`.
        said: what `teacher_captions` returns.
    """
    captions = tuple(
        (*own, *said[name])
        for name, own in zip(split.file_names, split.captions, strict=True)
    )
    regions = tuple(
        (*own, *[None] * len(said[name]))
        for name, own in zip(split.file_names, split.regions, strict=True)
    )
    # The fingerprints stay: the images, which are cached by theirs, are the same.
    return dataclasses.replace(split, captions=captions, regions=regions)
