"""From encoded bytes to the pixels that the encoder sees, as in the paper.

TensorFlow operations only: the same functions run in training and inside the exported
SavedModel, so a photograph is prepared alike on both sides. The exceptions are `load`
and `to_decodable`, conveniences in Python.
"""

import io
import os
import warnings

import PIL.Image
import PIL.ImageOps
import tensorflow as tf

from sat_tf import image_headers
from sat_tf.image_headers import image_size

MODES = ("crop", "squash", "none")
# "resized so that the shortest side is 256, then centre crop 224" (section 5.2).
_SHORTEST_SIDE = 256 / 224
# What an untrusted image may unpack to; a 50-megapixel photograph passes.
MAX_PIXELS = 64_000_000
_LARGE = 4_000_000  # pixels
OK, UNKNOWN, TOO_LARGE, BROKEN = range(4)

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


@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def decode(contents):
    """Decode one image to upright RGB, uint8 `[H, W, 3]`.

    JPEG (grey, CMYK, with EXIF orientation), PNG (grey, palette, 16 bits; transparent
    on white), BMP of 24 or 32 bits, and the first frame of a GIF.

    Args:
        contents: scalar string tensor, the encoded file.

    Raises:
        tf.errors.InvalidArgumentError: the bytes are none of these, or broken.
    """
    header = image_headers.read(contents[tf.newaxis])
    return _decode(contents, *(x[0] for x in header))


@tf.function(autograph=False)
def _decode(contents, size, orientation, pixels):
    """`decode` of a file whose `Header` has been read."""

    def is_(kind):
        return image_headers.starts_with(contents, kind)

    image = tf.case(
        [
            (is_(image_headers.JPEG), lambda: _jpeg(contents, orientation)),
            (is_(image_headers.PNG), lambda: _png(contents)),
            (is_(image_headers.GIF), lambda: _gif(contents, pixels)),
        ],
        default=lambda: _bmp(contents, size),
    )
    return tf.ensure_shape(image, [None, None, 3])


def resize(image, size=(224, 224), mode="crop"):
    """Bring an image to the encoder's size; float32 `[*size, 3]` in 0..255.

    Args:
        image: `[H, W, 3]` in 0..255, any number type.
        size: height and width wanted.
        mode: `crop` scales the shortest side to 256/224 of `size`, keeping the
            aspect, and cuts out the centre, as the paper does; `squash` scales both
            sides; `none` expects the size to be right already.
    """
    check_mode(mode)
    if mode == "none":
        tf.debugging.assert_equal(
            tf.shape(image)[:2],
            tf.constant(size),
            f"Expected images of size {tuple(size)} with resize mode 'none'. "
            "Choose 'crop' or 'squash' to have them resized.",
        )
    elif mode == "squash":
        image = tf.image.resize(image, size, antialias=True)
    else:
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        scale = tf.reduce_max(_SHORTEST_SIDE * tf.constant(size, tf.float32) / sides)
        scaled = tf.cast(tf.round(scale * sides), tf.int32)
        image = tf.image.resize(image, scaled, antialias=True)
        top, left = tf.unstack((scaled - tf.constant(size)) // 2)
        image = image[top : top + size[0], left : left + size[1]]
    return tf.cast(tf.ensure_shape(image, [*size, 3]), tf.float32)


def decode_batch(contents, size=(224, 224), mode="crop", max_pixels=MAX_PIXELS):
    """Decode and resize untrusted files; a bad one spoils none of the others.

    Args:
        contents: string tensor `[B]`.
        size: height and width wanted.
        mode: as in `resize`.
        max_pixels: a header that promises more is refused before decoding.

    Returns:
        float32 `[B, *size, 3]`, zeros where an image failed, and string `[B]`: what is
        wrong with the image and what to do, empty where nothing is.
    """
    n_images = tf.size(contents)
    header = image_headers.read(contents)
    n_pixels = tf.reduce_prod(tf.cast(header.size, tf.int64), axis=-1)

    @tf.function(autograph=False)
    def unpack(index, encoded, *header):
        return index, resize(_decode(encoded, *header), size, mode)

    def unpacked(wanted, parallel):
        # A graph has no try: a data set that drops its failing elements stands in.
        chosen = [
            tf.boolean_mask(x, wanted) for x in (tf.range(n_images), contents, *header)
        ]
        files = tf.data.Dataset.from_tensor_slices(tuple(chosen))
        return files.map(unpack, num_parallel_calls=parallel).ignore_errors()

    # Large ones one by one, so that a batch of them does not fill the memory.
    is_large = n_pixels > _LARGE
    images = unpacked((n_pixels > 0) & ~is_large, tf.data.AUTOTUNE)
    images = images.concatenate(unpacked(is_large & (n_pixels <= max_pixels), None))
    spare = tf.data.Dataset.from_tensors((n_images, tf.zeros([*size, 3])))
    indices, images = (
        images.concatenate(spare)
        .batch(tf.cast(n_images, tf.int64) + 1)
        .get_single_element()
    )
    indices = indices[:, tf.newaxis]
    images = tf.scatter_nd(indices, images, [n_images + 1, *size, 3])[:-1]
    fine = tf.scatter_nd(indices, tf.ones_like(indices[:, 0]), [n_images + 1])[:-1]
    status = tf.where(n_pixels > max_pixels, TOO_LARGE, BROKEN)
    status = tf.where(n_pixels > 0, status, UNKNOWN)
    status = tf.where(fine > 0, OK, status)
    messages = tf.constant(
        [
            "",
            "not an image that can be read: send a JPEG, PNG, GIF or 24-bit BMP file",
            f"image too large: send one of at most {max_pixels} pixels",
            "broken image: it cannot be decoded; save it anew and send it again",
        ]
    )
    return tf.ensure_shape(images, [None, *size, 3]), tf.gather(messages, status)


def load(image, size=(224, 224), mode="crop"):
    """Read one image as `decode` and `resize` do; float32 array `[*size, 3]`.

    Args:
        image: a path, or the encoded bytes. Formats that only Pillow reads (WebP,
            TIFF) work here too.
        size: height and width wanted.
        mode: as in `resize`.

    Raises:
        ValueError: the file is missing or no image; the message names it.
    """
    check_mode(mode)
    name = "<bytes>" if isinstance(image, bytes) else os.fspath(image)
    contents = image
    if not isinstance(image, bytes):
        try:
            with open(image, "rb") as file:
                contents = file.read()
        except OSError as error:
            raise ValueError(
                f"Expected the path of an image. Received: image={name!r} "
                f"({error.strerror}). Check the path."
            ) from error
    try:
        pixels = decode(to_decodable(contents))
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"Expected an image that can be decoded. Received: image={name!r}. "
            "Save it anew as JPEG or PNG."
        ) from error
    try:
        return resize(pixels, size, mode).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(
            f"Expected an image of size {tuple(size)}, as resize mode 'none' does. "
            f"Received: image={name!r} of size {tuple(pixels.shape[:2])}. "
            "Resize it, or choose mode 'crop' or 'squash'."
        ) from error


def to_decodable(contents):
    """The same bytes where `decode` knows the format, else a PNG made by Pillow.

    Raises:
        ValueError: no reader knows these bytes.
    """
    if image_size(contents).numpy().all():
        return contents
    try:
        with warnings.catch_warnings():
            # Pillow warns of a bomb from 89 megapixels; from 179 it raises.
            warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
            image = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(contents)))
        if image.mode.startswith("I;16"):  # convert() would clip at 255
            image = image.point(lambda value: value / 257).convert("L")
        encoded = io.BytesIO()
        mode = "RGBA" if image.has_transparency_data else "RGB"
        image.convert(mode).save(encoded, "PNG", compress_level=1)
    except Exception as error:  # Pillow's readers raise what they like.
        raise ValueError(
            "Expected the bytes of an image (JPEG, PNG, GIF, BMP, WebP, TIFF). "
            f"Received: {len(contents)} bytes beginning with {contents[:8]!r}. "
            "Save the image anew as JPEG or PNG."
        ) from error
    return encoded.getvalue()


def check_mode(mode):
    """Raise ValueError unless `mode` is one of `MODES`."""
    if mode not in MODES:
        raise ValueError(
            f"Expected a resize mode of {', '.join(MODES)}. "
            f"Received: mode={mode!r}. Choose one of them."
        )


def _jpeg(contents, orientation):
    # The accurate transform agrees with Pillow's; the default one is coarser.
    image = tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
    return _upright(image, orientation)


def _upright(image, orientation):
    """Undo an EXIF orientation 1..8: a transposition, then flips."""
    image = tf.cond(
        orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image
    )
    mirrored = tf.reduce_any(tf.equal(orientation, [2, 3, 6, 7]))
    image = tf.cond(mirrored, lambda: image[:, ::-1], lambda: image)
    upside_down = tf.reduce_any(tf.equal(orientation, [3, 4, 7, 8]))
    return tf.cond(upside_down, lambda: image[::-1], lambda: image)


def _png(contents):
    # As stored: asked for an alpha that is not there, TensorFlow invents a wrong one
    # for less than 8 bits.
    image = tf.io.decode_png(contents, channels=0)
    n_channels = tf.shape(image)[-1]
    has_alpha = tf.equal(n_channels % 2, 0)
    image = tf.cond(has_alpha, lambda: _on_white(image), lambda: image)
    return tf.broadcast_to(image, tf.concat([tf.shape(image)[:2], [3]], 0))


def _on_white(image):
    """Lay pixels whose last channel is the opacity on white paper; uint8."""
    image = tf.cast(image, tf.int32)
    colours, opacity = image[..., :-1], image[..., -1:]
    on_white = (colours * opacity + 255 * (255 - opacity) + 127) // 255
    return tf.cast(on_white, tf.uint8)


def _gif(contents, pixels):
    end = image_headers.gif_frame_end(contents, pixels)
    first = tf.strings.substr(contents, 0, end) + b";"
    return tf.io.decode_gif(first)[0]


def _bmp(contents, size):
    known = tf.reduce_all(size > 0)
    message = "Expected a JPEG, PNG, GIF or 24-bit BMP image. Save it as one."
    with tf.control_dependencies([tf.debugging.Assert(known, [message])]):
        image = tf.io.decode_bmp(tf.identity(contents))
    return image[..., :3]
