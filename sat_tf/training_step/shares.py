"""A batch cut into the shares of several replicas."""

import contextlib

import tensorflow as tf
from tensorflow.python.data.ops import debug_mode

from sat_tf.training_step import claims, inputs

_MIXED_UP = "Shape mismatch in the collective instance"


class CutsBatches:
    """A strategy for Keras, whose way to cut batches tears captions off their images.

    It is the strategy in all but that.

    Args:
        strategy: of several replicas. network: the `Network` that batches are for.
    """

    def __init__(self, strategy, network):
        self._strategy, self._network = strategy, network

    def __getattr__(self, name):
        return getattr(self._strategy, name)

    def experimental_distribute_dataset(self, dataset, options=None):
        """A data set of batches, each of which goes to all replicas, cut by `cut`."""
        number, network = self._strategy.num_replicas_in_sync, self._network

        def of_worker(context):
            here = number // context.num_input_pipelines
            first = context.input_pipeline_id * here

            @tf.autograph.experimental.do_not_convert
            def shares(step, data):
                batch = inputs.batch_of(data, network)
                with tf.control_dependencies([_divisible(step, batch, number)]):
                    mine = cut(batch, number)[first : first + here]
                datasets = map(tf.data.Dataset.from_tensors, mine)
                found = next(datasets)
                for each in datasets:
                    found = found.concatenate(each)
                return found

            return dataset.enumerate().flat_map(shares).prefetch(2 * here)

        distribute = self._strategy.distribute_datasets_from_function
        return Untuned(distribute(of_worker, options))

    def shares(self, batch):
        """One batch, as a step takes it on all replicas."""
        dataset = tf.data.Dataset.from_tensors(batch)
        options = tf.data.Options()
        options.autotune.enabled = False  # whose thread ends up to a minute later
        dataset = dataset.with_options(options)
        return next(iter(self.experimental_distribute_dataset(dataset)))


class Untuned:
    """A distributed data set whose iterators end when they are no longer wanted.

    On the way to a device there is nothing to tune, but TensorFlow 2.21 tunes it, in
    a thread that sleeps for up to a minute and that the end of `fit` would wait for.

    Args:
        dataset: what a strategy made of a data set.
    """

    def __init__(self, dataset):
        self._dataset = dataset

    def __getattr__(self, name):
        return getattr(self._dataset, name)

    def __iter__(self):
        before = debug_mode.DEBUG_MODE
        debug_mode.DEBUG_MODE = True  # all that it does to an iterator is not to tune
        try:
            return iter(self._dataset)
        finally:
            debug_mode.DEBUG_MODE = before


def cut(batch, number):
    """A batch as a list of `number` batches, its captions divided among them.

    All captions of an image go where the image goes, so every image is read once. With
    `rows` the shares are filled up to one number of captions, with such that say
    nothing; it is that of the batch over `number` but where an image stands in the way.

    Args:
        batch: a dict, as `fit` takes it. number: of shares.
    """
    tokens, given = batch["tokens"], batch.get("rows")
    size = tf.shape(tokens)[0]
    if given is None:
        rows, counts = tf.range(size), tf.ones([size], tf.int32)
    else:
        # Rows without words only fill the batch up, and need no image.
        rows = tf.where(tf.reduce_any(tokens > 0, axis=1), tf.cast(given, tf.int32), -1)
        key = next(name for name in claims.IMAGES if name in batch)
        images = tf.range(tf.shape(batch[key])[0])
        counts = tf.reduce_sum(tf.cast(rows[:, None] == images, tf.int32), axis=0)
    # The captions in a row, cut into equal shares: an image goes where its first goes.
    starts = tf.cumsum(counts, exclusive=True)
    home = starts * number // tf.maximum(tf.reduce_sum(counts), 1)
    home = tf.minimum(home, number - 1)
    return _take(batch, rows, home, number)


def _take(batch, rows, home, number):
    """The shares of a batch whose images have a home each."""
    together = "rows" in batch
    captions = tf.where(rows < 0, -1, tf.gather(home, tf.maximum(rows, 0)))
    chosen = [tf.where(captions == i)[:, 0] for i in range(number)]
    sizes = tf.stack([tf.size(each) for each in chosen])
    if together:
        even = -(-tf.size(rows) // number)
        sizes = tf.fill([number], tf.maximum(even, tf.reduce_max(sizes)))
    shares = []
    for i, mine in enumerate(chosen):
        images = tf.where(home == i)[:, 0]
        share = {}
        for name, value in batch.items():
            if together and name in claims.IMAGES:
                share[name] = _filled(tf.gather(value, images), 1)
            else:
                share[name] = _filled(tf.gather(value, mine), tf.maximum(sizes[i], 1))
        if together:
            new = tf.cast(
                tf.searchsorted(images, tf.cast(share["rows"], tf.int64)), tf.int32
            )
            share["rows"] = tf.minimum(new, tf.maximum(tf.size(images) - 1, 0))
        shares.append(share)
    return shares


def _filled(values, size):
    """Values with zeros behind them, along the first axis, if they are too few."""
    missing = tf.maximum(size - tf.shape(values)[0], 0)
    filling = tf.zeros(
        tf.concat([[missing], tf.shape(values)[1:]], axis=0), values.dtype
    )
    return tf.concat([values, filling], axis=0)


def _divisible(step, batch, number):
    """Fails at a first batch that is not: the last one may be what was left over."""
    size = tf.shape(batch["tokens"])[0]
    return claims.claim(
        (step > 0) | (size % number == 0),
        f"Expected a batch that {number} replicas can divide evenly. Received: ",
        size,
        f" captions. Choose a batch size that is a multiple of {number}, or fill the "
        "batch up with captions without words.",
    )


@contextlib.contextmanager
def explained():
    """Raises `ValueError` for what TensorFlow says in its own words."""
    try:
        with claims.explained():
            yield
    except tf.errors.InvalidArgumentError as error:
        if _MIXED_UP in str(error):
            raise ValueError(
                "Expected one MirroredStrategy in a process, as TensorFlow mixes up "
                "the sums of two. Received: sums of several. Start Python anew, "
                "make one strategy, and all captioners in its scope."
            ) from error
        raise
