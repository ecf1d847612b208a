"""From images to captions a person can read, and where each word was looked at."""

import dataclasses
import functools
import os

import numpy as np
import tensorflow as tf

from sat_tf import images as image_files
from sat_tf.decoding import decode
from sat_tf.vocabulary import detokenise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
    """One caption and how it came about; T words, `<eos>` not among them.

    Attributes:
        caption: the words as they are written, see `vocabulary.detokenise`.
        words: the T words.
        score: what beams are ranked by, see `DecodingOptions`.
        log_p: nats, `<eos>` included.
        log_p_word: `[T]` nats.
        locations: int `[T]`, the chosen place, row * w + column.
        alpha: `[T, h, w]`, the distribution it was chosen from.
        beta: `[T]`, the gate on what was seen.
        beams: all captions of a beam search, best first, this one included.
    """

    caption: str
    words: tuple
    score: float
    log_p: float
    log_p_word: np.ndarray = dataclasses.field(repr=False)
    locations: np.ndarray = dataclasses.field(repr=False)
    alpha: np.ndarray = dataclasses.field(repr=False)
    beta: np.ndarray = dataclasses.field(repr=False)
    beams: tuple = dataclasses.field(default=(), repr=False)


def generate(captioner, images, options, *, seed=None, batch_size=32):
    """Captions of images, in order.

    Args:
        captioner: a `ShowAttendTell`.
        images: `[B, H, W, 3]` or `[H, W, 3]` in 0..255, already of the captioner's
            size; a path or a list of paths; or a `tf.data.Dataset` of batches: arrays,
            or the dictionaries `fit` takes.
        options: `DecodingOptions`.
        seed: for the `sample` decoder and rule; `None` draws anew at every call.
        batch_size: images decoded at once.

    Returns:
        list of `Caption`.
    """
    captions = []
    for features in _features(captioner, images, batch_size):
        captions += caption_features(captioner, features, options, seed=seed)
    return captions


def caption_features(captioner, features, options, *, seed=None, first=0):
    """Captions of features `[B, L, D]`, from `captioner.encode`: list of `Caption`.

    Those of a longer list begin with its image number `first`, see `decode`.
    """
    decoded = _graph(captioner, options)(
        tf.cast(features, tf.float32),
        tf.constant(_as_seed(seed)),
        tf.constant(first, tf.int32),
    )
    decoded = type(decoded)(*(x.numpy() for x in decoded))
    images = decoded.tokens.shape[1]
    return [_caption(captioner, decoded, b) for b in range(images)]


def _as_seed(seed):
    """int32 `[2]`; a new one for `None`."""
    if seed is None:
        seed = np.random.default_rng().integers(2**31, size=2)
    return np.broadcast_to(np.asarray(seed, "int32"), 2)


def encode(captioner, images):
    """`captioner.encode`, traced: 0.3 GB for 32 photographs where eager takes 2.2."""
    graphs = captioner.decoding_graphs
    if "encode" not in graphs:
        graphs["encode"] = tf.function(
            captioner.encode, autograph=False, reduce_retracing=True
        )
    return graphs["encode"](tf.cast(images, tf.float32))


def _graph(captioner, options):
    """The traced decoder of one set of options, kept on the captioner."""
    graphs = captioner.decoding_graphs
    if options not in graphs:

        @tf.function(autograph=False, reduce_retracing=True)
        def graph(features, seed, first):
            memory, state = captioner.start(features)
            return decode(
                captioner.step,
                memory,
                state,
                options,
                seed,
                first=first,
                detected=captioner.detect(features),
                evidence=captioner.ground(features),
            )

        graphs[options] = graph
    return graphs[options]


def _caption(captioner, decoded, b):
    beams = [_one(captioner, decoded, k, b) for k in range(len(decoded.tokens))]
    beams = tuple(x for x in beams if np.isfinite(x.log_p))
    return dataclasses.replace(beams[0], beams=beams)


def _one(captioner, decoded, k, b):
    words = tuple(captioner.vocabulary.to_words(decoded.tokens[k, b]))
    spoken = slice(0, len(words))
    return Caption(
        caption=detokenise(words),
        words=words,
        score=float(decoded.score[k, b]),
        log_p=float(decoded.log_p[k, b]),
        log_p_word=decoded.log_p_word[k, b, spoken],
        locations=decoded.locations[k, b, spoken],
        alpha=decoded.alpha[k, b, spoken].reshape(-1, *captioner.grid),
        beta=decoded.beta[k, b, spoken],
    )


def _features(captioner, images, batch_size):
    """Batches of features of whatever the user brought."""
    if isinstance(images, tf.data.Dataset):
        for batch in images:
            if not isinstance(batch, dict):
                batch = {"image": batch}
            yield captioner.features_of(batch)
        return
    if isinstance(images, str | bytes | os.PathLike):
        images = [images]
    if isinstance(images, list | tuple) and not hasattr(images[0], "shape"):
        load = functools.partial(
            image_files.load,
            size=captioner.encoder.image_size,
            mode=captioner.resize_mode,
        )
        for at in range(0, len(images), batch_size):
            loaded = [load(path) for path in images[at : at + batch_size]]
            yield encode(captioner, np.stack(loaded))
        return
    images = np.asarray(images)
    if images.ndim == 3:
        images = images[None]
    wanted = (*captioner.encoder.image_size, 3)
    if images.ndim != 4 or images.shape[1:] != wanted:
        raise ValueError(
            f"Expected images of shape [B, {', '.join(map(str, wanted))}] in 0..255. "
            f"Received: images.shape={images.shape}. "
            "Resize them with sat_tf.images.resize, or pass their paths."
        )
    for at in range(0, len(images), batch_size):
        yield encode(captioner, images[at : at + batch_size])
