"""A small archive of images, some of them bad, and who captions it."""

import glob
import json
import pathlib

import pictures
import pytest
from small_captioner import small_captioner

IMAGES = 9
BAD = {"03.jpg": b"not an image", "07.jpg": b""}


def write_images(folder):
    """Files of all kinds, of which Pillow alone reads some, and nobody others."""
    folder.mkdir()
    kinds = ["JPEG", "PNG", "WEBP", "TIFF"]
    for i in range(IMAGES):
        kind = kinds[i % len(kinds)]
        contents = pictures.encode(pictures.picture(seed=i), kind)
        (folder / f"{i:02}.jpg").write_bytes(BAD.get(f"{i:02}.jpg", contents))


def save(folder, seed=17):
    """Keeps a small captioner as a preset; returns it."""
    captioner = small_captioner(seed=seed)
    captioner.compile(decoder={"decoder": "greedy", "max_length": 5})
    captioner.save_to_preset(folder)
    return captioner


def expected(captioner, names, folder):
    """Rows that `captioner.generate` stands for, by the name of the image."""
    names = [n for n in names if pathlib.Path(n).name not in BAD]
    captions = captioner.generate([str(folder / name) for name in names])
    return {
        name: {
            "image": name,
            "caption": caption.caption,
            # A sum of float32, added up in another order in a batch of another size.
            "score": pytest.approx(caption.score, rel=1e-5, abs=1e-5),
            "words": list(caption.words),
            "locations": caption.locations.tolist(),
        }
        for name, caption in zip(names, captions, strict=True)
    }


def rows(pattern):
    """What stands in all files that match, line by line."""
    lines = [
        line
        for path in sorted(glob.glob(str(pattern)))
        for line in pathlib.Path(path).read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


def said(prefix):
    """Rows by the name of the image, each of which must be there once."""
    found = rows(f"{prefix}-?????-of-*.jsonl")
    by_name = {row["image"]: row for row in found}
    assert len(by_name) == len(found)
    return by_name
