"""Paths of images, as the command line names them."""

import codecs
import os
import pathlib
import select

from sat_tf.runtime.files import IMAGE_SUFFIXES

STANDARD_INPUT = "-"
_LIST = ".txt"
_PATIENCE = 0.2  # seconds
_CHUNK = 2**16  # bytes


def check(names):
    """Raises `ValueError` where no path would come of a name; see `read`."""
    for name in names:
        if os.path.isdir(name) and not _images_in(name):
            raise ValueError(
                f"Expected images in the folder. Received: {name}, which has none "
                "directly in it. Name the folder that they are in, or pipe their "
                f"paths: find {name} -name '*.jpg' | sat-tf caption -"
            )
        if _is_list(name):
            try:
                with open(name, "rb") as lines:
                    _refuse_utf_16(lines.readline())
            except OSError as error:
                raise ValueError(
                    "Expected a file of paths, one a line. "
                    f"Received: {name} ({error.strerror}). Check the path."
                ) from error


def read(names):
    """The paths of all images, one after the other.

    Args:
        names: of images; of folders, for the images directly in them; of files ending
            in `.txt`, which hold paths, one a line; or `-`, for such lines from
            standard input.

    Yields:
        paths, as text. `None` where the next is long in coming.
    """
    for name in names:
        if name == STANDARD_INPUT:
            yield from _paths(_incoming_lines(0))
        elif _is_list(name):
            with open(name, "rb") as lines:
                yield from _paths(lines)
        elif os.path.isdir(name):
            yield from _images_in(name)
        else:
            yield name


def count(names):
    """How many images are named, where that is known before they are read."""
    if any(name == STANDARD_INPUT or _is_list(name) for name in names):
        return None
    return sum(1 for _ in read(names))


def _is_list(name):
    return name.endswith(_LIST) and not os.path.isdir(name)


def _images_in(folder):
    files = sorted(pathlib.Path(folder).iterdir())
    return [
        str(file)
        for file in files
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]


def _paths(lines):
    """Paths in lines of bytes; blank lines have none, and `None` stays `None`.

    Bytes that are not UTF-8 are kept: a file system allows them in names.
    """
    for line in lines:
        if line is None:
            yield None
            continue
        _refuse_utf_16(line)
        line = line.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")
        if line.strip():
            yield line.decode("utf-8", "surrogateescape")


def _refuse_utf_16(line):
    """Raises `ValueError` where a line begins with its byte order mark."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(
            "Expected paths in UTF-8, one a line. Received: UTF-16, as PowerShell "
            "writes by > and Out-File. Write them with -Encoding utf8."
        )


def _incoming_lines(descriptor):
    """Lines as they come, and `None` where the next is long in coming.

    Not from a file object: its buffer hides from `select` what has come already.
    """
    rest = b""
    while True:
        if not select.select([descriptor], [], [], _PATIENCE)[0]:
            yield None
        chunk = os.read(descriptor, _CHUNK)
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if not chunk:
            yield rest
            return
