"""From encoded bytes to the pixels that the encoder sees, as in the paper.

TensorFlow operations only: the same functions run in training and inside the exported
SavedModel, so a photograph is prepared alike on both sides.
"""

import tensorflow as tf

from sat_tf.images import headers as image_headers
from sat_tf.images.shrinking import (
    MAX_PIXELS,
    SHORTEST_SIDE,
    SHRINKS,
    WHOLE,
    enough_for,
    largest,
    shrink_of,
)

MODES = ("crop", "squash", "none")
_LARGE = 4_000_000  # pixels
OK, UNKNOWN, TOO_LARGE, BROKEN, TOO_DARK, WRONG_SIZE = range(6)
# Where the brightest of more than 8 bits is darker than an eighth of white, they are
# numbers of another range, of 12 bits say, or were not made to be looked at.
DARKEST = 1 / 8
_KINDS = "Expected a JPEG, PNG, GIF or 24-bit BMP image. Save it as one."
NOT_WHITE = "it is not clear which of its values is white"


def decode(contents, enough=WHOLE):
    """Decode one image to upright RGB, uint8 `[H, W, 3]`.

    JPEG (grey, CMYK), PNG (grey, palette, 16 bits), BMP of 24 or 32 bits, and the first
    frame of a GIF. EXIF orientations of JPEG and PNG are undone; what is transparent in
    PNG and GIF is white. A JPEG of more than `MAX_PIXELS` comes at a half or a quarter
    of its size, and so does one whose sides are `enough` even then.

    Args:
        contents: scalar string tensor, the encoded file.
        enough: pixels a side, see `enough_for`; by default all there are.

    Raises:
        tf.errors.InvalidArgumentError: the bytes are none of these, broken, or would
            unpack to more than `MAX_PIXELS`.
    """
    return _decode_checked(tf.convert_to_tensor(contents), enough)


@tf.function(
    input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)],
    autograph=False,
)
def _decode_checked(contents, enough):
    header = image_headers.read(contents[tf.newaxis])
    shrink = shrink_of(header, MAX_PIXELS, enough)[0]
    known = tf.debugging.Assert(tf.reduce_all(header.size > 0), [_KINDS])
    fits = tf.debugging.Assert(shrink > 0, [largest(MAX_PIXELS)])
    with tf.control_dependencies([known, fits]):
        contents = tf.identity(contents)
    return _decode(contents, shrink, *(x[0] for x in header))


@tf.function(autograph=False)
def _decode(contents, shrink, *header):
    """`decode` of a file whose `Header` has been read."""
    header = image_headers.Header(*header)

    def is_(kind):
        return image_headers.starts_with(contents, kind)

    image = tf.case(
        [
            (is_(image_headers.JPEG), lambda: _jpeg(contents, shrink)),
            (is_(image_headers.PNG), lambda: _png(contents)),
            (is_(image_headers.GIF), lambda: _gif(contents, header)),
        ],
        default=lambda: tf.io.decode_bmp(contents)[..., :3],
    )
    image = tf.ensure_shape(image, [None, None, 3])
    return _upright(image, header.orientation)


def resize(image, size=(224, 224), mode="crop"):
    """Bring an image to the encoder's size; float32 `[*size, 3]` in 0..255.

    Args:
        image: `[H, W, 3]` in 0..255, any number type.
        size: height and width wanted.
        mode: `crop` scales the shortest side to 256/224 of `size`, keeping the
            aspect, and cuts out the centre, as the paper does; `squash` scales both
            sides; `none` expects the size to be right already.

    Raises:
        tf.errors.InvalidArgumentError: with `none`, an image of another size.
    """
    check_mode(mode)
    if mode == "none":
        return tf.cast(_expect_size(tf.convert_to_tensor(image), size), tf.float32)
    if mode == "squash":
        image = tf.image.resize(image, size, antialias=True)
    else:
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        scale = tf.reduce_max(SHORTEST_SIDE * tf.constant(size, tf.float32) / sides)
        scaled = tf.round(scale * sides)
        # Only the centre is made: all of a narrow image would be as large as you like.
        image = tf.raw_ops.ScaleAndTranslate(
            images=image[tf.newaxis],
            size=size,
            scale=scaled / sides,
            translation=-((scaled - tf.constant(size, tf.float32)) // 2),
            kernel_type="triangle",  # what `tf.image.resize` does, which cannot cut
            antialias=True,
        )[0]
    return tf.cast(tf.ensure_shape(image, [*size, 3]), tf.float32)


def _expect_size(image, size):
    """The image, where it has the size (height, width) already."""
    expected = (
        f"Expected images of {size[0]} x {size[1]} pixels (height x width), as resize "
        "mode 'none' does. Received: "
    )
    fix = ". Choose 'crop' or 'squash' to have them resized."
    if image.shape[:2].is_fully_defined():
        height, width = image.shape[:2]
        if (height, width) != tuple(size):
            raise tf.errors.InvalidArgumentError(
                None, None, f"{expected}{height} x {width}{fix}"
            )
        return image
    found = tf.shape(image)[:2]
    said = tf.strings.reduce_join(tf.strings.as_string(found), separator=" x ")
    right = tf.reduce_all(tf.equal(found, tf.constant(size)))
    message = tf.strings.join([expected, said, fix])
    with tf.control_dependencies([tf.debugging.Assert(right, [message])]):
        image = tf.identity(image)
    # Not `ensure_shape`: TensorFlow would have it fail first, which says less.
    image.set_shape([*size, 3])
    return image


def decode_batch(contents, size=(224, 224), mode="crop", max_pixels=MAX_PIXELS):
    """Decode and resize untrusted files; a bad one spoils none of the others.

    Args:
        contents: string tensor `[B]`.
        size: height and width wanted.
        mode: as in `resize`.
        max_pixels: what an image may unpack to; a JPEG that would unpack to more, or
            to more than is looked at, is decoded at a half or a quarter of its size. A
            header that promises more is refused before decoding.

    Returns:
        float32 `[B, *size, 3]`, zeros where an image failed, and string `[B]`: what is
        wrong with the image and what to do, empty where nothing is.
    """
    n_images = tf.size(contents)
    header = image_headers.read(contents)
    n_pixels = tf.reduce_prod(tf.cast(header.size, tf.int64), axis=-1)
    shrink = shrink_of(header, max_pixels, enough_for(size, mode))
    status = tf.where(shrink > 0, BROKEN, TOO_LARGE)
    if mode == "none":
        status = tf.where(_has_size(header, size), status, WRONG_SIZE)
    status = tf.where(n_pixels > 0, status, UNKNOWN)
    promising = tf.equal(status, BROKEN)

    is_large = n_pixels > _LARGE
    files = (tf.range(n_images), contents, shrink, *header)
    # Large ones one by one, so that a batch of them does not fill the memory.
    images = _unpacked(files, promising & ~is_large, size, mode, tf.data.AUTOTUNE)
    images = images.concatenate(
        _unpacked(files, promising & is_large, size, mode, None)
    )
    spare = tf.data.Dataset.from_tensors((n_images, tf.zeros([*size, 3])))
    indices, images = (
        images.concatenate(spare)
        .batch(tf.cast(n_images, tf.int64) + 1)
        .get_single_element()
    )
    indices = indices[:, tf.newaxis]
    images = tf.scatter_nd(indices, images, [n_images + 1, *size, 3])[:-1]
    fine = tf.scatter_nd(indices, tf.ones_like(indices[:, 0]), [n_images + 1])[:-1]
    status = tf.where(fine > 0, OK, status)
    broken = tf.equal(status, BROKEN)
    status = tf.where(broken & _has_16_bits(contents), TOO_DARK, status)
    errors = _errors(status, header, size, max_pixels)
    return tf.ensure_shape(images, [None, *size, 3]), errors


def _unpacked(files, wanted, size, mode, parallel):
    """Indices and images of some files, those that fail left out."""

    @tf.function(autograph=False)
    def unpack(index, encoded, *header):
        return index, resize(_decode(encoded, *header), size, mode)

    # A graph has no try: a data set that drops its failing elements stands in.
    chosen = tuple(tf.boolean_mask(x, wanted) for x in files)
    chosen = tf.data.Dataset.from_tensor_slices(chosen)
    return chosen.map(unpack, num_parallel_calls=parallel).ignore_errors()


def _errors(status, header, size, max_pixels):
    """What is wrong with each image and what to do, string `[B]`; empty: nothing."""
    told = [
        "",
        "not an image that can be read: send a JPEG, PNG, GIF or 24-bit BMP file",
        largest(max_pixels),
        "broken image: it cannot be decoded; save it anew and send it again",
        f"a PNG of 16 bits that is broken, or so dark that {NOT_WHITE}: save it with 8 "
        "bits and send it again",
        "",
    ]
    wrong_size = _wrong_size(header, size)
    of_status = tf.gather(told, status)
    return tf.where(tf.equal(status, WRONG_SIZE), wrong_size, of_status)


def _upright_size(header):
    """Heights and widths int32 `[B, 2]` of files once they are decoded."""
    on_side = header.orientation[:, tf.newaxis] >= 5
    return tf.where(on_side, header.size[:, ::-1], header.size)


def _has_size(header, size):
    return tf.reduce_all(tf.equal(_upright_size(header), tf.constant(size)), axis=-1)


def _wrong_size(header, size):
    """What is said of images of another size: string `[B]`."""
    found = tf.strings.as_string(_upright_size(header))
    found = tf.strings.reduce_join(found, axis=-1, separator=" x ")
    wanted = f"{size[0]} x {size[1]}"
    return tf.strings.join(
        [
            f"wrong size: expected {wanted} pixels (height x width), received ",
            found,
            f"; resize the image to {wanted} and send it again",
        ]
    )


def check_mode(mode):
    """Raise ValueError unless `mode` is one of `MODES`."""
    if mode not in MODES:
        raise ValueError(
            f"Expected a resize mode of {', '.join(MODES)}. "
            f"Received: mode={mode!r}. Choose one of them."
        )


def _jpeg(contents, shrink):
    def decoder(ratio):
        # The accurate transform agrees with Pillow's; the default one is coarser.
        return lambda: tf.io.decode_jpeg(
            contents, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"
        )

    cases = [(tf.equal(shrink, ratio), decoder(ratio)) for ratio in SHRINKS[1:]]
    return tf.case(cases, default=decoder(1))


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
    colours = n_channels - tf.cast(has_alpha, tf.int32)
    fine = tf.cond(
        _has_16_bits(contents),
        lambda: tf.reduce_max(image[..., :colours]) >= round(255 * DARKEST),
        lambda: True,
    )
    with tf.control_dependencies([tf.debugging.Assert(fine, [NOT_WHITE])]):
        image = tf.identity(image)
    image = tf.cond(has_alpha, lambda: _on_white(image), lambda: image)
    return tf.broadcast_to(image, tf.concat([tf.shape(image)[:2], [3]], 0))


def _has_16_bits(contents):
    """Whether files, a string tensor of any shape, are PNGs of 16 bits a value."""
    header = tf.strings.join([tf.strings.substr(contents, 0, 25), " " * 25])
    is_png = tf.equal(tf.strings.substr(header, 0, 8), image_headers.PNG)
    return is_png & tf.equal(tf.strings.substr(header, 24, 1), b"\x10")


def _on_white(image):
    """Lay pixels whose last channel is the opacity on white paper; uint8."""
    image = tf.cast(image, tf.uint16)  # 255 * 255 + 127 fits
    colours, opacity = image[..., :-1], image[..., -1:]
    on_white = (colours * opacity + 255 * (255 - opacity) + 127) // 255
    return tf.cast(on_white, tf.uint8)


def _gif(contents, header):
    end = image_headers.gif_frame_end(contents, header.pixels)
    first = tf.strings.substr(contents, 0, end) + b";"
    return tf.io.decode_gif(_opaque(first, header.control, header.clear))[0]


def _opaque(gif, control, clear):
    """A GIF whose transparent colour is a white one: TensorFlow would make it black."""

    def replaced(file, at, new):
        rest = tf.strings.substr(file, at + len(new), tf.strings.length(file))
        return tf.strings.substr(file, 0, at) + new + rest

    return tf.cond(
        clear > 0,
        # The flags of the extension, and the colour.
        lambda: replaced(replaced(gif, control + 3, b"\0"), clear, b"\xff\xff\xff"),
        lambda: gif,
    )
