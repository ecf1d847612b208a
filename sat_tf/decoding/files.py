"""Image files captioned one after the other, however many there are."""

import concurrent.futures
import contextlib
from typing import NamedTuple

import numpy as np

from sat_tf import images as image_files
from sat_tf.decoding import generate
from sat_tf.runtime.ahead import ahead, in_order

# Of images in one batch: as fast as 32, and the first captions come sooner.
BATCH_SIZE = 8
_THREADS = 2


class Outcome(NamedTuple):
    """What became of one file: a caption, or an error."""

    path: str
    """As it was given."""
    pixels: np.ndarray | None = None
    """float32 `[H, W, 3]` in 0..255, as the captioner saw it."""
    caption: generate.Caption | None = None
    """What was said of it."""
    error: ValueError | None = None
    """Why nothing was."""


def caption_files(captioner, paths, options, *, seed=None, batch_size=BATCH_SIZE):
    """Captions image files as they come: the next are read while these are captioned.

    Args:
        captioner: a `ShowAttendTell`.
        paths: any iterable of paths; memory does not grow with their number. It runs
            in a thread. `None` in between says that the next path will be long in
            coming, and has those before it captioned now.
        options: `DecodingOptions`.
        seed: as in `generate`. What is drawn for an image depends on its index among
            all paths: a file that cannot be read keeps its index.
        batch_size: images decoded at once.

    Yields:
        an `Outcome` of every path, in order.
    """
    seed, first = generate.as_seed(seed), 0
    batches = ahead(_batches(captioner, paths, batch_size))
    with contextlib.closing(batches):
        for outcomes, features in batches:
            if features is not None:
                captions = generate.caption_features(
                    captioner, features, options, seed=seed, first=first
                )
                pairs = zip(outcomes, captions, strict=True)
                outcomes = [one._replace(caption=caption) for one, caption in pairs]
            first += len(outcomes)
            yield from outcomes


def _batches(captioner, paths, batch_size):
    """Outcomes without captions, and their features: `None` of a file that is bad.

    The images of a batch follow each other: its first one's index tells all.
    """
    size, mode = captioner.encoder.image_size, captioner.encoder.resize_mode
    batch = []

    def load(path):
        return image_files.load(path, size, mode)

    with _threads() as pool:
        for loaded in in_order(pool, load, paths, 2 * batch_size):
            good, bad = _outcomes(loaded)
            batch += good
            if batch and (bad or loaded is None or len(batch) == batch_size):
                yield batch, _encode(captioner, batch)
                batch = []
            yield bad, None  # nothing bad either: whoever waits may stop waiting now
        if batch:
            yield batch, _encode(captioner, batch)


@contextlib.contextmanager
def _threads():
    """Threads to read files in, which leave unread what nobody waits for any more."""
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _outcomes(loaded):
    """Good ones and bad ones, one in all, or none."""
    if loaded is None:
        return [], []
    path, pixels = loaded
    try:
        return [Outcome(path, pixels=pixels.result())], []
    except ValueError as error:
        return [], [Outcome(path, error=error)]


def _encode(captioner, batch):
    return generate.encode(captioner, np.stack([each.pixels for each in batch]))
