"""A captioner small enough that every path of its attention can be enumerated."""

import itertools

import numpy as np
import tensorflow as tf

from sat_tf.captioner import ShowAttendTell
from sat_tf.encoder import Encoder
from sat_tf.estimators import Trace

WORDS = ["red", "blue", "dog", "cat"]


def toy(estimator="reinforce", seed=17, grid=(2, 2), size=3, words=WORDS, **kwargs):
    """L = 4 places, V = 7 words; weights drawn wide so that nothing is near zero."""
    options = {
        "embedding_size": 3,
        "hidden_size": 4,
        "attention_size": 5,
        "dropout": 0.0,
        **kwargs,
    }
    encoder = Encoder("none", features_shape=(*grid, size))
    model = ShowAttendTell(words, encoder=encoder, estimator=estimator, **options)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.7, variable.shape))
    return model


def batch(model, lengths=(2, 2), seed=17, padding=0):
    """Captions of the given lengths in words, `<eos>` included."""
    rng = np.random.default_rng(seed)
    tokens = np.zeros((len(lengths), max(lengths) + padding), "int32")
    for row, length in zip(tokens, lengths, strict=True):
        row[: length - 1] = rng.integers(3, len(model.vocabulary), length - 1)
        row[length - 1] = 1
    shape = (len(lengths), model.encoder.locations, model.encoder.size)
    return {
        "annotations": tf.constant(rng.normal(size=shape), tf.float32),
        "tokens": tf.constant(tokens),
    }


def all_paths(model, data):
    """The trace of every path at once: S = L^T, in the order of itertools.product."""
    places, time = model.encoder.locations, data["tokens"].shape[1]
    paths = np.array(list(itertools.product(range(places), repeat=time)))
    weights = tf.one_hot(paths, places)  # [S, T, L]

    def forced(logits, t):
        shape = tf.shape(logits)
        return tf.broadcast_to(tf.gather(weights, t, axis=1)[:, None], shape)

    return model.trace(data, forced, samples=len(paths))[0]


def path_probability(trace):
    """p(s | a) `[S, B]`; at padding, which alpha ignores, every place is as good."""
    places = tf.cast(tf.shape(trace.log_alpha)[-1], tf.float32)
    padded = tf.reduce_sum(1 - trace.mask, axis=-1)
    log_p = tf.reduce_sum(trace.log_p_location, axis=-1)
    return tf.exp(log_p - padded * tf.math.log(places))


def tuples_of(trace, samples):
    """All S-tuples of paths as one batch: a Trace with axis 1 = (tuple, image).

    Returns:
        the Trace, and each tuple's probability `[tuples, B]`.
    """
    number, images = trace.log_p_word.shape[:2]
    index = np.array(list(itertools.product(range(number), repeat=samples))).T

    def pick(x):  # [paths, B, ..] -> [samples, tuples * B, ..]
        x = tf.gather(x, index)
        return tf.reshape(x, [samples, -1, *x.shape[3:]])

    probability = tf.reduce_prod(tf.gather(path_probability(trace), index), axis=0)
    picked = Trace(
        *(pick(x) for x in trace[:3]),
        mask=tf.tile(trace.mask, [index.shape[1], 1]),
    )
    return picked, tf.reshape(probability, [-1, images])


def gradients(model, scalar):
    """Gradient of `scalar()` as one flat vector, zeros where it is not connected."""
    with tf.GradientTape() as tape:
        value = scalar()
    variables = model.trainable_variables
    found = tape.gradient(value, variables)
    dense = [
        np.zeros(v.shape) if g is None else tf.convert_to_tensor(g).numpy()
        for g, v in zip(found, variables, strict=True)
    ]
    return np.concatenate([g.ravel() for g in dense])


def attention_part(model, flat):
    """The part of a flat gradient that belongs to f_att."""
    parts, at = [], 0
    for variable in model.trainable_variables:
        size = int(np.prod(variable.shape))
        if "attention/" in variable.path:
            parts.append(flat[at : at + size])
        at += size
    return np.concatenate(parts)
