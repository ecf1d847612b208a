"""Batches for training and evaluation, read from a cache while the step computes."""

import functools

import numpy as np
import tensorflow as tf

from sat_tf.vocabulary import PAD

_PARALLEL_READS = 2
_PREFETCH = 4


def batch_order(lengths, batch_size, seed, epoch):
    """Batches of captions of near-equal length, in random order.

    "we randomly sample a length and retrieve a mini-batch of size 64 of that length"
    (section 4.3), so that little is computed on padding. Every caption occurs once.

    Args:
        lengths: words of each caption, `[N]`.
        batch_size: captions per batch; one batch may hold fewer.
        seed, epoch: the same give the same batches.

    Returns:
        List of int arrays, indices into `lengths`.
    """
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(lengths))
    by_length = shuffled[np.argsort(np.asarray(lengths)[shuffled], kind="stable")]
    n_batches = -(-len(lengths) // batch_size)
    sizes = np.full(n_batches, batch_size)
    # The short batch takes any place: at the end it would always be the longest.
    sizes[rng.integers(n_batches)] -= n_batches * batch_size - len(lengths)
    batches = np.split(by_length, np.cumsum(sizes)[:-1])
    return [batches[i] for i in rng.permutation(n_batches)]


class Schedule:
    """Which captions make up which training step; a pure function of the step.

    Args:
        captions: per image, its captions.
        vocabulary: a `Vocabulary`.
        batch_size: captions per batch.
        seed: of the order.

    Attributes:
        steps_per_epoch: batches that hold every caption once.
    """

    def __init__(self, captions, vocabulary, *, batch_size, seed):
        self.images, self.tokens = _flatten(captions, vocabulary)
        self.batch_size = batch_size
        self.seed = seed
        self.steps_per_epoch = -(-len(self.tokens) // batch_size)
        self._lengths = np.array([len(tokens) for tokens in self.tokens])
        # Two, for reads in parallel may lie on both sides of an epoch's end.
        self._order = functools.lru_cache(maxsize=2)(
            lambda epoch: batch_order(self._lengths, batch_size, seed, epoch)
        )

    def batch(self, step):
        """Image indices `[B]` and padded tokens int32 `[B, T]` of a step from 0."""
        epoch, place = divmod(int(step), self.steps_per_epoch)
        chosen = self._order(epoch)[place]
        return self.images[chosen], _pad([self.tokens[i] for i in chosen])

    def padding_share(self, epoch=0):
        """Share of token positions of an epoch that are padding."""
        longest = [self._lengths[batch].max() for batch in self._order(epoch)]
        sizes = [len(batch) for batch in self._order(epoch)]
        return 1 - self._lengths.sum() / np.dot(longest, sizes)


def training_batches(
    cache, captions, vocabulary, *, batch_size, seed, key, start_step=0
):
    """Endless batches of `{key: [B, ...], "tokens": int32 [B, T]}`.

    Args:
        cache: an `ArrayCache` with one record per image.
        captions: per image, its captions.
        vocabulary: a `Vocabulary`.
        batch_size: captions per batch.
        seed: of the order; see `Schedule`, which tells what a step held.
        key: what the records are: `image` or `annotations`, in the cache's dtype.
        start_step: the first step, so that an interrupted run goes on where it was.
    """
    _check_match(cache, captions)
    schedule = Schedule(captions, vocabulary, batch_size=batch_size, seed=seed)
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
        _check_match(cache, captions)
        image_indices, tokens = _flatten(captions, vocabulary)

    def batch(start):
        chosen = slice(start, start + batch_size)
        if tokens is None:
            return image_indices[chosen], np.zeros([0, 0], np.int32)
        return image_indices[chosen], _pad(tokens[chosen])

    starts = tf.data.Dataset.range(0, len(image_indices), batch_size)
    batches = _read_batches(starts, batch, cache, key)
    if captions is None:
        return batches.map(lambda batch: {key: batch[key]})
    return batches


def _read_batches(numbers, batch, cache, key):
    """Data set of the records and tokens that `batch(number)` names."""

    def read(number):
        image_indices, tokens = batch(int(number))
        return cache.read(image_indices), tokens

    def to_tensors(number):
        records, tokens = tf.numpy_function(read, [number], [cache.dtype, tf.int32])
        records = tf.ensure_shape(records, [None, *cache.record_shape])
        return {key: records, "tokens": tf.ensure_shape(tokens, [None, None])}

    batches = numbers.map(to_tensors, _PARALLEL_READS, deterministic=True)
    return batches.prefetch(_PREFETCH)


def _flatten(captions, vocabulary):
    """Image index `[N]` and token ids of every caption."""
    image_indices = [i for i, texts in enumerate(captions) for _ in texts]
    tokens = [vocabulary.encode(text) for texts in captions for text in texts]
    if not tokens:
        raise ValueError(
            f"Expected captions. Received: none for {len(captions)} images. "
            "Choose a split that has captions."
        )
    return np.array(image_indices), tokens


def _pad(tokens):
    """Rows filled up with `PAD` to the longest; int32 `[B, T]`."""
    padded = np.full([len(tokens), max(map(len, tokens))], PAD, np.int32)
    for row, ids in zip(padded, tokens, strict=True):
        row[: len(ids)] = ids
    return padded


def _check_match(cache, captions):
    if len(cache) != len(captions):
        raise ValueError(
            "Expected captions for every record of the cache. "
            f"Received: len(cache)={len(cache)}, len(captions)={len(captions)}. "
            "Take both from the same split."
        )
