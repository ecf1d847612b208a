"""The compiled passes over all locations, against the plain formula and its gradient.

Eleven locations are no whole number of slices, and ten words are no whole number of
blocks.
"""

import numpy as np
import pytest
import tensorflow as tf

from sat_tf.model import fused

TIME, SAMPLES, BATCH, LOCATIONS, SIZE = 5, 2, 3, 11, 4


def normal(*shape):
    return tf.random.stateless_normal(shape, [17, sum(shape)])


@pytest.fixture
def given():
    """p, q of all words and v."""
    projection = normal(BATCH, LOCATIONS, SIZE)
    return projection, normal(TIME, SAMPLES, BATCH, SIZE), normal(SIZE)


def plain(projection, query, vector):
    return tf.linalg.matvec(tf.tanh(projection + query[..., None, :]), vector)


def test_scores_and_their_gradients(given):
    projection, query, vector = given
    upstream = normal(TIME, SAMPLES, BATCH, LOCATIONS)
    with tf.GradientTape() as tape:
        tape.watch(given)
        wanted = plain(*given)
    d_projection, d_query, d_vector = tape.gradient(wanted, given, upstream)
    exp_projection = fused.exponential(projection)
    found = fused.scores(exp_projection, query[0], vector)
    np.testing.assert_allclose(found, wanted[0], atol=1e-6)
    found = fused.query_gradient(exp_projection, query[0], vector, upstream[0])
    np.testing.assert_allclose(found, d_query[0], atol=1e-5)
    found = fused.projection_gradient(exp_projection, query, vector, upstream)
    np.testing.assert_allclose(found[0], d_projection, atol=1e-5)
    np.testing.assert_allclose(found[1], d_vector, atol=1e-5)


def test_saturated_scores_are_numbers(given):
    """Wherever either share of the tanh alone is far beyond what e^2x can hold."""
    projection, query, vector = 100 * given[0], 10 * given[1], given[2]
    for p, q in ((projection, query), (projection / 10, 10 * query)):
        exp_projection = fused.exponential(p)
        found = fused.scores(exp_projection, q[0], vector)
        np.testing.assert_allclose(found, plain(p, q[0], vector), atol=1e-5)
        slope = fused.query_gradient(exp_projection, q[0], vector, tf.ones_like(found))
        assert np.isfinite(slope).all()


def test_context_and_the_gradient_of_its_weights():
    annotations, weights = (
        normal(BATCH, LOCATIONS, SIZE),
        normal(SAMPLES, BATCH, LOCATIONS),
    )
    upstream = normal(SAMPLES, BATCH, SIZE)
    with tf.GradientTape() as tape:
        tape.watch(weights)
        wanted = tf.einsum("sbl,bld->sbd", weights, annotations)
    found = fused.context(annotations, weights)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    d_weights = tape.gradient(wanted, weights, upstream)
    found = fused.weights_gradient(annotations, upstream)
    np.testing.assert_allclose(found, d_weights, atol=1e-5)
