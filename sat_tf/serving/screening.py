"""A look at every image's header before anything is decoded.

A few kilobytes of PNG can promise 2.5 thousand million pixels. Pillow's readers are
given the header alone, so that saying no costs neither time nor memory.
"""

import io

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
)

from sat_tf.images import headers as image_headers
from sat_tf.images import unpacked_pixels
from sat_tf.serving import bounding
from sat_tf.serving.protocol import RequestError

MAX_IMAGES = 32  # in a request, and through the graph together

# The readers themselves, not PIL.Image.open: that one has a pixel limit of its own.
_READERS = {
    image_headers.JPEG: (JpegImagePlugin.JpegImageFile, bounding.jpeg),
    image_headers.PNG: (PngImagePlugin.PngImageFile, bounding.png),
    image_headers.GIF: (GifImagePlugin.GifImageFile, bounding.gif),
    image_headers.BMP: (BmpImagePlugin.BmpImageFile, bounding.bmp),
}
_TWICE_ENCODED = (b"/9j/", b"iVBORw0KGgo", b"R0lGOD")


def screen(images, max_pixels, notes, size=None):
    """Look at the encoded images of a request.

    Args:
        images: object array `[B]` of bytes.
        max_pixels: what an image may unpack to.
        notes: whether the model's answer has an `error` for every image.
        size: width and height of the only images that the model takes, if so.

    Returns:
        The images, empty where one is refused, and the list of refusals, "" for none.

    Raises:
        RequestError: there are too many images, all are refused, or one is and there
            is no place for a note.
    """
    if images.size > MAX_IMAGES:
        raise RequestError(
            f"Expected at most {MAX_IMAGES} images in a request. "
            f"Received: {images.size}. Split them over several requests.",
            status=413,
        )
    refusals = [refusal(contents, max_pixels, size) for contents in images.flat]
    if any(refusals) and (all(refusals) or not notes):
        raise RequestError(next(filter(None, refusals)))
    kept = [
        b"" if no else image for no, image in zip(refusals, images.flat, strict=True)
    ]
    return np.array(kept, object).reshape(images.shape), refusals


def merge(errors, refusals):
    """Put the refusals into a model's `error` output; RequestError if all images fail.

    Where some images of a request are bad, their rows say so; where all are, the whole
    request does.
    """
    errors = errors.astype(object)
    for index in np.flatnonzero(refusals):
        errors[index] = refusals[index].encode("utf-8")
    if all(errors):
        raise RequestError(errors[0].decode("utf-8", errors="replace"))
    return errors


def refusal(contents, max_pixels, size=None):
    """Say why an encoded image (bytes) is refused; an empty string when it is not."""
    if not contents:
        return (
            "Expected an encoded image. Received: 0 bytes. "
            "Read the file in binary mode and send all of it."
        )
    kind = next(filter(contents.startswith, _READERS), None)
    if kind is None:
        hint = "Convert the image to JPEG or PNG."
        if contents.startswith(_TWICE_ENCODED):
            hint = "It looks base64-encoded twice: encode the file's bytes once."
        return (
            "Expected a JPEG, PNG, GIF or BMP image. "
            f"Received: bytes that start with {contents[:12]!r}. {hint}"
        )
    reader, bounded = _READERS[kind]
    try:
        image = reader(io.BytesIO(bounded(contents)))
    except Exception:  # Pillow raises a dozen types at a broken header
        return (
            "Expected an image with a readable header. "
            f"Received: {len(contents)} bytes that break off or are damaged. "
            "Check that the file opens in an image viewer, and send all of it."
        )
    width, height = image.size
    in_rows = kind == image_headers.JPEG and not image.info.get("progressive")
    if unpacked_pixels(height, width, in_rows) > max_pixels:
        return (
            f"Expected an image of at most {max_pixels} pixels. "
            f"Received: {width} x {height}. Scale it down; the model looks at a few "
            "hundred pixels a side."
        )
    if size and size != (upright := _upright(image.size, contents)):
        return (
            "Expected an image of {} x {} pixels (width x height), as this model "
            "resizes nothing. Received: {} x {}. Resize it, or export a captioner "
            "whose resize_mode is 'crop' or 'squash'.".format(*size, *upright)
        )
    return ""


def _upright(size, contents):
    """Give the width and height of an image as a viewer would show it."""
    orientation = image_headers.read([contents]).orientation[0]
    return size[::-1] if orientation in (5, 6, 7, 8) else size
