"""JPEG files to caption: photographs of a folder, or drawn ones of any size.

Drawn are shapes on a gradient, with the noise of a camera, so that files of twelve
megapixels are as large as photographs are. Few different ones are drawn; the others are
links to them, as what reads files does not know one from another.
"""

import pathlib

import numpy as np
from PIL import Image, ImageDraw

DIFFERENT = 16
SMALL = (500, 375)  # as Flickr8k's
LARGE = (4000, 3000)  # twelve megapixels


def draw(index, size):
    """The picture of a number, `size` = (width, height)."""
    rng = np.random.default_rng([17, index])
    width, height = size
    corners = rng.integers(0, 256, [2, 2, 3], np.uint8)
    picture = Image.fromarray(corners).resize(size, Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(picture)
    for _ in range(40):
        x, y = rng.random(2) * size
        w, h = (0.02 + 0.2 * rng.random(2)) * size
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape([x, y, x + w, y + h], fill=tuple(rng.integers(0, 256, 3).tolist()))
    pixels = np.asarray(picture, np.int16)
    noise = rng.integers(-10, 11, [height, width, 1], np.int16)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def drawn(folder, count, size=SMALL):
    """Paths of `count` drawn JPEGs; made in `folder` where they are not there yet."""
    folder = pathlib.Path(folder) / f"{size[0]}x{size[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:05d}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        if path.exists():
            continue
        if i < DIFFERENT:
            half = path.with_suffix(".half")
            draw(i, size).save(half, "JPEG", quality=90)
            half.rename(path)
        else:
            path.symlink_to(paths[i % DIFFERENT].name)
    return paths


def photographs(data_dir, count):
    """Paths of `count` JPEGs below a folder, the same again where it has fewer."""
    found = sorted(pathlib.Path(data_dir).rglob("*.jpg"))
    if not found:
        raise SystemExit(f"Expected JPEGs (*.jpg) below a folder. Received: {data_dir}")
    return [found[i % len(found)].absolute() for i in range(count)]


def paths(data_dir, folder, count):
    """Photographs of `data_dir`; where that is None, drawn in `folder`."""
    return photographs(data_dir, count) if data_dir else drawn(folder, count)
