"""Gradients by exact enumeration: L = 4 places, T = 2 words, 16 paths."""

import numpy as np
import pytest
import tensorflow as tf
from toy import (
    all_paths,
    attention_part,
    batch,
    gradients,
    path_probability,
    toy,
    tuples_of,
)

from sat_tf.estimators import ESTIMATORS, Estimator, Reinforce, Soft, Trace
from sat_tf.presets import PRESETS


def lower_bound(model, data):
    """L_s of eq. 10, mean over images."""
    trace = all_paths(model, data)
    p = path_probability(trace)
    total = tf.reduce_sum(p * tf.reduce_sum(trace.log_p_word, -1), axis=0)
    return tf.reduce_mean(total)


def soft_log_likelihood(model, data):
    trace = model.trace(data, lambda e, t: tf.nn.softmax(e))[0]
    return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, axis=-1))


OBJECTIVES = {
    "lower_bound": lower_bound,
    "soft_log_likelihood": soft_log_likelihood,
}


def expected_gradient(model, data):
    """E[gradient of the surrogate], every draw of the estimator weighed exactly."""
    estimator = model.estimator
    if not estimator.stochastic:
        select = estimator.select

        def scalar():
            trace, _ = model.trace(
                data, lambda e, t: select(e, training=True, seed=None, step=t)
            )
            return tf.reduce_mean(estimator.surrogate(trace))

        return gradients(model, scalar)

    def scalar():
        trace, probability = tuples_of(all_paths(model, data), estimator.samples)
        images = probability.shape[1]
        surrogate = tf.reshape(estimator.surrogate(trace), [-1, images])
        return tf.reduce_sum(tf.stop_gradient(probability) * surrogate) / images

    return gradients(model, scalar)


def relative_error(model, got, wanted):
    """The larger of the errors of the whole gradient and of f_att's part of it."""
    pairs = [(got, wanted), [attention_part(model, g) for g in (got, wanted)]]
    return max(np.linalg.norm(g - w) / np.linalg.norm(w) for g, w in pairs)


def settled(model):
    """A baseline that has moved: any constant must leave the gradient unbiased."""
    if isinstance(model.estimator, Reinforce):
        average = model.estimator.average
        average.assign(np.linspace(-3.0, -1.0, average.shape[0]))
    return model


VARIANTS = [
    (
        f"reinforce-{baseline}-{reward}",
        Reinforce,
        dict(baseline=baseline, reward=reward),
    )
    for baseline in ("none", "moving_average")
    for reward in ("sum", "to_go")
] + [
    (
        f"reinforce-leave_one_out-{reward}",
        Reinforce,
        dict(baseline="leave_one_out", reward=reward, samples=2),
    )
    for reward in ("sum", "to_go")
]
CASES = [(name, kind, {}) for name, kind in ESTIMATORS.items()] + VARIANTS


@pytest.mark.parametrize(
    "kind, options", [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_unbiased_for_what_it_says(kind, options):
    model = settled(toy(kind(**options)))
    objective = model.estimator.unbiased_for
    if objective is None:
        pytest.fail("a registered default or listed variant must name its objective")
    data = batch(model, lengths=(2, 1))
    wanted = gradients(model, lambda: OBJECTIVES[objective](model, data))
    assert relative_error(model, expected_gradient(model, data), wanted) < 1e-5


class OwnStepReward(Reinforce):
    """Wrong: forgets that s_t also shapes the words after t."""

    def rewards(self, trace):
        return trace.log_p_word


class OwnSampleBaseline(Reinforce):
    """Wrong: the baseline contains the very sample it is to be compared with."""

    def _baseline(self, reward, mask):
        return 0.5 * reward


class FlippedSign(Reinforce):
    """Wrong: the authors' public code from 13 May to 7 June 2015."""

    def advantage(self, trace):
        return -super().advantage(trace)


class LostStopGradient(Reinforce):
    """Wrong: derives the reward inside the score term."""

    def surrogate(self, trace):
        score = tf.reduce_sum(self.advantage(trace) * trace.log_p_location, -1)
        return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, -1) + score, axis=0)


@pytest.mark.parametrize(
    "wrong",
    [
        OwnStepReward(reward="to_go"),
        OwnSampleBaseline(),
        FlippedSign(),
        LostStopGradient(),
        Reinforce(lambda_r=0.9),
        Reinforce(lambda_e=0.05),
        Reinforce(reward="per_word"),
    ],
    ids=lambda e: type(e).__name__ + e.name,
)
def test_the_test_sees_wrong_estimators(wrong):
    model = settled(toy(wrong))
    data = batch(model, lengths=(2, 1))
    wanted = gradients(model, lambda: lower_bound(model, data))
    assert relative_error(model, expected_gradient(model, data), wanted) > 1e-2


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


def test_bound_is_below_the_marginal_likelihood():
    model = toy()
    data = batch(model)
    trace = all_paths(model, data)
    p, log_p = path_probability(trace), tf.reduce_sum(trace.log_p_word, -1)
    np.testing.assert_allclose(tf.reduce_sum(p, 0), 1.0, rtol=1e-5)
    marginal = tf.reduce_mean(tf.math.log(tf.reduce_sum(p * tf.exp(log_p), 0)))
    assert lower_bound(model, data) < marginal


def test_soft_equals_hard_when_alpha_is_one_hot():
    model = toy()
    vector = next(v for v in model.trainable_variables if v.path.endswith("/vector"))
    vector.assign(1e4 * vector)
    data = batch(model)
    select = Reinforce().select
    seed = tf.constant([17, 17])
    hard = model.trace(data, lambda e, t: select(e, training=False, seed=seed, step=t))
    soft = model.trace(data, lambda e, t: tf.nn.softmax(e))
    np.testing.assert_allclose(hard[0].log_p_word, soft[0].log_p_word, atol=1e-5)


def test_sampled_step_gives_attention_only_score_gradient():
    """Invariant 2 of the method: pathwise zero where hard, score zero where soft."""
    model = toy(Reinforce(baseline="none"))
    data = batch(model)

    def hard():
        trace = all_paths(model, data)
        return tf.reduce_sum(trace.log_p_word)

    def soft():
        trace = model.trace(data, lambda e, t: tf.nn.softmax(e))[0]
        return tf.reduce_sum(3.0 * trace.log_p_location)

    assert np.all(attention_part(model, gradients(model, hard)) == 0)
    np.testing.assert_allclose(gradients(model, soft), 0, atol=1e-5)


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
    """Chi-square over 4 places, 20,000 draws; 27.9 is its 1e-5 quantile at 3 d.f."""
    logits = tf.constant([[[0.0, 1.0, 2.0, -1.0]]] * 1)
    many = tf.tile(logits, [1, 20_000, 1])
    drawn = Reinforce().select(many, training=True, seed=tf.constant([17, 1]), step=0)
    counts = tf.reduce_sum(drawn[0], axis=0).numpy()
    wanted = 20_000 * tf.nn.softmax(logits[0, 0]).numpy()
    assert ((counts - wanted) ** 2 / wanted).sum() < 27.9


def test_moving_average_is_updated_after_use():
    estimator = Reinforce()
    model = toy(estimator)
    data = batch(model, lengths=(2, 1))
    trace = model.trace(data, lambda e, t: tf.nn.softmax(e))[0]
    reward = tf.reduce_mean(tf.reduce_sum(trace.log_p_word, -1))
    before = estimator.advantage(trace)
    np.testing.assert_allclose(before, estimator.rewards(trace), rtol=1e-6)
    estimator.update(trace)
    np.testing.assert_allclose(estimator.average, [0.1 * reward], rtol=1e-5)


def test_moving_average_to_go_has_one_value_per_words_left():
    estimator = Reinforce(reward="to_go", baseline_steps=5)
    model = toy(estimator)
    data = batch(model, lengths=(3, 1))
    trace = model.trace(data, lambda e, t: tf.nn.softmax(e))[0]
    estimator.update(trace)
    log_p = trace.log_p_word.numpy()[0]
    wanted = [
        (log_p[0, 2] + log_p[1, 0]) / 2,
        log_p[0, 1:].sum(),
        log_p[0].sum(),
        0.0,
        0.0,
    ]
    np.testing.assert_allclose(estimator.average, 0.1 * np.array(wanted), rtol=1e-5)


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
    """A preset's `max_length` once set the number of baselines by its name."""
    preset = PRESETS["paper"].replace(reward="to_go", max_length=3, baseline_steps=9)
    estimator = Reinforce(**preset.estimator_options(Reinforce))
    again = Reinforce.from_config(estimator.get_config())
    assert estimator.average.shape == again.average.shape == (9,)


@pytest.mark.parametrize("kind", [Reinforce, Soft])
def test_padding_contributes_exactly_nothing(kind, monkeypatch):
    options = {"reward": "to_go", "lambda_e": 0.1} if kind is Reinforce else {}
    model = settled(toy(kind(**options), lambda_ds=0.3, label_smoothing=0.1))
    monkeypatch.setattr(model, "_seed", lambda: tf.constant([17, 5]))
    short, long = (
        gradients(model, lambda n=n: model.loss_of(batch(model, padding=n))[0])
        for n in (0, 3)
    )
    np.testing.assert_allclose(short, long, rtol=2e-5, atol=2e-6)


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
        return model.trace(data, lambda e, t: weights[None, :, t])[0]

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


def test_adding_an_estimator_takes_a_class_and_a_registry_line(monkeypatch):
    class Greedy(Estimator):
        stochastic = False
        unbiased_for = "soft_log_likelihood"

        def select(self, logits, *, training, seed, step):
            return tf.nn.softmax(logits)

        def surrogate(self, trace):
            return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, -1), axis=0)

    monkeypatch.setitem(ESTIMATORS, "greedy", Greedy)
    test_unbiased_for_what_it_says(ESTIMATORS["greedy"], {})
    assert toy("greedy").estimator.attention == "argmax"


@pytest.mark.parametrize("name, value", [("reward", "all"), ("baseline", "ema")])
def test_unknown_option_names_the_choices(name, value):
    with pytest.raises(ValueError, match=f"Received: {name}='{value}'"):
        Reinforce(**{name: value})


def test_leave_one_out_needs_two_samples():
    with pytest.raises(ValueError, match="samples=1"):
        Reinforce(baseline="leave_one_out")
