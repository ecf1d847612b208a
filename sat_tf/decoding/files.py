"""Image files captioned one after the other, however many there are."""

import collections
import concurrent.futures
import functools
import itertools
from typing import NamedTuple

import numpy as np

from sat_tf import images as image_files
from sat_tf.decoding import generate

# Of images in one batch: as fast as 32, and the first captions come sooner.
_BATCH_SIZE = 8


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


def caption_files(captioner, paths, options, *, seed=None, at_once=1):
    """Captions image files as they come: the next are read while these are captioned.

    Args:
        captioner: a `ShowAttendTell`.
        paths: any iterable of paths; memory does not grow with their number. `None` in
            between says that the next path will be long in coming: those before it are
            captioned before it is asked for.
        options: `DecodingOptions`.
        seed: as in `generate`. What is drawn for an image depends on its index among
            all paths: a file that cannot be read keeps its index.
        at_once: batches that can be computed at once. One more is at work: while one
            waits for a file, the others keep the processor busy.

    Yields:
        an `Outcome` of every path, in order.
    """
    work = functools.partial(_captioned, captioner, options, generate.as_seed(seed))
    begun, first = collections.deque(), 0
    at_work = at_once + 1
    with concurrent.futures.ThreadPoolExecutor(at_work) as pool:
        for batch in _batches(paths, _BATCH_SIZE):
            begun.append(pool.submit(work, batch, first))
            first += len(batch)
            while len(begun) > (at_work if batch else 0):
                yield from begun.popleft().result()


def _batches(paths, size):
    """Lists of `size` paths; before a pause and at the end a shorter one, and `[]`."""
    batch = []
    for path in itertools.chain(paths, [None]):
        if path is not None:
            batch.append(path)
        if path is None or len(batch) == size:
            yield batch
            batch = []
        if path is None:
            yield []


def _load(encoder, path):
    try:
        pixels = image_files.load(path, encoder.image_size, encoder.resize_mode)
    except ValueError as error:
        return Outcome(path, error=error)
    return Outcome(path, pixels=pixels)


def _captioned(captioner, options, seed, paths, first):
    """The outcomes of one batch, of which the first image has the number `first`."""
    outcomes = [_load(captioner.encoder, path) for path in paths]
    good = [outcome.pixels for outcome in outcomes if not outcome.error]
    if not good:
        return outcomes
    # A black image stands in for a bad file, so that all others keep their indices.
    black = np.zeros_like(good[0])
    pixels = [black if outcome.error else outcome.pixels for outcome in outcomes]
    features = generate.encode(captioner, np.stack(pixels))
    captions = generate.caption_features(
        captioner, features, options, seed=seed, first=first
    )
    return [
        outcome if outcome.error else outcome._replace(caption=caption)
        for outcome, caption in zip(outcomes, captions, strict=True)
    ]
