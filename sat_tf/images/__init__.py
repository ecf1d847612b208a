"""Pictures: reading, checking and resizing image files."""

from sat_tf.images.files import (
    MAX_PIXELS,
    MODES,
    check_mode,
    decode,
    decode_batch,
    image_size,
    load,
    resize,
    to_decodable,
)

__all__ = [
    "MAX_PIXELS",
    "MODES",
    "check_mode",
    "decode",
    "decode_batch",
    "image_size",
    "load",
    "resize",
    "to_decodable",
]
