"""Weights that are no draw, but near one."""

import numpy as np
import pytest
import tensorflow as tf
from quantiles import every_noise, integrated
from toy import gradients, lower_bound, relative_error

from sat_tf.estimators import GumbelSoftmax


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


def test_temperature_falls_geometrically_and_stays():
    estimator = GumbelSoftmax(temperature=2.0, final_temperature=0.5, anneal_steps=4)
    found = []
    for _ in range(6):
        found.append(float(estimator.tau()))
        estimator.update(None)
    np.testing.assert_allclose(found, 2.0 ** np.array([1, 0.5, 0, -0.5, -1, -1]))
