"""A control variate whose noise is integrated over, or sampled."""

import numpy as np
import pytest
import tensorflow as tf
from quantiles import NODES, ODDS, one_word
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

from sat_tf.estimators import Rebar, Reinforce
from sat_tf.estimators.research.rebar import conditional


class Unpaid(Rebar):
    """Wrong: c_t in the baseline, and nothing for knowing the location."""

    def surrogate(self, trace):
        return Reinforce.surrogate(self, trace)


class Swapped(Rebar):
    """Wrong: the slopes of z and z' are exchanged."""

    def trace(self, network, data, seed):
        trace, words = super().trace(network, data, seed)
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


def test_rebar_is_unbiased_where_locations_carry_on():
    """Within 4 standard errors; the seeds are fixed."""
    assert deviations(Rebar(baseline="soft", temperature=0.5)) < 4


def test_the_samples_see_a_wrong_control_variate():
    assert deviations(Unpaid(temperature=0.5)) > 8


def test_conditional_noise_is_that_of_a_gumbel_given_its_location():
    """Both ways to (location, z) agree: argmax z, and z given a drawn location."""
    rng, number = np.random.default_rng(17), 40_000
    log_alpha = np.log(np.array([0.5, 0.3, 0.15, 0.05], "float32"))
    z = log_alpha + rng.gumbel(size=(number, 4))
    drawn = rng.choice(4, size=number, p=np.exp(log_alpha) / np.exp(log_alpha).sum())
    noise = tf.constant(rng.exponential(size=(number, 4)), tf.float32)
    location = tf.one_hot(drawn, 4)
    given = conditional(tf.constant(log_alpha), location, noise).numpy()
    np.testing.assert_array_equal(given.argmax(-1), drawn)
    for i in range(4):
        one, other = z[z.argmax(-1) == i], given[drawn == i]
        spread = np.sqrt(one.var(0) / len(one) + other.var(0) / len(other))
        assert np.all(np.abs(one.mean(0) - other.mean(0)) < 4.5 * spread)
        np.testing.assert_allclose(one.std(0), other.std(0), rtol=0.12)
