"""The little of an encoded image that says how large it is, found in bounded time.

Pillow's readers take whatever stands before the pixels apart, and keep it: a comment in
400,000 blocks of a byte keeps them busy for many seconds. Here it is stepped over, and
a reader is given only what it needs to know the size. As in `sat_tf.images`, a file
made to be slow to walk through counts as one that cannot be read.
"""

import re

_MAX_SEGMENTS, _MAX_BLOCKS = 1024, 4096
_MAX_BMP = 2**16  # bytes; a header and a palette of 256 colours have less than 2 KB
# Anything up to a JPEG's next marker; possessive, so that no byte is looked at twice.
_MARKER = re.compile(rb"[^\xff]*+\xff++(.)", re.DOTALL)
_BARE = {0x00, 0x01, *range(0xD0, 0xD9)}  # no length follows: see ISO/IEC 10918-1, B.1
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_END, _SCAN = 0xD9, 0xDA
_GIF_EXTENSION, _GIF_ENDS = 0x21, b",;"  # a frame's descriptor, the end of the file


def jpeg(contents):
    """Give a JPEG's frame header and that of its first scan, or raise ValueError."""
    at, frame = 2, b""
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.match(contents, at)
        marker = found[1][0] if found else _END
        if marker == _END:
            break
        at = found.end()
        if marker in _BARE:
            continue
        end = at + max(2, int.from_bytes(contents[at : at + 2], "big"))
        if marker == _SCAN:
            return contents[:2] + frame + b"\xff\xda" + contents[at:end]
        if marker in _FRAMES and not frame:
            frame = b"\xff" + found[1] + contents[at:end]
        at = end
    raise _no_pixels()


def png(contents):
    """Give a PNG's first chunk and the start of its pixels, or raise ValueError."""
    at = 8
    for _ in range(_MAX_SEGMENTS):
        if contents[at + 4 : at + 8] == b"IDAT":
            return contents[:33] + contents[at : at + 8]
        at += 12 + int.from_bytes(contents[at : at + 4], "big")
    raise _no_pixels()


def gif(contents):
    """Give a GIF's screen and its first frame's descriptor, or raise ValueError."""
    start = at = 13 + _colour_table(contents[10:11])
    inside = False  # an extension, whose blocks end with an empty one
    for _ in range(_MAX_BLOCKS):
        byte = contents[at : at + 1]
        if not byte:
            break
        if inside:
            at, inside = at + 1 + byte[0], byte[0] > 0
        elif byte in _GIF_ENDS:
            end = at + 11 + _colour_table(contents[at + 9 : at + 10])
            return contents[:start] + contents[at:end]
        else:
            inside = byte[0] == _GIF_EXTENSION
            at += 2 if inside else 1
    raise _no_pixels()


def bmp(contents):
    """Give a BMP's header, and its palette if it has one."""
    return contents[:_MAX_BMP]


def _colour_table(flags):
    """Bytes of the colour table that a GIF's packed flags (one byte) announce."""
    return 3 * 2 << (flags[0] & 7) if flags and flags[0] & 0x80 else 0


def _no_pixels():
    return ValueError("The file ends, or goes on for too long, before its pixels.")
