"""The second-order step."""

import numpy as np
import pytest
import tensorflow as tf

from sat_tf.estimators import Reinmax

L = 4
LOGITS = tf.constant([[[0.3, -1.2, 1.0, 0.1]]])


def mean_gradient(temperature, value):
    """E_s[gradient of value(s) by the logits], every location weighed exactly."""
    estimator = Reinmax(temperature=temperature)
    alpha, mean = tf.nn.softmax(LOGITS)[0, 0], 0.0
    for i in range(L):
        estimator.draw = lambda logits, seed, step, i=i: tf.one_hot([[i]], L)
        with tf.GradientTape() as tape:
            tape.watch(LOGITS)
            weights = estimator.select(LOGITS, training=True, seed=None, step=0)
            found = value(weights)
        np.testing.assert_array_equal(weights, tf.one_hot([[i]], L))
        mean += alpha[i] * tape.gradient(found, LOGITS)
    return mean.numpy().ravel()


def exact_gradient(value):
    """Of the mean of `value` over the locations."""
    with tf.GradientTape() as tape:
        tape.watch(LOGITS)
        each = tf.stack([value(tf.one_hot([[i]], L)) for i in range(L)])
        mean = tf.reduce_sum(tf.nn.softmax(LOGITS)[0, 0] * each)
    return tape.gradient(mean, LOGITS).numpy().ravel()


def quadratic(weights):
    matrix = np.random.default_rng(17).normal(size=(L, L)).astype("float32")
    return tf.reduce_sum((weights @ matrix) * weights) + tf.reduce_sum(
        weights[..., 0] - 2 * weights[..., 2]
    )


def test_is_exact_where_the_objective_is_quadratic():
    np.testing.assert_allclose(
        mean_gradient(1.0, quadratic), exact_gradient(quadratic), atol=1e-6
    )


def test_is_biased_elsewhere():
    def cubic(weights):
        return tf.reduce_sum(weights**3 * np.array([1.0, -2.0, 0.5, 3.0], "float32"))

    wanted = exact_gradient(cubic)
    assert np.linalg.norm(mean_gradient(1.0, cubic) - wanted) > 0.05
    assert np.linalg.norm(mean_gradient(2.0, quadratic) - exact_gradient(quadratic)) > (
        0.05
    )


def test_a_location_that_nobody_would_draw_has_a_finite_gradient():
    far = tf.constant([[[0.0, -200.0, 0.0, 0.0]]])
    estimator = Reinmax()
    with tf.GradientTape() as tape:
        tape.watch(far)
        weights = estimator.select(far, training=True, seed=[17, 1], step=0)
        found = quadratic(weights)
    assert np.isfinite(tape.gradient(found, far)).all()


def test_refuses_no_temperature():
    with pytest.raises(ValueError, match="temperature to be a number, more than 0"):
        Reinmax(temperature=0.0)
