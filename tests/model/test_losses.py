"""Terms of the loss, each against NumPy or a case worked by hand."""

import numpy as np
import pytest
import tensorflow as tf

from sat_tf.model import losses

SAMPLES, BATCH, TIME, WORDS = 2, 3, 4, 5
TOKENS = np.array([[3, 4, 1, 0], [2, 1, 0, 0], [4, 3, 4, 1]], "int32")


def log_softmax(logits):
    x = logits.astype("float64")
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.fixture
def logits():
    rng = np.random.default_rng(17)
    return rng.normal(0, 3, [SAMPLES, BATCH, TIME, WORDS]).astype("float32")


def test_log_likelihood_is_that_of_the_words_said(logits):
    log_p = log_softmax(logits)
    expected = np.take_along_axis(log_p, TOKENS[None, ..., None], axis=-1)[..., 0]
    found = losses.log_likelihood(tf.constant(logits), TOKENS).numpy()
    np.testing.assert_allclose(found, expected * (TOKENS > 0), rtol=1e-5, atol=1e-6)
    assert not found[:, TOKENS == 0].any()


@pytest.mark.parametrize("name", ["log_likelihood", "mean_log_p"])
def test_padding_gives_no_gradient_even_where_it_is_not_finite(name, logits):
    logits[:, TOKENS == 0] = 1e30  # what an unmasked step may do
    x = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = losses.log_likelihood(x, TOKENS)
        if name == "mean_log_p":
            value = losses.mean_log_p(x, value, TOKENS)
        total = tf.reduce_sum(value)
    gradient = tape.gradient(total, x).numpy()
    assert np.isfinite(total) and np.isfinite(gradient).all()
    assert not gradient[:, TOKENS == 0].any()
    assert gradient[:, TOKENS > 0].any(-1).all()


def test_mean_log_p_is_over_the_whole_vocabulary(logits):
    log_p_word = losses.log_likelihood(tf.constant(logits), TOKENS)
    found = losses.mean_log_p(tf.constant(logits), log_p_word, TOKENS)
    expected = log_softmax(logits).mean(-1) * (TOKENS > 0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_doubly_stochastic_by_hand():
    """Of three locations, two words at the first, one at the second; then padding."""
    alpha = tf.one_hot([[[0, 0, 1, 2]]], 3)  # [S, B, T, L]
    mask = tf.constant([[1.0, 1, 1, 0]])
    np.testing.assert_allclose(losses.doubly_stochastic(alpha, mask), [1 + 0 + 1])


def test_doubly_stochastic_prefers_the_uniform_map():
    """What its docstring warns of, at L = 196 and 12 words."""
    mask = tf.ones([1, 12])
    uniform = tf.fill([1, 1, 12, 196], 1 / 196)
    looking_around = tf.one_hot([[np.arange(12) * 16]], 196)
    values = [losses.doubly_stochastic(a, mask)[0] for a in (uniform, looking_around)]
    assert values[0] < 0.96 * values[1]
