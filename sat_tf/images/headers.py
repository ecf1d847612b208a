"""What encoded images say of themselves, read in the graph without decoding them.

Sizes let a server refuse a decompression bomb before a byte is unpacked; the EXIF
orientation turns a phone's photograph upright. All files of a batch are looked at
together: one by one, their headers cost more than their pixels. Everything here is safe
on bytes that are not an image at all.
"""

from typing import NamedTuple

import tensorflow as tf

JPEG, PNG, GIF, BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"

# JPEG markers, ISO/IEC 10918-1 table B.1, by what follows them: a length, nothing,
# 0xFF may repeat to fill, the frame's size, no more headers.
_LENGTH, _BARE, _FILL, _FRAME, _LAST = range(5)
_SCAN, _PROGRESSIVE = 0xDA, (0xC2, 0xC6, 0xCA, 0xCE)
_MARKERS = [
    _BARE if marker == 0x01 or 0xD0 <= marker <= 0xD8
    else _FILL if marker == 0xFF
    else _FRAME if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)
    else _LAST if marker in (0xD9, 0xDA)
    else _LENGTH
    for marker in range(256)
]  # fmt: skip
_APP1 = 0xE1
# A file made to be slow to walk through counts as one that cannot be read; a frame of
# 4 MB in blocks of the usual length passes.
_MAX_SEGMENTS, _MAX_BLOCKS, _MAX_FRAME_BLOCKS = 1024, 4096, 2**14
# EXIF, CIPA DC-008: the directory entry of the orientation. Entries are sorted by tag,
# so that it is among the first.
_ORIENTATION_TAG, _MAX_ENTRIES = 0x0112, 64
_EXIF = b"Exif\0\0"
_GIF_DESCRIPTOR, _GIF_EXTENSION, _GIF_CONTROL = 0x2C, 0x21, 0xF9


class Header(NamedTuple):
    """What the headers of B files say.

    Attributes:
        size: int32 `[B, 2]`, height and width as stored, before an orientation turns
            them; zeros when unknown.
        orientation: EXIF's, int32 `[B]`, 1..8; 1 when there is none.
        in_rows: bool `[B]`, whether it is a JPEG that is decoded row by row, so that
            decoding it at a fraction of its size takes a fraction of the memory. Of a
            progressive one libjpeg holds everything first.
        pixels: int32 `[B]`, the offset of the first frame's pixels in a GIF.
        control, clear: int32 `[B]`, in a GIF with transparency the offsets of the
            extension that says so and of the colour that stands for it; else 0.
    """

    size: tf.Tensor
    orientation: tf.Tensor
    in_rows: tf.Tensor
    pixels: tf.Tensor
    control: tf.Tensor
    clear: tf.Tensor


# Compiled: operation by operation, the walk through a file takes 50 times as long.
@tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
def read(contents):
    """The `Header` of files `[B]`.

    Known are JPEG, PNG, GIF and BMP files of 24 or 32 bits, what `images.decode`
    reads.
    """
    head = _bytes(contents, tf.zeros(tf.shape(contents), tf.int32), 34)
    jpeg_size, jpeg_exif, in_rows = _jpeg(contents, _equal(head[:, :3], JPEG))
    gif_size, *gif = _gif(contents, head, _equal(head[:, :4], GIF))
    size = jpeg_size + gif_size + _png_size(head) + _bmp_size(head)
    known = tf.reduce_all(size > 0, axis=-1, keepdims=True)
    size = tf.where(known, size, 0)
    exif = tf.maximum(jpeg_exif, _png_exif(contents, _equal(head[:, :8], PNG)))
    return Header(size, _exif_orientation(contents, exif), in_rows, *gif)


def image_size(contents):
    """`Header.size` of one file, a scalar string: int32 `[2]`."""
    return read(tf.convert_to_tensor(contents)[tf.newaxis]).size[0]


def starts_with(contents, signature):
    """Whether the file `contents`, a scalar, begins with the bytes `signature`."""
    return tf.equal(tf.strings.substr(contents, 0, len(signature)), signature)


def gif_frame_end(contents, pixels):
    """The offset behind the frame whose pixels begin at `pixels`; both are scalars.

    TensorFlow unpacks every frame before it returns the first: an animation of a few
    kilobytes can fill the memory. Cut at this offset, only one frame is there.
    """

    # A frame has thousands of blocks: traced, even where other functions run eagerly.
    return _frame_end.get_concrete_function()(contents, pixels)


@tf.function(
    input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int32)],
    autograph=False,
)
def _frame_end(contents, pixels):
    def block(at):
        return _bytes(contents[tf.newaxis], at[tf.newaxis], 1)[0, 0]

    at = tf.while_loop(
        lambda at: block(at) > 0,
        lambda at: [at + 1 + block(at)],
        [pixels],
        maximum_iterations=_MAX_FRAME_BLOCKS,
    )[0]
    return at + 1


def _bytes(contents, at, count):
    """`count` bytes of each file from its offset `at`, int32 `[B, count]`.

    Bytes past the end are 0.
    """
    at = tf.clip_by_value(at, 0, tf.strings.length(contents))
    window = tf.strings.substr(contents, at, tf.fill(tf.shape(at), count))
    window = tf.io.decode_raw(window, tf.uint8, fixed_length=count)
    return tf.cast(window, tf.int32)


def _equal(window, expected):
    """Whether bytes `[B, n]` are the `expected` ones; bool `[B]`."""
    return tf.reduce_all(tf.equal(window, list(expected)), axis=-1)


def _number(window, big_endian=False):
    """Unsigned integers of the bytes `[B, n]`: int32 `[B]`.

    Four bytes above 2^31 come out negative, which no caller takes for a size.
    """
    shifts = tf.range(window.shape[-1]) * 8
    shifts = shifts[::-1] if big_endian else shifts
    return tf.reduce_sum(tf.bitwise.left_shift(window, shifts), axis=-1)


def _png_size(head):
    is_png = _equal(head[:, :8], PNG) & _equal(head[:, 12:16], b"IHDR")
    width, height = (_number(head[:, at : at + 4], big_endian=True) for at in (16, 20))
    return _where(is_png, height, width)


def _png_exif(contents, is_png):
    """Offsets of EXIF blocks (-1: none), which come before the pixels.

    PNG, third edition, 11.3.4.5. A chunk: length (4), type (4), content, checksum (4).
    """

    def step(at, going, exif):
        window = _bytes(contents, at, 14)
        length = _number(window[:, :4], big_endian=True)
        has_exif = going & _equal(window[:, 4:8], b"eXIf")
        # As in a JPEG: some writers leave the mark of that in.
        start = at + tf.where(_equal(window[:, 8:], _EXIF), 14, 8)
        exif = tf.where(has_exif, start, exif)
        going &= ~has_exif & (length >= 0) & ~_equal(window[:, 4:8], b"IDAT")
        at = tf.where(going, at + 12 + length, at)
        return [at, going & (at > 0) & (at < tf.strings.length(contents)), exif]

    _, _, exif = tf.while_loop(
        lambda at, going, _: tf.reduce_any(going),
        step,
        [tf.fill(tf.shape(contents), 8), is_png, tf.fill(tf.shape(contents), -1)],
        maximum_iterations=_MAX_SEGMENTS,
    )
    return exif


def _bmp_size(head):
    """24 or 32 bits, not compressed; TensorFlow reads a palette as if it were grey."""
    width, height = _number(head[:, 18:22]), tf.abs(_number(head[:, 22:26]))
    bits, compression = _number(head[:, 28:30]), _number(head[:, 30:34])
    plain = (tf.equal(bits, 24) | tf.equal(bits, 32)) & tf.equal(compression % 3, 0)
    return _where(plain & _equal(head[:, :2], BMP), height, width)


def _where(known, height, width):
    """Sizes int32 `[B, 2]`, zeros where not `known`."""
    return tf.where(known[:, tf.newaxis], tf.stack([height, width], axis=-1), 0)


def _jpeg(contents, is_jpeg):
    """Walk the segments up to the first scan.

    Sizes int32 `[B, 2]`, offsets of EXIF blocks (-1: none), and `Header.in_rows`.
    """

    def step(at, going, size, exif, parts, in_rows):
        window = _bytes(contents, at, 10)
        going &= tf.equal(window[:, 0], 0xFF)
        shorts = 256 * window[:, :-1] + window[:, 1:]
        marker = window[:, 1]
        kind = tf.gather(_MARKERS, marker)
        is_frame = going & tf.equal(kind, _FRAME) & tf.equal(parts, 0)
        size = tf.where(is_frame[:, tf.newaxis], shorts[:, 5:8:2], size)
        whole = tf.reduce_any(tf.equal(marker[:, tf.newaxis], _PROGRESSIVE), axis=-1)
        # The colours of a frame; a scan that has all of them is the only one. libjpeg,
        # jdinput.c, `has_multiple_scans`.
        parts = tf.where(is_frame, tf.where(whole, 256, window[:, 9]), parts)
        is_scan = going & tf.equal(marker, _SCAN)
        in_rows |= is_scan & (window[:, 4] >= parts)
        has_exif = going & tf.equal(marker, _APP1) & (exif < 0)
        has_exif &= _equal(window[:, 4:], _EXIF)
        exif = tf.where(has_exif, at + 10, exif)
        length = tf.where(tf.equal(kind, _BARE), 2, 2 + shorts[:, 2])
        length = tf.where(tf.equal(kind, _FILL), 1, length)
        return [at + length, going & (kind < _LAST), size, exif, parts, in_rows]

    two = tf.fill(tf.shape(contents), 2)
    _, _, size, exif, _, in_rows = tf.while_loop(
        lambda at, going, *_: tf.reduce_any(going),
        step,
        [
            two,
            is_jpeg,
            tf.zeros([tf.size(contents), 2], tf.int32),
            two - 3,
            two - 2,
            tf.zeros_like(is_jpeg),
        ],
        maximum_iterations=_MAX_SEGMENTS,
    )
    return size, exif, in_rows


def _exif_orientation(contents, start):
    """Orientations in the TIFF blocks at offsets `start`; 1 where there is none."""
    start = tf.where(start < 0, tf.strings.length(contents), start)
    head = _bytes(contents, start, 8)
    swapped = _equal(head[:, :2], b"MM")
    directory = tf.where(
        swapped, _number(head[:, 4:], big_endian=True), _number(head[:, 4:])
    )
    # A count (2 bytes), then entries of 12: tag (2), type (2), count (4), value (4,
    # left-justified).
    raw = _bytes(contents, start + directory, 2 + 12 * _MAX_ENTRIES)
    weights = tf.where(swapped[:, tf.newaxis], [256, 1], [1, 256])
    pairs = tf.reshape(raw, [-1, 1 + 6 * _MAX_ENTRIES, 2])
    shorts = tf.reduce_sum(pairs * weights[:, tf.newaxis], axis=-1)
    n_entries = tf.where(directory > 0, shorts[:, 0], 0)
    entries = tf.reshape(shorts[:, 1:], [-1, _MAX_ENTRIES, 6])
    found = tf.equal(entries[..., 0], _ORIENTATION_TAG)
    found &= tf.range(_MAX_ENTRIES) < n_entries[:, tf.newaxis]
    value = tf.reduce_max(tf.where(found, entries[..., 4], 0), axis=-1)
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _gif(contents, head, is_gif):
    """Of first frames: sizes int32 `[B, 2]`, and `Header.pixels`, `control`, `clear`.

    Extensions come before the frame: two bytes, then sub-blocks, each its length and
    as many bytes, up to an empty one.
    """

    def step(at, going, inside, control):
        block = _bytes(contents, at, 2)
        opens = ~inside & tf.equal(block[:, 0], _GIF_EXTENSION)
        is_control = going & opens & tf.equal(block[:, 1], _GIF_CONTROL)
        control = tf.where(is_control, at, control)
        at += tf.where(opens, 2, tf.where(inside, 1 + block[:, 0], 0))
        going &= inside | opens
        return [at, going, opens | (inside & (block[:, 0] > 0)), control]

    at, _, _, control = tf.while_loop(
        lambda at, going, *_: tf.reduce_any(going),
        step,
        [
            13 + _colour_table(head[:, 10]),
            is_gif,
            tf.zeros_like(is_gif),
            tf.zeros(tf.shape(contents), tf.int32),
        ],
        maximum_iterations=_MAX_BLOCKS,
    )
    frame = _bytes(contents, at, 10)
    found = is_gif & tf.equal(frame[:, 0], _GIF_DESCRIPTOR)
    size = _where(found, _number(frame[:, 7:9]), _number(frame[:, 5:7]))
    own = _colour_table(frame[:, 9])
    # The extension: two bytes, its length, flags, delay (2), the transparent colour.
    said = _bytes(contents, control, 7)
    table = tf.where(own > 0, own, _colour_table(head[:, 10]))
    clear = 3 * said[:, 6]
    has_clear = found & (control > 0) & (clear < table) & tf.equal(said[:, 3] % 2, 1)
    clear += tf.where(own > 0, at + 10, 13)
    control, clear = (tf.where(has_clear, x, 0) for x in (control, clear))
    return size, at + 11 + own, control, clear


def _colour_table(flags):
    """Bytes of the colour tables that GIFs' packed `flags` `[B]` announce."""
    size = 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))
    return tf.where(tf.equal(tf.bitwise.bitwise_and(flags, 0x80), 0), 0, size)
