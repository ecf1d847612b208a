"""What the C library does with freed memory, and Python with its objects."""

import atexit
import ctypes
import gc

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 2**30


def keep_freed_memory():
    """Has this process keep freed memory for its next update or word.

    `train` and `evaluate` call it. glibc gives large blocks back to the kernel as soon
    as they are freed, and gets them again page by page, each cleared: at paper size a
    third of an update's time went there (`benchmarks/train_step.py`). The process stays
    as large as it once was.

    Returns:
        Whether there was a C library that knows of it (glibc, so Linux).
    """
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST) and mallopt(_M_TRIM_THRESHOLD, -1))


def release_freed_memory():
    """Gives what was freed back to the kernel, so that memory in use can be measured.

    glibc keeps freed blocks of up to 32 MB in any case, and what is allocated next
    comes out of them unseen. With another C library this does nothing.
    """
    malloc_trim = _c_function("malloc_trim")
    if malloc_trim is not None:
        malloc_trim(0)


def collect_seldom():
    """Has Python look through its objects seldom, and not at all when it ends.

    TensorFlow makes 300,000 of them that stay. To look through these again and again
    takes 0.4 of the seconds in which a command starts and 0.7 of those in which it
    ends. This is for programs, not for the processes of others.
    """
    gc.set_threshold(50_000, 20, 20)
    atexit.register(gc.freeze)


def _c_function(name):
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # musl and macOS; Windows
        return None
