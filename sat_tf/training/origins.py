"""What a run learns from, noted when it begins: it resumes with nothing else."""

import json

import numpy as np

from sat_tf.datasets.texts import Captions, Texts
from sat_tf.runtime.files import replacing, whole

_SHOWN = 5  # words that a message names
_NOTE, _IMAGES = "origins.json", "origins.npz"


def noted(folder):
    """Whether there is a note in the folder of a run."""
    return (folder / _NOTE).is_file()


def note(folder, vocabulary, splits):
    """Notes what tells words, captions and images of a run from any others.

    `origins.json` has the words in the order of their ids, and the fingerprint of each
    split; `origins.npz` the name and the digests of every image, which are looked at
    only when a fingerprint is another one, to say what has changed.

    Args:
        folder: of the run.
        vocabulary: a `Vocabulary`.
        splits: list of `datasets.Split`.
    """
    arrays = {}
    for split in splits:
        names = Texts.of(split.file_names)
        arrays |= {
            f"{split.split}/names": names.characters,
            f"{split.split}/starts": names.starts,
            f"{split.split}/captions": Captions.of(split.captions).digests,
            f"{split.split}/files": split.image_digests,
        }
    with replacing(folder / _IMAGES) as beside, open(beside, "wb") as file:
        np.savez(file, **arrays)
    images = {split.split: split.fingerprint for split in splits}
    text = json.dumps({"words": list(vocabulary.words), "images": images})
    with replacing(folder / _NOTE) as beside:
        beside.write_text(text + "\n")


def differences(folder, vocabulary, splits):
    """What words and data differ in from the note in a folder, a few words each."""
    fix = "Copy it again, or choose another --out to train anew."
    with whole(folder / _NOTE, f"{_NOTE} as a run writes it", fix) as path:
        old = json.loads(path.read_text())
        old = {name: old[name] for name in ("words", "images")}
    found = _of_words(old["words"], list(vocabulary.words))
    for split in splits:
        name, images = split.split, old["images"].get(split.split, {})
        if images == split.fingerprint:
            continue
        if isinstance(images, str):
            images = _read(folder, name)
        captions = Captions.of(split.captions).digests
        new = _digests(split.file_names, captions, split.image_digests)
        found += [f"{what} in {name}" for what in _of_images(images, new)]
    return found


def _read(folder, split):
    """Image name -> digests, of a split that was noted."""
    with np.load(folder / _IMAGES) as arrays:
        kinds = ("names", "starts", "captions", "files")
        names, starts, *digests = (arrays[f"{split}/{kind}"] for kind in kinds)
    return _digests(Texts(names, starts), *digests)


def _digests(names, captions, files):
    """Image name -> digest of its captions and of its encoded file, in hexadecimal.

    As runs of earlier versions have it in their note.
    """
    rows = zip(names, captions.tolist(), files.tolist(), strict=True)
    return {name: [f"{text:016x}", f"{file:016x}"] for name, text, file in rows}


def _of_words(old, new):
    added, removed = (
        [word for word in some if word not in other]
        for some, other in ((new, set(old)), (old, set(new)))
    )
    found = [
        f"words {what}: {', '.join(words[:_SHOWN])}"
        + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")
        for what, words in (("added", added), ("removed", removed))
        if words
    ]
    if not found and old != new:
        moved = [pair for pair in zip(old, new, strict=True) if len(set(pair)) > 1]
        found = ["words with other ids: " + ", ".join(w for w, _ in moved[:_SHOWN])]
    return found


def _of_images(old, new):
    both = [name for name in new if name in old]
    for what, names in (
        ("added", [name for name in new if name not in old]),
        ("removed", [name for name in old if name not in new]),
        ("with other captions", [n for n in both if old[n][0] != new[n][0]]),
        ("with other pixels", [n for n in both if old[n][1] != new[n][1]]),
        ("in another order", both if both != [n for n in old if n in new] else []),
    ):
        if names:
            kind = "image" if len(names) == 1 else "images"
            yield f"{len(names)} {kind} {what}, e.g. {names[0]},"
