"""Image files of all kinds in Python, with Pillow where TensorFlow cannot read them."""

import io
import os
import warnings

import numpy as np
import PIL.Image
import PIL.ImageOps
import PIL.TiffImagePlugin
import tensorflow as tf

from sat_tf.images import headers as image_headers
from sat_tf.images.graph import (
    DARKEST,
    NOT_WHITE,
    check_mode,
    decode,
    resize,
)
from sat_tf.images.shrinking import MAX_PIXELS, SHRINKS, enough_for, shrink_of

# What white may be in Pillow's modes of more than 8 bits.
_WHITE = {"F": (1, 255), "I": (255, 65535), "I;16": (65535,)}


def load(image, size=(224, 224), mode="crop", *, name=None):
    """Read one image as `decode` and `resize` do; float32 array `[*size, 3]`.

    Args:
        image: a path, or the encoded bytes. Formats that only Pillow reads (WebP,
            TIFF) work here too.
        size: height and width wanted.
        mode: as in `resize`.
        name: what messages call it; by default the path.

    Raises:
        ValueError: the file is missing or no image; the message names it.
    """
    check_mode(mode)
    if name is None:
        name = "<bytes>" if isinstance(image, bytes) else os.fspath(image)
    contents = image
    if not isinstance(image, bytes):
        try:
            with open(image, "rb") as file:
                contents = file.read()
        except (OSError, ValueError) as error:  # the latter of a null byte
            reason = getattr(error, "strerror", error)
            raise ValueError(
                f"Expected the path of an image. Received: image={name!r} "
                f"({reason}). Check the path."
            ) from error
    enough = enough_for(size, mode)
    try:
        pixels = decode(contents, enough)
    except tf.errors.InvalidArgumentError:
        pixels = _decode_otherwise(contents, enough, name)
    try:
        return resize(pixels, size, mode).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"Expected an image of size {tuple(size)}, as resize mode 'none' does. "
            f"Received: image={name!r} of size {tuple(pixels.shape[:2])}. "
            "Resize it, or choose mode 'crop' or 'squash'."
        ) from error


def _decode_otherwise(contents, enough, name):
    """What `decode` does not take as it is; or ValueError, which says why not."""
    try:
        return decode(to_decodable(contents, name), enough)
    except tf.errors.InvalidArgumentError as error:
        if NOT_WHITE in str(error):
            raise _no_white(name, "16-bit values make a black image") from error
        raise ValueError(
            f"Expected an image that can be decoded. Received: image={name!r}, which "
            "breaks off or is damaged. Save it anew as JPEG or PNG."
        ) from error


def to_decodable(contents, name="<bytes>"):
    """The same bytes where `decode` knows the format, else a PNG made by Pillow.

    Args:
        contents: bytes of an encoded image.
        name: what messages call it.

    Raises:
        ValueError: no reader knows these bytes, they would unpack to more than
            `MAX_PIXELS`, or hold numbers of which nobody can tell what is white.
    """
    header = image_headers.read(tf.convert_to_tensor(contents)[tf.newaxis])
    height, width = header.size[0].numpy()
    if height and width:
        if not shrink_of(header, MAX_PIXELS)[0]:
            raise _too_large(name, f"{height} x {width} (height x width)")
        return contents
    try:
        with warnings.catch_warnings():
            # Pillow warns of a bomb from 89 megapixels; from 179 it raises.
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            image = PIL.Image.open(io.BytesIO(contents))
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(name, f"{image.height} x {image.width} (height x width)")
        encoded = io.BytesIO()
        _to_colours(image, name).save(encoded, "PNG", compress_level=1)
    except PIL.Image.DecompressionBombError as error:
        raise _too_large(name, str(error)) from error
    except _Refused:
        raise
    except Exception as error:  # Pillow's readers raise what they like.
        raise _Refused(
            "Expected an image that can be decoded (JPEG, PNG, GIF, BMP, WebP, TIFF). "
            f"Received: image={name!r} of {len(contents)} bytes beginning with "
            f"{contents[:8]!r}. Save it anew as JPEG or PNG."
        ) from error
    return encoded.getvalue()


class _Refused(ValueError):
    """Says already what is wrong with the image."""


def _too_large(name, size):
    return _Refused(
        f"Expected an image of at most {MAX_PIXELS} pixels, or a JPEG that is not "
        f"progressive of at most {MAX_PIXELS * SHRINKS[-1] ** 2}. "
        f"Received: image={name!r}, {size}. Scale it down; a captioner looks at a few "
        "hundred pixels a side."
    )


def _no_white(name, values):
    return _Refused(
        f"Expected numbers that fill the range of their type. Received: image={name!r}"
        f", whose {values}: {NOT_WHITE}. Scale them so that white is the largest, and "
        "save the image anew as a PNG of 8 bits."
    )


def _to_colours(image, name):
    """A Pillow image, upright, as RGB or RGBA, whatever numbers it holds."""
    # Of more bits in several colours, Pillow reads the upper 8.
    bits = getattr(image, "tag_v2", {}).get(PIL.TiffImagePlugin.BITSPERSAMPLE, (8,))
    image = PIL.ImageOps.exif_transpose(image)
    mode = image.mode.rstrip("BLN") if image.mode.startswith("I;16") else image.mode
    if mode in _WHITE:
        image = _to_eight_bits(image, _WHITE[mode], name)
    colours = image.convert("RGBA" if image.has_transparency_data else "RGB")
    brightest = max(high for _, high in colours.convert("RGB").getextrema())
    if max(bits) > 8 and brightest < 255 * DARKEST:
        raise _no_white(name, f"{max(bits)}-bit values make a black image")
    return colours


def _to_eight_bits(image, whites, name):
    """Grey numbers as grey of 8 bits, where it is clear which of `whites` is white."""
    values = np.asarray(image)
    low, high = values.min(), values.max()
    white = next((white for white in whites if high <= white), None)
    # No comparison holds for nan.
    if white is None or not (low >= 0 and high >= white * DARKEST):
        raise _no_white(
            name, f"{values.dtype.name} values lie between {low:g} and {high:g}"
        )
    return PIL.Image.fromarray((values * (255 / white)).astype(np.uint8))
