"""The pixels of `scenes`: textured ground, distracting strokes, anti-aliased shapes."""

import functools
import io
import math

import numpy as np
from PIL import Image, ImageDraw

SIDE = 112
RGB = {
    "red": (205, 40, 40),
    "green": (45, 160, 60),
    "blue": (45, 80, 210),
    "yellow": (235, 205, 45),
    "purple": (150, 55, 175),
    "white": (235, 235, 235),
}
_SUPERSAMPLING = 4


def draw(objects, rng):
    """Draws objects on a textured ground.

    The ground is a smooth grey texture with strokes that no caption mentions; edges are
    anti-aliased, colours vary a little, and noise lies over everything.

    Args:
        objects: each with `colour`, `shape`, and `top`, `left`, `side` in pixels.
        rng: a `numpy.random.Generator`.

    Returns:
        uint8 `[112, 112, 3]`.
    """
    image = _background(rng)
    for thing in objects:
        rgb = np.add(RGB[thing.colour], rng.integers(-18, 19, 3)).clip(0, 255)
        mask = _mask(thing.shape, thing.side, math.radians(rng.uniform(-4, 4)))
        image.paste(tuple(rgb.tolist()), (thing.left, thing.top), mask)
    noise = rng.integers(-9, 10, (SIDE, SIDE, 1), dtype=np.int8)
    return (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)


def jpeg(pixels):
    """JPEG bytes; without colour subsampling, so that small objects keep theirs."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _background(rng):
    """A smooth dull texture with six to twelve short strokes of dull colours."""
    coarse = rng.integers(55, 95) + rng.integers(-22, 23, (6, 6, 3)) // (1, 2, 2)
    image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
    image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    count = rng.integers(6, 13)
    starts = rng.uniform(0, SIDE, (count, 2))
    lines = np.concatenate([starts, starts + rng.uniform(-9, 9, (count, 2))], 1)
    colours = rng.integers(40, 190, (count, 3)).tolist()
    widths = rng.integers(1, 3, count).tolist()
    for line, rgb, width in zip(lines.tolist(), colours, widths, strict=True):
        draw.line(line, fill=tuple(rgb), width=width)
    return image


def _mask(shape, side, angle):
    """Coverage of a `side` x `side` box by a shape that fills it, anti-aliased."""
    large = Image.new("L", (side * _SUPERSAMPLING,) * 2)
    end = large.width - 1
    draw = ImageDraw.Draw(large)
    if shape == "ring":
        hole = end / 4
        draw.ellipse([0, 0, end, end], fill=255)
        draw.ellipse([hole, hole, end - hole, end - hole], fill=0)
    else:
        turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        points = _outline(shape) @ np.asarray(turn)
        points -= points.min(0)
        draw.polygon((points / points.max(0) * end).ravel().tolist(), fill=255)
    return large.reduce(_SUPERSAMPLING)


@functools.cache
def _outline(shape):
    """Corners (x, y) of a shape around the origin."""
    if shape == "cross":
        quarter = np.array([(1, 3), (1, 1), (3, 1)])
        turns = [np.array([[0, -1], [1, 0]])]
        for _ in range(3):
            turns.append(turns[-1] @ turns[0])
        return np.concatenate([quarter @ turn for turn in turns]).astype(float)
    corners, start = {"square": (4, math.pi / 4), "triangle": (3, math.pi / 2)}[shape]
    angles = start + np.arange(corners) * 2 * math.pi / corners
    return np.stack([np.cos(angles), -np.sin(angles)], -1)
