"""Estimators with noise that cannot be enumerated: integrated over it instead.

With L = 2 places only one number of the noise matters, whose distribution is known, so
a sum over its quantiles takes the place of the sum over paths.
"""

import numpy as np
import pytest
import tensorflow as tf
from toy import (
    batch,
    expected_gradient,
    gradients,
    lower_bound,
    paths_of,
    relative_error,
    settled,
    toy,
)

from sat_tf.estimators import GumbelSoftmax, Rebar, Reinforce, StraightThrough
from sat_tf.estimators.rebar import conditional

NODES = 4000
# Midpoints of equal shares of the odds of a uniform number: the ratio of two standard
# exponentials, and the exponential of the difference of two Gumbels.
ODDS = (np.arange(NODES) + 0.5) / NODES
ODDS = (ODDS / (1 - ODDS)).astype("float32")


def one_word(estimator):
    """One image with two places and a caption of one word."""
    model = settled(toy(estimator, grid=(1, 2)))
    return model, batch(model, lengths=(1,))


def gumbels():
    return np.stack([np.log(ODDS), 0 * ODDS], axis=-1)


def integrated(estimator, tau):
    """The estimator's gradient, mean over the quantiles of its noise, and the model."""
    estimator.samples = NODES
    estimator.temperature = estimator.final_temperature = tau
    model, data = one_word(estimator)
    estimator.noise = lambda shape, seed, step: gumbels()[:, None]

    def scalar():
        trace, _ = estimator.trace(model, data, tf.constant([17, 17]))
        return tf.reduce_mean(estimator.surrogate(trace))

    return gradients(model, scalar), model, data


def every_noise(model, data):
    """Noisy logits `[1, NODES, 2]`, and log p(y_1) `[NODES]` by weights like them."""
    memory, state = model.start(data["annotations"])
    logits = model.attention(memory["projection"], state[0])
    memory = {name: tf.repeat(x, NODES, axis=0) for name, x in memory.items()}
    state = tuple(tf.repeat(x, NODES, axis=1) for x in state)

    def score(weights):
        tokens = tf.zeros([1, NODES], tf.int32)
        log_p = model.step(tokens, state, memory, lambda _: weights)[0]
        return log_p[0, :, data["tokens"][0, 0]]

    return logits + gumbels()[None], score


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_gumbel_softmax_is_unbiased_for_the_relaxed_likelihood(tau):
    got, model, data = integrated(GumbelSoftmax(), tau)
    assert model.estimator.unbiased_for == "relaxed_log_likelihood"

    def wanted():
        noisy, score = every_noise(model, data)
        return tf.reduce_mean(score(tf.nn.softmax(noisy / tau)))

    assert relative_error(model, got, gradients(model, wanted)) < 1e-4
    biased = gradients(model, lambda: lower_bound(model, data))
    assert relative_error(model, got, biased) > 1e-2


def test_straight_through_estimates_its_target():
    tau = 0.7
    got, model, data = integrated(StraightThrough(), tau)
    assert (model.estimator.unbiased_for, model.estimator.target) == (
        None,
        "straight_through",
    )

    def wanted():
        noisy, score = every_noise(model, data)
        hard = tf.one_hot(tf.argmax(noisy, axis=-1), 2)
        with tf.GradientTape() as tape:
            tape.watch(hard)
            spoken = score(hard)
        slope = tf.stop_gradient(tape.gradient(spoken, hard))
        soft = tf.nn.softmax(noisy / tau)
        each = score(tf.stop_gradient(hard)) + tf.reduce_sum(slope * soft, axis=[0, 2])
        return tf.reduce_mean(each)

    assert relative_error(model, got, gradients(model, wanted)) < 1e-4
    biased = gradients(model, lambda: lower_bound(model, data))
    assert relative_error(model, got, biased) > 1e-2


def test_straight_through_looks_at_one_place():
    logits = tf.random.stateless_normal([2, 5, 4], [17, 17])
    estimator = StraightThrough()
    seed = tf.constant([17, 1])
    weights = estimator.select(logits, training=True, seed=seed, step=3)
    np.testing.assert_array_equal(tf.reduce_max(weights, -1), np.ones([2, 5]))
    np.testing.assert_array_equal(tf.reduce_sum(weights, -1), np.ones([2, 5]))


def test_gumbel_noise_draws_from_alpha():
    """Chi-square over 4 places, 20,000 draws; 27.9 is its 1e-5 quantile at 3 d.f."""
    logits = tf.constant([0.0, 1.0, 2.0, -1.0])
    many = tf.tile(logits[None, None], [1, 20_000, 1])
    seed = tf.constant([17, 1])
    drawn = StraightThrough().select(many, training=True, seed=seed, step=0)
    wanted = 20_000 * tf.nn.softmax(logits).numpy()
    counts = tf.reduce_sum(drawn[0], axis=0).numpy()
    assert ((counts - wanted) ** 2 / wanted).sum() < 27.9


def test_temperature_falls_geometrically_and_stays():
    estimator = GumbelSoftmax(temperature=2.0, final_temperature=0.5, anneal_steps=4)
    found = []
    for _ in range(6):
        found.append(float(estimator.tau()))
        estimator.update(None)
    np.testing.assert_allclose(found, 2.0 ** np.array([1, 0.5, 0, -0.5, -1, -1]))


# --------------------------------------------------------------------------- rebar


class Unpaid(Rebar):
    """Wrong: c_t in the baseline, and nothing for knowing the place."""

    def surrogate(self, trace):
        return Reinforce.surrogate(self, trace)


class Swapped(Rebar):
    """Wrong: the slopes of z and z' change places."""

    def trace(self, captioner, data, seed):
        trace, words = super().trace(captioner, data, seed)
        return trace._replace(correction=-trace.correction), words


def odds(model):
    """Replaces the noise of `rebar` by its quantiles, one for each caption."""

    def noise(shape, seed):
        ratio = np.repeat(ODDS, int(shape[1]) // NODES).reshape(1, -1, 1)
        return tf.cast(np.stack([ratio, np.ones_like(ratio)], axis=-1), tf.float32)

    model.estimator.noise = noise


def rebar_error(estimator):
    model, data = one_word(estimator)
    odds(model)
    wanted = gradients(model, lambda: lower_bound(model, data))
    got = expected_gradient(model, data, repeats=NODES)
    return relative_error(model, got, wanted)


@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_rebar_is_unbiased_for_the_lower_bound(tau):
    assert Rebar(temperature=tau).unbiased_for == "lower_bound"
    assert rebar_error(Rebar(temperature=tau)) < 1e-4


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        (dict(lambda_r=0.3), 0.3),
        (dict(lambda_r=0.3, batch_sum=True), 0.3 * 2 * NODES),  # captions of every draw
        (dict(normalise_advantage=True), 0.5),
    ],
)
def test_rebar_weighs_what_its_control_variate_costs_as_the_score(options, weight):
    """Or lambda_r would leave a part of it in the mean."""

    def update_rule(model, data):
        p, log_p, _ = paths_of(model, data)
        held = tf.stop_gradient
        spoken = held(p) * log_p + weight * p * held(log_p)
        return tf.reduce_mean(tf.reduce_sum(spoken, axis=0))

    model, data = one_word(Rebar(temperature=0.5, **options))
    if model.estimator.variance is not None:
        model.estimator.variance.assign(4.0)
    odds(model)
    wanted = gradients(model, lambda: update_rule(model, data))
    got = expected_gradient(model, data, repeats=NODES)
    assert relative_error(model, got, wanted) < 1e-3


@pytest.mark.parametrize("wrong", [Unpaid, Swapped])
def test_the_integral_sees_a_wrong_control_variate(wrong):
    assert rebar_error(wrong(temperature=0.5)) > 1e-2


REPEATS, SEEDS = 24, 8


def deviations(estimator):
    """(mean of rebar's gradient - the true one) in standard errors, by coordinate.

    L = 4, T = 2: every path is enumerated, only the noise is sampled.
    """
    model = settled(toy(estimator))
    data = batch(model, lengths=(2, 1))
    wanted = gradients(model, lambda: lower_bound(model, data))
    # A few directions, so that few comparisons are made: the gradient's and others.
    rng = np.random.default_rng(17)
    along = np.concatenate([wanted[None], rng.normal(size=(5, len(wanted)))])
    found = [
        along @ (expected_gradient(model, data, seed, REPEATS) - wanted)
        for seed in range(SEEDS)
    ]
    error = np.std(found, axis=0, ddof=1) / np.sqrt(SEEDS)
    return np.abs(np.mean(found, axis=0) / error).max()


def test_rebar_is_unbiased_where_places_carry_on():
    """Within 4 standard errors; the seeds are fixed."""
    assert deviations(Rebar(baseline="soft", temperature=0.5)) < 4


def test_the_samples_see_a_wrong_control_variate():
    assert deviations(Unpaid(temperature=0.5)) > 8


def test_conditional_noise_is_that_of_a_gumbel_given_its_place():
    """Both ways to (place, z) agree: place by argmax z, and z given a drawn place."""
    rng, number = np.random.default_rng(17), 40_000
    log_alpha = np.log(np.array([0.5, 0.3, 0.15, 0.05], "float32"))
    z = log_alpha + rng.gumbel(size=(number, 4))
    place = rng.choice(4, size=number, p=np.exp(log_alpha) / np.exp(log_alpha).sum())
    noise = tf.constant(rng.exponential(size=(number, 4)), tf.float32)
    location = tf.one_hot(place, 4)
    given = conditional(tf.constant(log_alpha), location, noise).numpy()
    np.testing.assert_array_equal(given.argmax(-1), place)
    for i in range(4):
        one, other = z[z.argmax(-1) == i], given[place == i]
        spread = np.sqrt(one.var(0) / len(one) + other.var(0) / len(other))
        assert np.all(np.abs(one.mean(0) - other.mean(0)) < 4.5 * spread)
        np.testing.assert_allclose(one.std(0), other.std(0), rtol=0.12)
