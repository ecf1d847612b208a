"""What a run learns from, noted when it begins: it resumes with nothing else."""

import hashlib

_SHOWN = 5  # words that a message names


def note(vocabulary, splits):
    """JSON values that tell words, captions and images of a run from any others.

    Args:
        vocabulary: a `Vocabulary`.
        splits: list of `datasets.Split`.

    Returns:
        `words`, in the order of their ids, and `images`: split -> image name -> digest
        of its captions and of its encoded file.
    """
    return {
        "words": list(vocabulary.words),
        "images": {split.split: _digests(split) for split in splits},
    }


def _digests(split):
    texts = [hashlib.sha256(repr(t).encode()).hexdigest()[:16] for t in split.captions]
    rows = zip(split.file_names, texts, split.image_digests, strict=True)
    return {name: [text, f"{file:016x}"] for name, text, file in rows}


def differences(old, new):
    """What two notes differ in, a few words each; an empty list if in nothing."""
    found = _of_words(old["words"], new["words"])
    for split, images in new["images"].items():
        found += [f"{what} in {split}" for what in _of_images(old, images, split)]
    return found


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


def _of_images(old, new, split):
    old = old["images"].get(split, {})
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
