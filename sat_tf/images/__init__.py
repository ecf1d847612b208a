"""Pictures: reading, checking and resizing image files."""

from sat_tf.images.graph import (
    MAX_PIXELS,
    MODES,
    check_mode,
    decode,
    decode_batch,
    enough_for,
    resize,
    unpacked_pixels,
)
from sat_tf.images.headers import image_size
from sat_tf.images.loading import load, to_decodable

__all__ = [
    "MAX_PIXELS",
    "MODES",
    "check_mode",
    "decode",
    "decode_batch",
    "enough_for",
    "image_size",
    "load",
    "resize",
    "to_decodable",
    "unpacked_pixels",
]
