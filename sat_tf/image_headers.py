"""What an encoded image says of itself, read in the graph without decoding it.

Sizes let a server refuse a decompression bomb before a byte is unpacked; the EXIF
orientation turns a phone's photograph upright. Every function takes a scalar string
tensor and is safe on bytes that are not an image at all.
"""

import tensorflow as tf

JPEG, PNG, GIF, BMP = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM"

# JPEG markers, ISO/IEC 10918-1 table B.1.
_START_OF_FRAME = [0xC0 + i for i in range(16) if i not in (4, 8, 12)]
_NO_LENGTH = [0x01, *range(0xD0, 0xD9)]
_APP1, _END, _START_OF_SCAN = 0xE1, 0xD9, 0xDA
_MAX_SEGMENTS = 1024
# EXIF, CIPA DC-008: the directory entry of the orientation.
_ORIENTATION_TAG = 0x0112
_GIF_DESCRIPTOR, _GIF_EXTENSION = 0x2C, 0x21

# Compiled: operation by operation, the walk through a file takes 50 times as long.
compiled = tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)


def starts_with(contents, signature):
    """Whether `contents` begins with the bytes `signature`; a scalar bool."""
    return tf.equal(_slice(contents, 0, len(signature)), signature)


@compiled
def image_size(contents):
    """Height and width that the header promises: int32 `[2]`, zeros when unknown.

    Known are JPEG, PNG, GIF and BMP files of 24 or 32 bits, what `images.decode`
    reads. The size is the stored one, before an EXIF orientation turns it.
    """
    size = tf.case(
        [
            (starts_with(contents, JPEG), lambda: _jpeg(contents)[0]),
            (starts_with(contents, PNG), lambda: _png_size(contents)),
            (starts_with(contents, GIF), lambda: gif_first_frame(contents)[0]),
            (starts_with(contents, BMP), lambda: _bmp_size(contents)),
        ],
        default=lambda: tf.zeros([2], tf.int32),
    )
    size = tf.ensure_shape(size, [2])
    return tf.where(tf.reduce_all(size > 0), size, tf.zeros_like(size))


@compiled
def orientation(contents):
    """EXIF orientation of a JPEG, int32 scalar 1..8; 1 when it says nothing."""
    return tf.cond(
        starts_with(contents, JPEG),
        lambda: _exif_orientation(contents, _jpeg(contents)[1]),
        lambda: tf.constant(1),
    )


def gif_first_frame(contents):
    """Size int32 `[2]` of a GIF's first frame, and the offset just behind it.

    TensorFlow unpacks every frame before it returns the first: an animation of a few
    kilobytes can fill the memory. Cut at this offset, only one frame is there.
    """
    start = 13 + _colour_table(_byte(contents, 10))

    def skip_extension(at):
        return [_skip_blocks(contents, at + 2)]

    at = tf.while_loop(
        lambda at: tf.equal(_byte(contents, at), _GIF_EXTENSION),
        skip_extension,
        [start],
    )[0]
    width, height = _number(contents, at + 5, 2), _number(contents, at + 7, 2)
    data = at + 10 + _colour_table(_byte(contents, at + 9)) + 1
    end = _skip_blocks(contents, data)
    found = tf.equal(_byte(contents, at), _GIF_DESCRIPTOR)
    size = tf.where(found, tf.stack([height, width]), tf.zeros([2], tf.int32))
    return size, end


def _slice(contents, start, length):
    """Bytes `[start, start + length)`, fewer at the end; never an error."""
    size = tf.strings.length(contents)
    return tf.strings.substr(contents, tf.clip_by_value(start, 0, size), length)


def _byte(contents, at):
    """The byte at offset `at` as int32 0..255; -1 outside the file."""
    inside = (at >= 0) & (at < tf.strings.length(contents))
    return tf.where(inside, _number(contents, at, 1), -1)


def _number(contents, at, size, big_endian=False):
    """Unsigned integer of `size` bytes at `at`, int32; bytes past the end are 0.

    Four bytes above 2^31 come out negative, which no caller takes for a size.
    """
    raw = tf.io.decode_raw(_slice(contents, at, size), tf.uint8, fixed_length=4)
    # decode_raw pads on the right: little-endian as it is, big-endian after a turn.
    digits = tf.cast(raw[:size][::-1] if big_endian else raw[:size], tf.int32)
    return tf.reduce_sum(tf.bitwise.left_shift(digits, tf.range(size) * 8))


def _png_size(contents):
    first_chunk_is_header = tf.equal(_slice(contents, 12, 4), b"IHDR")
    width, height = (_number(contents, at, 4, big_endian=True) for at in (16, 20))
    size = tf.stack([height, width])
    return tf.where(first_chunk_is_header, size, tf.zeros_like(size))


def _bmp_size(contents):
    """24 or 32 bits, not compressed; TensorFlow reads a palette as if it were grey."""
    width, height = _number(contents, 18, 4), tf.abs(_number(contents, 22, 4))
    bits, compression = _number(contents, 28, 2), _number(contents, 30, 4)
    plain = (tf.equal(bits, 24) | tf.equal(bits, 32)) & tf.equal(compression % 3, 0)
    size = tf.stack([height, width])
    return tf.where(plain, size, tf.zeros_like(size))


def _jpeg(contents):
    """Walk the segments: size int32 `[2]`, and the EXIF block's offset (-1: none)."""

    def step(at, size, exif):
        marker = _byte(contents, at + 1)
        is_frame = tf.reduce_any(tf.equal(marker, _START_OF_FRAME))
        height = _number(contents, at + 5, 2, big_endian=True)
        width = _number(contents, at + 7, 2, big_endian=True)
        size = tf.where(is_frame, tf.stack([height, width]), size)
        has_exif = tf.equal(marker, _APP1) & tf.equal(
            _slice(contents, at + 4, 6), b"Exif\0\0"
        )
        exif = tf.where(has_exif & (exif < 0), at + 10, exif)
        length = 2 + _number(contents, at + 2, 2, big_endian=True)
        length = tf.where(tf.reduce_any(tf.equal(marker, _NO_LENGTH)), 2, length)
        # A marker may be preceded by any number of fill bytes 0xFF.
        length = tf.where(tf.equal(marker, 0xFF), 1, length)
        last = is_frame | tf.reduce_any(tf.equal(marker, [_END, _START_OF_SCAN]))
        end = tf.strings.length(contents)
        return [tf.where(last, end, at + length), size, exif]

    _, size, exif = tf.while_loop(
        lambda at, *_: tf.equal(_byte(contents, at), 0xFF),
        step,
        [tf.constant(2), tf.zeros([2], tf.int32), tf.constant(-1)],
        maximum_iterations=_MAX_SEGMENTS,
    )
    return size, exif


def _exif_orientation(contents, start):
    """Orientation in the TIFF block at offset `start`; 1 when there is none."""
    block = _slice(contents, start, tf.where(start < 0, 0, 65536))
    swapped = tf.equal(_slice(block, 0, 2), b"MM")

    def number(at, size):
        return tf.where(
            swapped,
            _number(block, at, size, big_endian=True),
            _number(block, at, size),
        )

    directory = number(4, 4)
    n_entries = tf.where(directory > 0, number(directory, 2), 0)
    # An entry has 12 bytes: tag (2), type (2), count (4), value (4, left-justified).
    entries = tf.io.decode_raw(
        _slice(block, directory + 2, 12 * n_entries), tf.uint8, fixed_length=12 * 512
    )
    entries = tf.cast(tf.reshape(entries, [512, 6, 2]), tf.int32)
    weights = tf.where(swapped, [256, 1], [1, 256])
    shorts = tf.reduce_sum(entries * weights, axis=-1)
    values = tf.where(tf.equal(shorts[:, 0], _ORIENTATION_TAG), shorts[:, 4], 0)
    value = tf.reduce_max(values)
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _colour_table(flags):
    """Bytes of the colour table that a GIF's packed `flags` announce."""
    size = 3 * tf.bitwise.left_shift(2, tf.bitwise.bitwise_and(flags, 7))
    return tf.where(tf.equal(tf.bitwise.bitwise_and(flags, 0x80), 0), 0, size)


def _skip_blocks(contents, at):
    """Offset behind a GIF's chain of sub-blocks, each its length and as many bytes."""
    at = tf.while_loop(
        lambda at: _byte(contents, at) > 0,
        lambda at: [at + 1 + _byte(contents, at)],
        [at],
    )[0]
    return at + 1
