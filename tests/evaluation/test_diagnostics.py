"""Attention health: each figure on attention whose state is plain to see."""

import numpy as np
import pytest
from toy import batch, toy

from sat_tf.evaluation import diagnostics

PLACES = 16


def one_hot(*captions):
    """Captions that look at one place per word, given by its index."""
    return [np.eye(PLACES)[list(places)] for places in captions]


def uniform(*lengths):
    return [np.full([length, PLACES], 1 / PLACES) for length in lengths]


def test_attention_that_looks_around():
    health = diagnostics.attention_health(one_hot([0, 1, 1], [2, 3], [5]))
    assert health == pytest.approx(
        {
            "entropy": 0.0,
            "entropy_share": 0.0,
            "peak": 1.0,
            "shift": 2 / 3,  # 0 -> 1 and 2 -> 3 of three steps, none across captions
            "repeats": 1 / 3,
            "coverage": 5 / PLACES,
            "top_place": 2 / 6,
        }
    )
    assert diagnostics.warning(health) is None


def test_maps_count_as_well_as_rows_of_places():
    rows = [np.random.default_rng(17).dirichlet(np.ones(PLACES), 5)]
    maps = [rows[0].reshape(5, 4, 4).astype("float32")]
    assert diagnostics.attention_health(maps) == pytest.approx(
        diagnostics.attention_health(rows), rel=1e-6
    )


def test_collapse_to_uniform_is_said_in_words():
    health = diagnostics.attention_health(uniform(4, 7))
    assert health["entropy"] == pytest.approx(np.log(PLACES))
    assert health["entropy_share"] == pytest.approx(1)
    assert health["peak"] == health["top_place"] == pytest.approx(1 / PLACES)
    assert "collapsed to uniform" in diagnostics.warning(health)


def test_collapse_to_one_cell_is_said_in_words():
    health = diagnostics.attention_health(one_hot([7] * 5, [7] * 3))
    assert (health["top_place"], health["repeats"], health["shift"]) == (1, 1, 0)
    assert health["coverage"] == 1 / PLACES
    assert "collapsed to one cell" in diagnostics.warning(health)


def test_attention_that_never_moves_is_said_in_words():
    """The commonest complaint: the same map for every word, another per image."""
    rng = np.random.default_rng(17)
    captions = [np.tile(rng.dirichlet(np.ones(PLACES)), [6, 1]) for _ in range(20)]
    health = diagnostics.attention_health(captions)
    assert health["repeats"] == 1 and health["shift"] == pytest.approx(0, abs=1e-9)
    assert "does not move" in diagnostics.warning(health)


def test_divergence_is_the_mean_of_two_kullback_leiblers():
    p, q = np.random.default_rng(17).dirichlet(np.ones(PLACES), [2, 5])
    middle = (p + q) / 2
    expected = sum(np.sum(x * np.log(x / middle), axis=1) for x in (p, q)) / 2
    np.testing.assert_allclose(diagnostics.jensen_shannon(p, q), expected)


def test_captions_of_one_word_or_none():
    health = diagnostics.attention_health(one_hot([3], [], [4]))
    assert health["repeats"] == health["shift"] == 0
    assert diagnostics.attention_health(one_hot([], [])) == {}
    assert "empty" in diagnostics.warning({})


def test_training_logs_the_gradient_of_the_attention_layer():
    """Against the gradients themselves; at rate 0, so that the second step agrees."""
    import keras
    import tensorflow as tf

    model = toy("soft")
    model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
    data = batch(model, lengths=(4, 2, 3))
    with tf.GradientTape() as tape:
        loss, trace = model.loss_of(data)
    gradients = tape.gradient(loss, model.network.attention.trainable_variables)
    logs = model.train_step(data)
    expected = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
    assert float(logs["attention_gradient"]) == pytest.approx(expected, rel=1e-5)
    words = float(tf.reduce_sum(trace.mask))
    entropy = float(tf.reduce_sum(trace.entropy)) / words
    share = float(logs["attention_entropy_share"])
    assert share == pytest.approx(entropy / np.log(4), rel=1e-5)
