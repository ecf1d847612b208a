"""A captioner small enough that every path of its attention can be enumerated."""

import itertools

import numpy as np
import tensorflow as tf

from sat_tf.captioner import ShowAttendTell
from sat_tf.estimators import Reinforce
from sat_tf.model.encoder import Encoder

WORDS = ["red", "blue", "dog", "cat"]
OBJECTIVE = ("label_smoothing", "lambda_ds", "encoder_rate", "scheduled_sampling")


def toy(estimator="reinforce", seed=17, grid=(2, 2), size=3, words=WORDS, **kwargs):
    """L = 4 locations, V = 7 words; weights wide so that nothing is near zero.

    What `compile` takes (`label_smoothing=0.1`, ...) is set on it without compiling.
    """
    objective = {name: kwargs.pop(name) for name in OBJECTIVE if name in kwargs}
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
    for name, value in objective.items():
        setattr(model, name, value)
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
    locations, time = model.encoder.locations, data["tokens"].shape[1]
    paths = np.array(list(itertools.product(range(locations), repeat=time)))
    weights = tf.one_hot(paths, locations)  # [S, T, L]

    def forced(logits, t):
        shape = tf.shape(logits)
        return tf.broadcast_to(tf.gather(weights, t, axis=1)[:, None], shape)

    return model.network.trace(data, forced, samples=len(paths))[0]


def path_probability(trace, log_p=None):
    """p(s | a) `[S, B]`; at padding, which alpha ignores, every location is as good.

    `log_p`, `[S, B, T]`: of the locations, by default under alpha.
    """
    locations = tf.cast(tf.shape(trace.log_alpha)[-1], tf.float32)
    padded = tf.reduce_sum(1 - trace.mask, axis=-1)
    log_p = trace.log_p_location if log_p is None else log_p
    return tf.exp(tf.reduce_sum(log_p, axis=-1) - padded * tf.math.log(locations))


def paths_of(model, data):
    """p(s | a) and log p(y | s, a) `[paths, B]`, and the trace."""
    trace = all_paths(model, data)
    return path_probability(trace), tf.reduce_sum(trace.log_p_word, -1), trace


def lower_bound(model, data):
    """L_s of eq. 10, mean over images."""
    p, log_p, _ = paths_of(model, data)
    return tf.reduce_mean(tf.reduce_sum(p * log_p, axis=0))


def settled(model):
    """A state that has moved: a baseline must not matter, whatever it is."""
    if isinstance(model.estimator, Reinforce):
        average, variance = model.estimator.average, model.estimator.variance
        average.assign(np.linspace(-3.0, -1.0, average.shape[0]))
        if variance is not None:
            variance.assign(5.0)
    return model


def every_draw(model, data, repeats=1):
    """Every tuple of S paths that an estimator may draw, as one batch of captions.

    Returns:
        the locations, one-hot `[S, tuples * B, T, L]`, and the data, each caption once
        for every tuple (and that `repeats` times), sharing the images.
    """
    locations, time = model.encoder.locations, data["tokens"].shape[1]
    samples, images = model.estimator.samples, data["tokens"].shape[0]
    index = list(itertools.product(range(locations), repeat=samples * time))
    index = np.reshape(index * repeats, [-1, samples, time]).transpose(1, 0, 2)
    number = index.shape[1]
    tiled = {
        "annotations": data["annotations"],
        "tokens": tf.tile(data["tokens"], [number, 1]),
        "rows": tf.tile(tf.range(images), [number]),
    }
    return tf.one_hot(np.repeat(index, images, axis=1), locations), tiled


def expected_gradient(model, data, seed=17, repeats=1):
    """E[gradient of the surrogate], every draw of the estimator weighed exactly.

    Noise that is no draw (of a relaxation) is sampled, anew in each repeat.
    """
    estimator, seed = model.estimator, tf.constant([17, seed])
    if not estimator.stochastic:

        def scalar():
            trace, _ = estimator.trace(model.network, data, seed)
            return tf.reduce_mean(estimator.surrogate(trace))

        return gradients(model, scalar)

    locations, tiled = every_draw(model, data, repeats)
    images = data["tokens"].shape[0] * repeats

    def scalar():
        trace, _ = estimator.trace(model.network, tiled, seed)
        p = tf.reduce_prod(path_probability(trace, trace.log_drawn), axis=0)
        np.testing.assert_allclose(tf.reduce_sum(p), images, rtol=1e-4)
        surrogate = estimator.surrogate(trace)
        return tf.reduce_sum(tf.stop_gradient(p) * surrogate) / images

    estimator.draw = lambda logits, seed, step: tf.gather(locations, step, axis=2)
    try:
        return gradients(model, scalar)
    finally:
        del estimator.draw


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


def belongs(model, name):
    """Which entries of a flat gradient are of weights with this in their path."""
    return np.concatenate(
        [np.full(v.shape, name in v.path).ravel() for v in model.trainable_variables]
    )


def attention_part(model, flat):
    """The part of a flat gradient that belongs to f_att."""
    return flat[belongs(model, "attention/")]


def relative_error(model, got, wanted):
    """The largest error of the whole gradient, of f_att's part and of q's.

    A critic is left out: it learns from an error of its own.
    """
    groups = [~belongs(model, "critic/")]
    groups += [belongs(model, name) for name in ("attention/", "inference/")]
    return max(
        np.linalg.norm((got - wanted)[g]) / np.linalg.norm(wanted[g])
        for g in groups
        if wanted[g].any()
    )
