"""One location forward, its relaxation backward."""

import numpy as np
import tensorflow as tf
from quantiles import every_noise, integrated
from toy import gradients, lower_bound, relative_error

from sat_tf.estimators import StraightThrough


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
    """Chi-square over 4 locations, 20,000 draws; 27.9 is its 1e-5 quantile at 3 d.f."""
    logits = tf.constant([0.0, 1.0, 2.0, -1.0])
    many = tf.tile(logits[None, None], [1, 20_000, 1])
    seed = tf.constant([17, 1])
    drawn = StraightThrough().select(many, training=True, seed=seed, step=0)
    wanted = 20_000 * tf.nn.softmax(logits).numpy()
    counts = tf.reduce_sum(drawn[0], axis=0).numpy()
    assert ((counts - wanted) ** 2 / wanted).sum() < 27.9
