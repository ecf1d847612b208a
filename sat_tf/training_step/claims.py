"""What is true of the values of a batch, and a sentence where it is not."""

import contextlib
import re

import tensorflow as tf

from sat_tf.vocabulary import EOS

IMAGES = ("annotations", "image")  # the first that a batch has
# Whatever NumPy makes of what somebody writes.
_DTYPES = {name: tf.int32 for name in ("tokens", "inputs", "rows")}
_DTYPES["location_bias"] = tf.float32
_PIECE = re.compile(r"\[([^\[\]]*)\]")
_CLAIM = re.compile(r"(?<=assertion failed: )(\[[^\[\]]*\] ?)+")


def checked(batch, words):
    """A batch whose values are looked at before they are used.

    Args:
        batch: a dict of tensors, as `fit` takes it. words: V.

    Raises:
        InvalidArgumentError: they cannot be trained on, see `explained`.
    """
    batch = {n: tf.cast(x, _DTYPES.get(n, x.dtype)) for n, x in batch.items()}
    if "rows" in batch:
        # Captions without words only fill the batch up, and need no image.
        spoken = tf.reduce_any(batch["tokens"] > 0, axis=1)
        batch["rows"] = tf.where(spoken, batch["rows"], 0)
    about = _about_tokens(batch), _about_images(batch), _about_pixels(batch)
    checks = [*about, *_about_company(batch), *_about_ids(batch, words)]
    with tf.control_dependencies(checks):
        return {name: tf.identity(value) for name, value in batch.items()}


def _about_ids(batch, words):
    """Operations that fail where ids are of no word of the vocabulary."""
    return [
        claim(
            tf.reduce_all((batch[name] >= 0) & (batch[name] < words)),
            f"Expected {name} that are ids of the vocabulary, 0 to {words - 1}. "
            "Received: ",
            tf.reduce_min(batch[name]),
            " to ",
            tf.reduce_max(batch[name]),
            ". Make them with captioner.vocabulary.",
        )
        for name in ("tokens", "inputs")
        if name in batch
    ]


def _about_company(batch):
    """Operations that fail where what comes beside words is not of their number."""
    tokens = batch["tokens"]
    return [
        claim(
            tf.reduce_all(tf.equal(tf.shape(batch[name])[:2], tf.shape(tokens))),
            f"Expected {name} for each of the tokens of a batch, ",
            *_sides(tokens),
            ". Received: ",
            *_sides(batch[name]),
            ". Pad both to one length.",
        )
        for name in ("inputs", "location_bias")
        if name in batch
    ]


def _sides(array):
    """The first two sides of an array, as words of a `claim`: "3 x 4"."""
    captions, length = tf.unstack(tf.shape(array)[:2])
    return captions, " x ", length


def _about_tokens(batch):
    """An operation that fails where tokens are not captions."""
    tokens = batch["tokens"]
    spoken = tokens > 0
    padded = claim(
        tf.reduce_all(spoken[:, :-1] | ~spoken[:, 1:]),
        "Expected captions that are padded with 0 at their end. Received: words after "
        "a 0. Put the zeros behind the words, not in front.",
    )
    # What fills its row may have been cut off.
    last = spoken[:, :-1] & ~spoken[:, 1:]
    ended = claim(
        tf.reduce_all((tokens[:, :-1] == EOS) | ~last),
        f"Expected captions that end in <eos>, {EOS}, as captioner.vocabulary.encode "
        "makes them. Received: a 0 after another word. A captioner that never hears "
        "<eos> never ends.",
    )
    return tf.group(padded, ended)


def _about_images(batch):
    """An operation that fails where captions and images do not go together."""
    name = next(name for name in IMAGES if name in batch)
    captions, images = (
        tf.shape(batch[n])[0] if batch[n].shape[0] is None else batch[n].shape[0]
        for n in ("tokens", name)
    )
    rows = batch.get("rows")
    if rows is None:
        return claim(
            captions == images,
            f"Expected one {name} for each caption, or rows. Received: ",
            images,
            " for ",
            captions,
            " captions. Say as rows, int [B], which one each caption is about.",
        )
    return claim(
        tf.reduce_all((rows >= 0) & (rows < images)),
        f"Expected rows that say which {name} of the batch a caption is about. "
        "Received: ",
        tf.reduce_min(rows),
        " to ",
        tf.reduce_max(rows),
        " in a batch of ",
        images,
        ". Data with rows come in whole batches, which nothing cuts: of a data set.",
    )


def _about_pixels(batch):
    """An operation that fails where images were brought to 0..1, as others want."""
    if "image" not in batch or not batch["image"].dtype.is_floating:
        return tf.no_op()
    brightest = tf.reduce_max(batch["image"])
    return claim(
        (brightest > 1) | (brightest <= 0),
        "Expected images in 0..255. Received: a batch with nothing above ",
        brightest,
        ". Multiply them by 255, or leave out what divides them.",
    )


def claim(condition, *words):
    """An operation that fails with a sentence where a scalar does not hold.

    `explained` finds the sentence in TensorFlow's error.

    Args:
        condition: of the graph; one that is known already fails now.
        words: of the sentence: text, without brackets and quotes, and scalars.
    """
    if not isinstance(condition, bool) and not tf.executing_eagerly():
        return tf.debugging.Assert(condition, [*words])
    if not condition:
        raise ValueError("".join(str(getattr(w, "numpy", w.__str__)()) for w in words))
    return tf.no_op()


@contextlib.contextmanager
def explained():
    """Raises `ValueError` with the sentence of a `claim` that did not hold."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if found := _CLAIM.search(str(error)):
            raise ValueError("".join(_PIECE.findall(found[0]))) from None
        raise
