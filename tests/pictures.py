"""Tiny images for the tests, and their encoding."""

import io

import numpy as np
import PIL.Image


def picture(height=48, width=64, seed=17):
    """Smooth colours, so that JPEG loses little; no symmetry."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, [3, 4, 3], dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((width, height), PIL.Image.BICUBIC)


def plain(value, height=8, width=8):
    """One grey everywhere."""
    return PIL.Image.fromarray(np.full([height, width, 3], value, np.uint8))


def encode(image, kind, **options):
    """The bytes of a file of this kind."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
