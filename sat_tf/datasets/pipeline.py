"""Batches for training and evaluation, read from a cache while the step computes."""

import atexit
import functools
import gc
import itertools

import numpy as np
import tensorflow as tf

from sat_tf.datasets.texts import Captions
from sat_tf.vocabulary import EOS, PAD

_PARALLEL_READS = 2
_PREFETCH = 4

# An iterator that is garbage, but that nobody has collected, would be taken apart when
# threads may not run Python any more, and wait for ever for a batch being read by one
# (TensorFlow 2.21).
atexit.register(gc.collect)


class Batches:
    """Batches of captions of near-equal length, in random order.

    "we randomly sample a length and retrieve a mini-batch of size 64 of that length"
    (section 4.3), so that little is computed on padding. Every caption occurs once an
    epoch. Captions come in units that are never torn apart: one each, or all of an
    image.

    Args:
        lengths: words of the longest caption of each unit, `[N]`.
        counts: captions of each unit, `[N]`.
        number: as many as there are to be, of about as many captions each. No unit may
            hold more than its share, or some batches may be empty.
        seed: the same gives the same batches.
    """

    def __init__(self, lengths, counts, number, seed):
        # Of one or two bytes they are sorted by their digits, in a tenth of the time.
        lengths = np.asarray(lengths).astype(np.min_scalar_type(np.max(lengths)))
        self._by_length = np.argsort(lengths, kind="stable").astype(np.int32)
        ordered = lengths[self._by_length]
        self._edges = np.r_[0, np.flatnonzero(np.diff(ordered)) + 1, len(ordered)]
        self._counts, self._number, self._seed = np.asarray(counts), number, seed

    def of_epoch(self, epoch):
        """The `Order` of an epoch, from 0."""
        rng = np.random.default_rng([self._seed, epoch])
        units = self._by_length.copy()
        for start, end in itertools.pairwise(self._edges):
            rng.shuffle(units[start:end])
        return Order(units, self._cuts(units), rng.permutation(self._number))

    def _cuts(self, units):
        """Where batches begin, and the end: a unit goes where its first caption is."""
        counts = self._counts
        shares = np.arange(1, self._number) * counts.sum()
        if counts.min() == counts.max():
            cuts = -(-shares // (self._number * counts[0]))
        else:
            ends = np.cumsum(counts[units])
            cuts = 1 + np.searchsorted(ends, -(-shares // self._number))
        return np.r_[0, cuts, len(units)]


class Order:
    """The batches of an epoch, a sequence of int arrays.

    As a list they would take more memory than what is in them.

    Args:
        units: int `[N]`. cuts: where the batches begin in it, and its end.
        places: which batch comes when.
    """

    def __init__(self, units, cuts, places):
        self._units, self._cuts, self._places = units, cuts, places

    def __len__(self):
        return len(self._places)

    def __getitem__(self, index):
        batch = self._places[index]
        return self._units[self._cuts[batch] : self._cuts[batch + 1]]


class Schedule:
    """Which captions make up which training step; a pure function of the step.

    All batches have the same number of rows, as XLA compiles the update anew for every
    other number. Those left over are filled up with padding, which counts for nothing.

    Args:
        captions: per image, its captions.
        vocabulary: a `Vocabulary`.
        batch_size: captions per batch (about, when `together`).
        seed: of the order.
        together: all captions of an image in one batch (if they are no more than
            `batch_size`), so that a trunk that is trained sees the image once; costs
            more padding.
        replicas: that a batch is divided among; the number of rows is a multiple.

    Attributes:
        steps_per_epoch: batches that hold every caption once.
        rows: of every batch, captions and filling.
    """

    def __init__(
        self, captions, vocabulary, *, batch_size, seed, together=False, replicas=1
    ):
        self.n_images = len(captions)
        self.images, self.tokens = flatten(captions, vocabulary)
        # A unit is drawn as a whole: one caption, or all of an image.
        starts = _starts(self.images, batch_size) if together else _numbers(self.images)
        counts = np.diff(starts, append=np.int32(len(self.images)))
        total, most = counts.sum(), counts.max()
        units_per_batch = max(1, round(batch_size * len(counts) / total))
        # No more batches than leave room for the largest unit in each.
        steps = min(-(-len(counts) // units_per_batch), total // most)
        self.steps_per_epoch = int(steps)
        # A batch holds the units that start in its share of the captions, and these
        # start at multiples of `step`: so many and the rest of the last unit.
        step = np.gcd.reduce(counts)
        rows = int(step * (-(-total // (steps * step)) - 1) + most)
        self.rows = -(-rows // replicas) * replicas
        self._starts, self._counts = starts, counts
        lengths = np.maximum.reduceat(self.tokens.lengths, starts)
        batches = Batches(lengths, counts, steps, seed)
        # Two, for reads in parallel may lie on both sides of an epoch's end.
        self._order = functools.lru_cache(maxsize=2)(batches.of_epoch)

    def captions(self, step):
        """Indices `[B]`, into all captions, of a step from 0."""
        epoch, place = divmod(int(step), self.steps_per_epoch)
        units = self._order(epoch)[place]
        counts = self._counts[units]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self._starts[units], counts) + within

    def batch(self, step):
        """Image indices `[rows]` and padded tokens int32 `[rows, T]` of a step from 0.

        The rows that fill it up name an image of the batch and say nothing of it.
        """
        chosen = self.captions(step)
        images, tokens = self.images[chosen], self.tokens.padded(chosen)
        filling = self.rows - len(chosen)
        images = np.pad(images, (0, filling), mode="edge")
        return images, np.pad(tokens, ((0, filling), (0, 0)), constant_values=PAD)

    def padding_share(self, epoch=0):
        """Share of token positions of an epoch that are padding."""
        steps = range(self.steps_per_epoch)
        batches = [self.captions(epoch * self.steps_per_epoch + i) for i in steps]
        positions = sum(
            self.tokens.lengths[batch].max() * self.rows for batch in batches
        )
        return 1 - self.tokens.lengths.sum() / positions


class Mirrored:
    """Records of images, of which about half are mirrored in each batch.

    Which ones they are depends on the batch alone, so a resumed run reads the same.

    Args:
        plain: an `ArrayCache`.
        mirror: indices -> records of the mirror images.
    """

    def __init__(self, plain, mirror):
        self.plain, self.mirror = plain, mirror
        self.record_shape, self.dtype = plain.record_shape, plain.dtype

    def __len__(self):
        return len(self.plain)

    def read(self, indices):
        """As `ArrayCache.read`."""
        indices = np.asarray(indices, np.int64)
        mirrored = np.random.default_rng(indices).random(len(indices)) < 0.5
        records = self.plain.read(indices)
        records[mirrored] = self.mirror(indices[mirrored])
        return records


def training_batches(cache, schedule, *, key, start_step=0):
    """Endless batches of `{key: [images, ..], "rows": [B], "tokens": int32 [B, T]}`.

    Every image of a batch is read once; `rows` says which one a caption is about. B is
    `schedule.rows` in all of them.

    Args:
        cache: an `ArrayCache` with one record per image.
        schedule: a `Schedule` of the same split.
        key: what the records are: `image` or `annotations`, in the cache's dtype.
        start_step: the first step, so that an interrupted run goes on where it was.
    """
    _check_match(cache, schedule.n_images)
    steps = tf.data.Dataset.counter(start_step)
    return _read_batches(steps, schedule.batch, cache, key)


def evaluation_batches(cache, captions, vocabulary, *, batch_size, key):
    """One pass in order: over the images, or over all captions of all images.

    Args:
        cache: an `ArrayCache` with one record per image.
        captions: per image, its captions; or None for batches without `tokens`, each
            image once.
        vocabulary: a `Vocabulary`; not used without captions.
        batch_size: images or captions per batch.
        key: as for `training_batches`.
    """
    image_indices, tokens = np.arange(len(cache)), None
    if captions is not None:
        _check_match(cache, len(captions))
        image_indices, tokens = flatten(captions, vocabulary)

    def batch(start):
        chosen = np.arange(start, min(start + batch_size, len(image_indices)))
        if tokens is None:
            return image_indices[chosen], np.zeros([0, 0], np.int32)
        return image_indices[chosen], tokens.padded(chosen)

    starts = tf.data.Dataset.range(0, len(image_indices), batch_size)
    batches = _read_batches(starts, batch, cache, key)
    if captions is None:
        return batches.map(lambda batch: {key: batch[key]})
    return batches


def _read_batches(numbers, batch, cache, key):
    """Data set of the records and tokens that `batch(number)` names."""

    def read(number):
        indices, tokens = batch(int(number))
        distinct, rows = np.unique(indices, return_inverse=True)
        return cache.read(distinct), rows.astype(np.int32), tokens

    def to_tensors(number):
        kinds = [cache.dtype, tf.int32, tf.int32]
        records, rows, tokens = tf.numpy_function(read, [number], kinds)
        return {
            key: tf.ensure_shape(records, [None, *cache.record_shape]),
            "rows": tf.ensure_shape(rows, [None]),
            "tokens": tf.ensure_shape(tokens, [None, None]),
        }

    batches = numbers.map(to_tensors, _PARALLEL_READS, deterministic=True)
    # Nothing here is tuned, but the tuner's thread sleeps for up to a minute, and the
    # iterator waits for it when an epoch ends (TensorFlow 2.21).
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(_PREFETCH).with_options(options)


def _numbers(values):
    # Half as large as numpy's own: of very many captions there are many such arrays.
    return np.arange(len(values), dtype=np.int32)


def _starts(images, most):
    """Where the captions of each image start, and every `most` of them again."""
    first = np.flatnonzero(np.diff(images, prepend=-1)).astype(np.int32)
    own = np.diff(first, append=np.int32(len(images)))
    place = _numbers(images) - np.repeat(first, own)
    return np.flatnonzero(place % most == 0).astype(np.int32)


def flatten(captions, vocabulary):
    """Image index int32 `[N]` and `Tokens` of every caption.

    Args:
        captions: per image, its captions.
        vocabulary: a `Vocabulary`.

    Raises:
        ValueError: there are no captions.
    """
    captions = Captions.of(captions)
    images = captions.images()
    if not len(images):
        raise ValueError(
            f"Expected captions. Received: none for {len(captions)} images. "
            "Choose a split that has captions."
        )
    return images, Tokens(captions, vocabulary)


class Tokens:
    """The ids of captions' words, each caption closed by `<eos>`.

    They are looked up when asked for, in what all vocabularies share: the words of the
    captions as numbers.

    Args:
        captions: a `Captions`.
        vocabulary: a `Vocabulary`.

    Attributes:
        lengths: int32 `[N]`, ids of each caption.
    """

    def __init__(self, captions, vocabulary):
        self._ids = np.array(vocabulary.ids(captions.words), np.int32)
        self._numbers, self._starts = captions.numbers, captions.number_starts
        self.lengths = np.diff(self._starts).astype(np.int32) + 1

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, caption):
        start = self._starts[range(len(self))[caption]]
        words = self._numbers[start : start + self.lengths[caption] - 1]
        return np.append(self._ids[words], np.int32(EOS))

    def padded(self, chosen):
        """Those chosen, filled up with `PAD` to the longest; int32 `[B, T]`."""
        lengths = self.lengths[chosen]
        place = np.arange(lengths.max())
        word = place < lengths[:, None] - 1
        padded = np.full(word.shape, PAD, np.int32)
        numbers = self._numbers[(self._starts[chosen][:, None] + place)[word]]
        padded[word] = self._ids[numbers]
        padded[np.arange(len(lengths)), lengths - 1] = EOS
        return padded


def _check_match(cache, n_images):
    if len(cache) != n_images:
        raise ValueError(
            "Expected captions for every record of the cache. "
            f"Received: len(cache)={len(cache)}, captions of {n_images} images. "
            "Take both from the same split."
        )
