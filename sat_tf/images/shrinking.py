"""How much of an image is decoded: no more than fits, and than is looked at.

libjpeg decodes at a half or a quarter of the size, which takes less time and memory.
"""

import tensorflow as tf

# "resized so that the shortest side is 256, then centre crop 224" (section 5.2).
SHORTEST_SIDE = 256 / 224
# What an image may unpack to; a 50-megapixel photograph passes.
MAX_PIXELS = 64_000_000
# What the sides of a larger JPEG are divided by, so that it unpacks to no more, and to
# no more than is looked at.
SHRINKS = (1, 2, 4)
_AMPLE = 2  # of the sides wanted: resizing hardly tells it from all there is
WHOLE = 2**30  # more than any side has


def enough_for(size, mode):
    """How long both sides of an image must be for `resize` to need no more of it."""
    if mode == "none":
        return WHOLE
    return round(_AMPLE * max(size) * (SHORTEST_SIDE if mode == "crop" else 1))


def shrink_of(header, max_pixels, enough=WHOLE):
    """Which of `SHRINKS` keeps files to `max_pixels`: int32 `[B]`, 0: none does.

    The greatest that leaves `enough` pixels a side, or else the least.
    """
    shrinks = tf.constant(SHRINKS, tf.int64)
    sides = tf.cast(header.size, tf.int64)[:, tf.newaxis]
    sides = -(-sides // shrinks[:, tf.newaxis])
    fits = tf.reduce_prod(sides, axis=-1) <= max_pixels
    fits &= header.in_rows[:, tf.newaxis] | (shrinks < 2)
    ample = fits & (tf.reduce_min(sides, axis=-1) >= tf.cast(enough, tf.int64))
    least = tf.gather(SHRINKS, tf.argmax(fits, axis=-1))
    greatest = tf.reduce_max(tf.where(ample, SHRINKS, 0), axis=-1)
    chosen = tf.maximum(least, greatest)
    return tf.where(tf.reduce_any(fits, axis=-1), chosen, 0)


def unpacked_pixels(height, width, in_rows):
    """How many pixels `decode` makes at most of a file whose header has been read.

    Args:
        height, width: as the header has them.
        in_rows: see `image_headers.Header`.
    """
    shrinks = SHRINKS if in_rows else SHRINKS[:1]
    pixels = [-(-height // shrink) * -(-width // shrink) for shrink in shrinks]
    return next((n for n in pixels if n <= MAX_PIXELS), pixels[-1])


def largest(max_pixels):
    """What is said of a larger one."""
    most = max_pixels * SHRINKS[-1] ** 2
    return (
        f"image too large: send one of at most {max_pixels} pixels, or a JPEG that is "
        f"not progressive of at most {most}"
    )
