"""The score function: its baselines, its coins and what it weighs by what."""

import numpy as np
import pytest
import tensorflow as tf
from objectives import soft_log_likelihood
from toy import (
    all_paths,
    attention_part,
    batch,
    gradients,
    path_probability,
    relative_error,
    settled,
    toy,
)

from sat_tf.estimators import ESTIMATORS, Reinforce, Trace
from sat_tf.recipes import RECIPES
from sat_tf.recipes.base import make


@pytest.mark.parametrize(
    "options", [dict(lambda_r=0.9), dict(lambda_e=0.05), dict(semi_sampling=0.5)]
)
def test_options_that_bias_say_so(options):
    assert Reinforce(**options).unbiased_for is None


def test_baselines_cut_the_variance_and_not_the_mean():
    def variance(estimator):
        model = toy(estimator)
        data = batch(model)
        trace = all_paths(model, data)
        if estimator.baseline == "moving_average":
            for _ in range(60):
                estimator.update(_mean_trace(trace))
        p = path_probability(trace).numpy()[:, 0]
        each = []
        for k in range(len(p)):

            def one(k=k):
                full = all_paths(model, data)
                path = Trace(*(x[k : k + 1, :1] for x in full[:3]), full.mask[:1])
                return tf.reduce_sum(estimator.surrogate(path))

            each.append(attention_part(model, gradients(model, one)))
        each = np.array(each)
        mean = p @ each
        return p @ ((each - mean) ** 2).sum(1)

    def _mean_trace(trace):
        weight = path_probability(trace)[..., None]
        mean = tf.reduce_sum(weight * trace.log_p_word, axis=0, keepdims=True)
        return Trace(mean, trace.log_alpha[:1], trace.weights[:1], trace.mask)

    none = variance(Reinforce(baseline="none"))
    assert variance(Reinforce(baseline="moving_average")) < 0.5 * none
    assert variance(Reinforce(baseline="none", reward="to_go")) < none


def test_semi_sampled_captions_have_the_gradient_of_soft_ones():
    """Half of the target `semi_sampling`; the other half are draws as above."""
    model = settled(toy(Reinforce(semi_sampling=1.0)))
    data = batch(model, lengths=(2, 1))
    got = gradients(model, lambda: -model.loss_of(data)[0])
    wanted = gradients(model, lambda: soft_log_likelihood(model, data))
    assert model.estimator.target == "semi_sampling"
    assert relative_error(model, got, wanted) < 1e-5


def test_semi_sampling_mixes_per_image_for_the_whole_caption():
    estimator = Reinforce(semi_sampling=0.5, samples=3)
    logits = tf.random.stateless_normal([3, 64, 4], [17, 17])
    soft = []
    for step in range(3):
        weights = estimator.select(
            logits, training=True, seed=tf.constant([17, 3]), step=step
        )
        soft.append(np.isclose(weights, tf.nn.softmax(logits)).all(-1))
    soft = np.array(soft)  # [T, S, B]
    assert 0.25 < soft.mean() < 0.75
    assert (soft == soft[:1, :1]).all()
    hard = estimator.select(logits, training=False, seed=tf.constant([17, 3]), step=0)
    assert set(np.unique(hard)) == {0.0, 1.0}


def test_step_coin_is_shared_by_the_batch_and_redrawn_every_step():
    estimator = Reinforce(semi_sampling=0.5, coin="step")
    logits = tf.random.stateless_normal([1, 16, 4], [17, 17])
    draws = []
    for step in range(24):
        weights = estimator.select(
            logits, training=True, seed=tf.constant([17, 3]), step=step
        )
        soft = np.isclose(weights, tf.nn.softmax(logits)).all(-1)
        assert soft.all() or not soft.any()
        draws.append(soft.all())
    assert 4 < sum(draws) < 20


def test_locations_are_drawn_from_alpha():
    """Chi-square over 4 locations, 20,000 draws; 27.9 is its 1e-5 quantile at 3 d.f."""
    logits = tf.constant([[[0.0, 1.0, 2.0, -1.0]]] * 1)
    many = tf.tile(logits, [1, 20_000, 1])
    drawn = Reinforce().select(many, training=True, seed=tf.constant([17, 1]), step=0)
    counts = tf.reduce_sum(drawn[0], axis=0).numpy()
    wanted = 20_000 * tf.nn.softmax(logits[0, 0]).numpy()
    assert ((counts - wanted) ** 2 / wanted).sum() < 27.9


def test_moving_average_starts_at_a_mean_and_is_updated_after_use():
    """0 nats, where it once started, is what nobody scores."""
    estimator = Reinforce()
    model = toy(estimator)
    data = batch(model, lengths=(2, 1))
    trace = model.network.trace(data, lambda e, t: tf.nn.softmax(e))[0]
    reward = tf.reduce_mean(tf.reduce_sum(trace.log_p_word, -1))
    before = estimator.advantage(trace)
    np.testing.assert_allclose(
        before, estimator.rewards(trace) - reward * trace.mask, rtol=1e-5
    )
    estimator.update(trace)
    np.testing.assert_allclose(estimator.average, [reward], rtol=1e-5)
    half = trace._replace(log_p_word=0.5 * trace.log_p_word)
    known = estimator.rewards(half) - reward * trace.mask
    np.testing.assert_allclose(estimator.advantage(half), known, rtol=1e-5)
    estimator.update(half)
    np.testing.assert_allclose(estimator.average, [0.95 * reward], rtol=1e-5)


def test_moving_average_to_go_has_one_value_per_words_left():
    estimator = Reinforce(reward="to_go", baseline_steps=5)
    model = toy(estimator)
    data = batch(model, lengths=(3, 1))
    trace = model.network.trace(data, lambda e, t: tf.nn.softmax(e))[0]
    estimator.update(trace)
    log_p = trace.log_p_word.numpy()[0]
    wanted = [
        (log_p[0, 2] + log_p[1, 0]) / 2,
        log_p[0, 1:].sum(),
        log_p[0].sum(),
        0.0,
        0.0,
    ]
    np.testing.assert_allclose(estimator.average, wanted, rtol=1e-5)


def test_statistics_are_over_words():
    estimator = Reinforce(samples=2, reward="to_go", baseline="leave_one_out")
    model = toy(estimator)
    trace = all_paths(model, batch(model, lengths=(2, 1)))
    trace = Trace(*(x[:2] for x in trace[:3]), mask=trace.mask)
    shown = estimator.statistics(trace)
    words = estimator.advantage(trace).numpy()[:, trace.mask.numpy() > 0]
    assert float(shown["advantage"]) == pytest.approx(words.mean(), abs=1e-6)
    assert float(shown["advantage_variance"]) == pytest.approx(words.var(), rel=1e-4)


def test_decoding_length_is_no_matter_of_the_baseline():
    """A recipe's `max_length` once set the number of baselines by its name."""
    recipe = RECIPES["paper"].replace(
        {
            "estimator.reward": "to_go",
            "estimator.baseline_steps": 9,
            "decoding.max_length": 3,
        }
    )
    estimator = make("estimator", ESTIMATORS, recipe.estimator)
    again = Reinforce.from_config(estimator.get_config())
    assert estimator.average.shape == again.average.shape == (9,)


def test_arctic_surrogate_is_the_formula_of_the_authors_code():
    """method.md, section 3: the reward is the mean NLL, divided by 10, summed."""
    estimator = Reinforce(
        reward="per_word", lambda_r=0.1, lambda_e=0.002, batch_sum=True
    )
    model = toy(estimator)
    data = batch(model, lengths=(2, 2))
    estimator.average.assign([-1.7])  # in log p; the code keeps b in NLL
    weights = tf.one_hot([[[1, 2]], [[0, 3]]], 4)[:, 0]  # [B, T, L]

    def traced():
        return model.network.trace(data, lambda e, t: weights[None, :, t])[0]

    def ours():
        return -tf.reduce_mean(estimator.surrogate(traced()))

    def theirs():
        trace = traced()
        nll, log_alpha = -trace.log_p_word[0], trace.log_alpha[0]
        reward, b = tf.reduce_mean(nll, axis=-1), 1.7
        score = tf.einsum("btl,btl->b", weights, log_alpha)
        return (
            tf.reduce_mean(tf.reduce_sum(nll, -1))
            + tf.reduce_sum(tf.stop_gradient((reward - b) / 10) * score)
            + 0.002 * tf.reduce_sum(tf.exp(log_alpha) * log_alpha)
        )

    np.testing.assert_allclose(
        gradients(model, ours), gradients(model, theirs), rtol=1e-4, atol=1e-6
    )


def test_advantage_is_normalised_by_its_running_size():
    estimator = Reinforce(normalise_advantage=True, baseline="none", reward="to_go")
    model = toy(estimator)
    trace = all_paths(model, batch(model, lengths=(2, 2)))
    square = float(tf.reduce_mean(estimator.advantage(trace) ** 2))
    for _ in range(3):
        estimator.update(trace)
    wanted = 0.9**3 + (1 - 0.9**3) * square
    assert float(estimator.variance.numpy()) == pytest.approx(wanted, rel=1e-4)


def test_soft_baseline_is_the_score_under_expected_contexts():
    estimator = Reinforce(baseline="soft", reward="to_go")
    model = toy(estimator)
    data = batch(model, lengths=(3, 1))
    trace, _ = estimator.trace(model.network, data, tf.constant([17, 4]))
    soft = model.network.trace(data, lambda e, t: tf.nn.softmax(e))[
        0
    ].log_p_word.numpy()
    wanted = soft[..., ::-1].cumsum(-1)[..., ::-1]
    np.testing.assert_allclose(trace.baseline, wanted, rtol=1e-5)
