"""Pictures: reading, checking and resizing image files."""

from sat_tf.images.graph import MODES, check_mode, decode, decode_batch, resize
from sat_tf.images.headers import image_size
from sat_tf.images.loading import load, to_decodable
from sat_tf.images.shrinking import MAX_PIXELS, enough_for, unpacked_pixels

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
