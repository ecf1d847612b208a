"""Gradients by exact enumeration: L = 4 places, T = 2 words, 16 paths."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy import (
    all_paths,
    attention_part,
    batch,
    expected_gradient,
    gradients,
    lower_bound,
    path_probability,
    paths_of,
    relative_error,
    settled,
    toy,
)

from sat_tf import ShowAttendTell, storage
from sat_tf.estimators import (
    ESTIMATORS,
    Estimator,
    GumbelSoftmax,
    Rebar,
    Reinforce,
    Rloo,
    Soft,
    StepMarginal,
    StraightThrough,
    Trace,
    Variational,
    Vimco,
    WsRam,
)
from sat_tf.presets import PRESETS


def log_marginal(model, data):
    """log p(y | a), mean over images."""
    p, log_p, _ = paths_of(model, data)
    return tf.reduce_mean(tf.math.log(tf.reduce_sum(p * tf.exp(log_p), axis=0)))


def soft_log_likelihood(model, data):
    trace = model.trace(data, lambda e, t: tf.nn.softmax(e))[0]
    return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, axis=-1))


def tuples(x, samples):
    """Every S-tuple of `[paths, B]` as `[tuples, S, B]`."""
    index = list(itertools.product(range(x.shape[0]), repeat=samples))
    return tf.gather(x, np.array(index))


def importance_weighted_bound(model, data):
    """E[log of the mean of S likelihoods] (Burda et al. 2016)."""
    p, log_p, _ = paths_of(model, data)
    samples = model.estimator.samples
    probability = tf.reduce_prod(tuples(p, samples), axis=1)
    mean = tf.reduce_mean(tf.exp(tuples(log_p, samples)), axis=1)
    return tf.reduce_mean(tf.reduce_sum(probability * tf.math.log(mean), axis=0))


def step_marginals(model, data, carry, samples):
    """log sum_i alpha_ti p(y_t | h_{t-1}, a_i) and log alpha, one `step` at a time."""
    tokens, places = data["tokens"], model.encoder.locations
    most = getattr(model.estimator, "top_k", None) or places
    memory, state = model.start(data["annotations"])
    state = tuple(tf.repeat(x, samples, axis=0) for x in state)
    marginals, log_alphas = [], []
    spoken = tf.zeros_like(tokens[:, 0])
    for t in range(tokens.shape[1]):
        before = tf.repeat(spoken[None], samples, axis=0)

        def one(i, before=before, state=state, t=t):
            def at(e):
                return tf.broadcast_to(tf.one_hot(i, places), tf.shape(e))

            log_p = model.step(before, state, memory, at)[0]
            said = tf.repeat(tokens[None, :, t], samples, axis=0)
            return tf.gather(log_p, said, batch_dims=2)

        alpha = model.step(before, state, memory, tf.nn.softmax)[2]["alpha"]
        each = alpha * tf.exp(tf.stack([one(i) for i in range(places)], axis=-1))
        kept = alpha >= tf.sort(alpha, direction="DESCENDING")[..., most - 1, None]
        kept = tf.cast(kept, tf.float32)
        marginals.append(tf.math.log(tf.reduce_sum(kept * each, axis=-1)))
        log_alphas.append(tf.math.log(alpha))
        _, state, _ = model.step(before, state, memory, lambda e, t=t: carry(e, t))
        spoken = tokens[:, t]
    mask = tf.cast(tokens > 0, tf.float32)
    return tf.stack(marginals, axis=-1) * mask, tf.stack(log_alphas, axis=2)


def step_marginal_likelihood(model, data):
    marginals, _ = step_marginals(model, data, lambda e, t: tf.nn.softmax(e), 1)
    return tf.reduce_mean(tf.reduce_sum(marginals, axis=-1))


def step_marginal_paths(model, data):
    """Probability of the states' places and sum of the log marginals `[paths, B]`."""
    weights = all_paths(model, data).weights
    marginals, log_alpha = step_marginals(
        model, data, lambda e, t: weights[:, :, t], weights.shape[0]
    )
    p = path_probability(all_paths(model, data)._replace(log_alpha=log_alpha))
    return p, tf.reduce_sum(marginals, axis=-1)


def step_marginal_bound(model, data):
    p, marginals = step_marginal_paths(model, data)
    return tf.reduce_mean(tf.reduce_sum(p * marginals, axis=0))


def proposal(model, data, trace):
    """log q `[1, B, T, L]` of the inference network; log alpha without one."""
    network = model.estimator.inference
    if network is None:
        return trace.log_alpha
    tokens, annotations = data["tokens"], model.encoder(data["annotations"])
    mask = tf.cast(tokens > 0, tf.float32)
    return network(annotations, model.decoder.embed(tokens), mask)[None]


def proposal_paths(model, data):
    """q(s) and its log, log p(y | s, a) and log p(s | a) `[paths, B]`, the trace."""
    _, log_p, trace = paths_of(model, data)
    trace = trace._replace(log_q=proposal(model, data, trace))
    q = path_probability(trace, trace.log_drawn)
    log_p_path = tf.math.log(path_probability(trace))
    return q, log_p, log_p_path, trace


def variational_bound(model, data):
    """E_q[sum_t log p(y_t | s) - KL(q_t || alpha_t)]."""
    q, log_p, _, trace = proposal_paths(model, data)
    each = tf.exp(trace.log_q) * (trace.log_q - trace.log_alpha)
    divergence = tf.reduce_sum(tf.reduce_sum(each, axis=-1) * trace.mask, axis=-1)
    return tf.reduce_mean(tf.reduce_sum(q * (log_p - divergence), axis=0))


OBJECTIVES = {
    f.__name__: f
    for f in (
        lower_bound,
        soft_log_likelihood,
        importance_weighted_bound,
        step_marginal_likelihood,
        step_marginal_bound,
        variational_bound,
    )
}


def update_rule(model, data):
    """E[grad log p(y|s) + w R grad log p(s) + lambda_e grad H], as a scalar."""
    estimator = model.estimator
    p, log_p, trace = paths_of(model, data)
    reward = log_p
    if estimator.reward == "per_word":
        reward /= tf.reduce_sum(trace.mask, axis=-1)
    weight = estimator.lambda_r
    if estimator.normalise_advantage:
        weight /= max(1.0, float(estimator.variance.numpy()) ** 0.5)
    entropy = tf.reduce_sum(trace.entropy, axis=-1)
    held = tf.stop_gradient
    spoken = held(p) * (log_p + estimator.lambda_e * entropy)
    return tf.reduce_mean(tf.reduce_sum(spoken + weight * p * held(reward), axis=0))


def self_normalised(model, data):
    """E[sum_k v_k grad log p(y, s^k)] and the same for log q, as a scalar."""
    samples, estimator = model.estimator.samples, model.estimator
    q, log_p, log_p_path, _ = proposal_paths(model, data)
    joint, log_q = log_p + log_p_path, tf.math.log(q)
    share = tuples(tf.exp(joint - log_q), samples)
    share /= tf.reduce_sum(share, axis=1, keepdims=True)
    explained = joint if estimator.inference is None else joint + log_q
    probability = tf.reduce_prod(tuples(q, samples), axis=1, keepdims=True)
    each = tf.stop_gradient(probability * share) * tuples(explained, samples)
    return tf.reduce_mean(tf.reduce_sum(each, axis=[0, 1]))


# Scalars whose gradient is what a biased estimator says that it estimates.
TARGETS = {f.__name__: f for f in (update_rule, self_normalised)}


REWARDS = ("sum", "to_go")
LISTED = [
    *(
        Reinforce(baseline=baseline, reward=reward)
        for baseline in ("none", "moving_average", "soft", "nvil")
        for reward in REWARDS
    ),
    *(Reinforce(baseline="leave_one_out", reward=r, samples=2) for r in REWARDS),
    Reinforce(lambda_r=0.5, lambda_e=0.1),
    Reinforce(normalise_advantage=True, baseline="nvil", reward="to_go"),
    Reinforce(reward="per_word", lambda_e=0.1),
    *(Rloo(samples=2, reward=reward) for reward in REWARDS),
    Vimco(samples=2),
    WsRam(samples=2),
    WsRam(samples=2, proposal="inference"),
    StepMarginal(top_k=2),
    StepMarginal(carry="sampled"),
    StepMarginal(carry="sampled", top_k=3, baseline="none"),
    *(
        Variational(baseline=baseline)
        for baseline in ("none", "moving_average", "soft", "nvil")
    ),
    Variational(baseline="leave_one_out", samples=2),
]
# No enumeration reaches these: tests/test_relaxations.py integrates over their noise.
RELAXED = (GumbelSoftmax, Rebar)


def defaults(kind):
    """A registered estimator as it comes, but for pairs where it would draw more."""
    estimator = kind()
    return kind(samples=2) if estimator.samples > 2 else estimator


def label(estimator):
    config = estimator.get_config()
    shown = ("baseline", "reward", "samples", "carry", "top_k", "proposal", "lambda_e")
    return "-".join([type(estimator).__name__, *(f"{config.get(k)}" for k in shown)])


CASES = [
    *(defaults(k) for k in ESTIMATORS.values() if not issubclass(k, RELAXED)),
    *LISTED,
]


def check_conformance(estimator):
    """The gradient it has in expectation is the one that it says."""
    model = settled(toy(estimator))
    said = {**OBJECTIVES, **TARGETS}
    if estimator.unbiased_for is not None:
        assert estimator.target == estimator.unbiased_for
        said = OBJECTIVES
    assert estimator.target in said, "say what it estimates, and add it to this test"
    data = batch(model, lengths=(2, 1))
    wanted = gradients(model, lambda: said[estimator.target](model, data))
    assert relative_error(model, expected_gradient(model, data), wanted) < 1e-4


@pytest.mark.parametrize("estimator", CASES, ids=label)
def test_estimates_what_it_says(estimator):
    check_conformance(estimator)


BIASED = [e for e in CASES if e.unbiased_for is None]


@pytest.mark.parametrize("estimator", BIASED, ids=label)
def test_what_is_called_biased_is(estimator):
    model = settled(toy(estimator))
    data = batch(model, lengths=(2, 1))
    got = expected_gradient(model, data)
    bound = gradients(model, lambda: lower_bound(model, data))
    marginal = gradients(model, lambda: log_marginal(model, data))
    assert relative_error(model, got, bound) > 1e-3
    assert relative_error(model, got, marginal) > 1e-3


class OwnStepReward(Reinforce):
    """Wrong: forgets that s_t also shapes the words after t."""

    def rewards(self, trace):
        return trace.log_p_word


class OwnSampleBaseline(Reinforce):
    """Wrong: the baseline contains the very sample it is to be compared with."""

    def _baseline(self, reward, trace):
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


class UncutBound(Vimco):
    """Wrong: each sample's score weighed by its own likelihood, as in eq. 12."""

    def surrogate(self, trace):
        log_w = tf.reduce_sum(trace.log_p_word, axis=-1)
        score = tf.reduce_sum(trace.log_p_location, axis=-1)
        bound = tf.reduce_logsumexp(log_w, axis=0)
        return bound + tf.reduce_mean(tf.stop_gradient(log_w) * score, axis=0)


class OwnDivergenceOnly(Variational):
    """Wrong: forgets that s_t moves the prior of the steps after t."""

    def rewards(self, trace):
        return Reinforce.rewards(self, trace)


class OneStepLate(StepMarginal):
    """Wrong: forgets that s_t acts on the very next word."""

    def rewards(self, trace):
        return tf.pad(super().rewards(trace)[..., 1:], [[0, 0], [0, 0], [0, 1]])


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
        UncutBound(samples=2),
        OwnDivergenceOnly(),
        OneStepLate(carry="sampled"),
    ],
    ids=lambda e: type(e).__name__ + e.name,
)
def test_the_test_sees_wrong_estimators(wrong):
    model = settled(toy(wrong))
    # What was looked at must matter to where to look next, or forgetting that is no
    # great mistake.
    query = model.attention.query.kernel
    query.assign(3.0 * query)
    data = batch(model, lengths=(2, 2))
    objective = OBJECTIVES[wrong.unbiased_for or "lower_bound"]
    wanted = gradients(model, lambda: objective(model, data))
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


def test_bounds_are_in_order():
    data = batch(toy(), lengths=(2, 2))
    pairs = toy(Vimco(samples=2))
    p, _, _ = paths_of(pairs, data)
    np.testing.assert_allclose(tf.reduce_sum(p, 0), 1.0, rtol=1e-5)
    bound, marginal = lower_bound(pairs, data), log_marginal(pairs, data)
    assert bound < importance_weighted_bound(pairs, data) < marginal
    variational = toy(Variational())
    assert variational_bound(variational, data) < log_marginal(variational, data)


def test_step_marginals_bound_what_they_say():
    """At least eq. 10; at most the model whose word and state look at two places."""
    model = toy(StepMarginal(carry="sampled"))
    data = batch(model, lengths=(2, 2))
    p, marginals = step_marginal_paths(model, data)
    two_places = tf.math.log(tf.reduce_sum(p * tf.exp(marginals), axis=0))
    bound = step_marginal_bound(model, data)
    assert lower_bound(model, data) < bound < tf.reduce_mean(two_places)
    fewer = toy(StepMarginal(carry="sampled", top_k=2))
    assert step_marginal_bound(fewer, data) < bound


def test_self_normalised_bias_falls_with_the_samples():
    def error(samples):
        model = toy(WsRam(samples=samples))
        data = batch(model, lengths=(2, 2))
        wanted = gradients(model, lambda: log_marginal(model, data))
        return relative_error(model, expected_gradient(model, data), wanted)

    assert error(3) < 0.9 * error(2)


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
    """Chi-square over 4 places, 20,000 draws; 27.9 is its 1e-5 quantile at 3 d.f."""
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
    trace = model.trace(data, lambda e, t: tf.nn.softmax(e))[0]
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
    """A preset's `max_length` once set the number of baselines by its name."""
    preset = PRESETS["paper"].replace(reward="to_go", max_length=3, baseline_steps=9)
    estimator = Reinforce(**preset.estimator_options(Reinforce))
    again = Reinforce.from_config(estimator.get_config())
    assert estimator.average.shape == again.average.shape == (9,)


@pytest.mark.parametrize(
    "estimator",
    [
        *(kind() for kind in ESTIMATORS.values()),
        Reinforce(reward="to_go", lambda_e=0.1),
        Reinforce(baseline="soft", reward="to_go"),
        Reinforce(baseline="nvil", normalise_advantage=True),
        StepMarginal(carry="sampled", top_k=2),
        WsRam(samples=2, proposal="inference"),
    ],
    ids=label,
)
def test_padding_contributes_exactly_nothing(estimator, monkeypatch):
    model = settled(toy(estimator, lambda_ds=0.3, label_smoothing=0.1))
    monkeypatch.setattr(model, "_seed", lambda: tf.constant([17, 5]))
    found = []
    for padding in (0, 3):
        data = batch(model, padding=padding)
        found.append(gradients(model, lambda d=data: model.loss_of(d)[0]))
    np.testing.assert_allclose(*found, rtol=2e-5, atol=2e-6)
    trace = model.loss_of(data)[1]
    derived = (trace.log_p_word, trace.log_drawn, trace.entropy, trace.divergence)
    for value in derived:
        assert not np.any(value.numpy()[..., -3:])


OWNERS = [
    Reinforce(baseline="nvil", normalise_advantage=True, reward="to_go"),
    WsRam(samples=3, proposal="inference"),
    Variational(),
    GumbelSoftmax(temperature=2.0, anneal_steps=7),
]
EVERY = [
    *(kind() for kind in ESTIMATORS.values()),
    *OWNERS,
    Reinforce(batch_sum=True, lambda_e=0.1, semi_sampling=0.5),
    Reinforce(baseline="soft", reward="to_go"),
    StepMarginal(carry="sampled", top_k=2),
]
OPTIONS = {
    "plain": {},
    "terms": {"lambda_ds": 0.3, "label_smoothing": 0.1, "detector_size": 4},
    "own words": {"scheduled_sampling": 0.5},
    "shared images": {"rows": True},
}


def filled(data, number):
    """The batch with captions behind that have no words."""
    tokens = tf.pad(data["tokens"], [[0, number], [0, 0]])
    if "rows" in data:
        return {**data, "tokens": tokens, "rows": tf.pad(data["rows"], [[0, number]])}
    annotations = tf.pad(
        data["annotations"], [[0, number], [0, 0], [0, 0]], constant_values=2.0
    )
    return {"annotations": annotations, "tokens": tokens}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("estimator", EVERY, ids=label)
def test_captions_without_words_contribute_exactly_nothing(
    estimator, options, monkeypatch
):
    """To loss, gradient, state and logs: they only fill a batch up to its size."""
    options = dict(options)
    probability, rows = (options.pop(k, 0) for k in ("scheduled_sampling", "rows"))
    estimator = type(estimator).from_config(estimator.get_config())
    model = toy(estimator, **options)
    model.scheduled_sampling = probability
    monkeypatch.setattr(model, "_seed", lambda: tf.constant([17, 5]))
    data = batch(model, lengths=(4, 2, 3))
    if rows:
        data = {**data, "rows": tf.constant([0, 2, 2])}
    state = estimator.non_trainable_variables
    found = []
    for number in (0, 3):
        settled(model)
        model.reset_metrics()

        def loss(number=number):
            loss.found = model.loss_of(filled(data, number))
            return loss.found[0]

        gradient = gradients(model, loss)
        value, trace = loss.found
        logs = model._logs(trace, {"surrogate": value, **estimator.statistics(trace)})
        estimator.update(trace)
        found.append([gradient, *logs.values(), *(v.numpy() for v in state)])
        for variable in state:
            variable.assign(tf.zeros_like(variable))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


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
    class Halves(Estimator):
        """The mean of two draws, each judged against the other."""

        samples = 2
        one_hot = True
        unbiased_for = "lower_bound"

        def surrogate(self, trace):
            reward = tf.reduce_sum(trace.log_p_word, axis=-1)
            advantage = tf.stop_gradient(reward - reward[::-1])
            score = advantage * tf.reduce_sum(trace.log_p_location, axis=-1)
            return tf.reduce_mean(reward + score, axis=0)

    monkeypatch.setitem(ESTIMATORS, "halves", Halves)
    check_conformance(defaults(ESTIMATORS["halves"]))
    assert toy("halves").estimator.attention == "argmax"


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_preset_can_have_every_estimator(name):
    kind = ESTIMATORS[name]
    for preset in PRESETS.values():
        made = kind(**preset.estimator_options(kind))
        config = made.get_config()
        assert type(made).from_config(config).get_config() == config
    wanted = PRESETS["scenes"].replace(temperature="0.3", carry="sampled", top_k="4")
    config = kind(**wanted.estimator_options(kind)).get_config()
    for field in ("temperature", "carry", "top_k"):
        assert config.get(field) in (None, getattr(wanted, field))


@pytest.mark.parametrize("estimator", OWNERS, ids=label)
def test_what_an_estimator_learns_is_saved(estimator, tmp_path):
    model = toy(estimator)
    for i, variable in enumerate(estimator.weights):
        variable.assign(np.full(variable.shape, 0.5 + i))
    model.save_to_preset(tmp_path)
    names = [n for n in storage.named_weights(model) if n.startswith("estimator/")]
    assert len(set(names)) == len(estimator.weights) > 0
    found = ShowAttendTell.from_preset(tmp_path).estimator
    assert found.get_config() == estimator.get_config()
    for ours, theirs in zip(estimator.weights, found.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("estimator", OWNERS, ids=label)
@pytest.mark.parametrize("compiled", ["before", "after"])
def test_estimator_with_weights_takes_over_after_a_warm_up(estimator, compiled):
    """It is in the optimizer from the start, and in checkpoints in one place."""
    hard = type(estimator).from_config(estimator.get_config())
    model = toy(hard)
    names = [v.path for v in model.variables]
    data = {k: v.numpy() for k, v in batch(model).items()}
    if compiled == "before":
        model.compile(optimizer=keras.optimizers.Adam(0.01))
    model.use(Soft())
    if compiled == "after":
        model.compile(optimizer=keras.optimizers.Adam(0.01))
    for moves in (False, True):
        before = [v.numpy() for v in hard.trainable_variables]
        model.fit(data, verbose=0)
        after = [v.numpy() for v in hard.trainable_variables]
        moved = [np.any(a != b) for a, b in zip(before, after, strict=True)]
        assert moved == [moves] * len(before)
        assert [v.path for v in model.variables] == names
        model.use(hard)


def test_estimator_the_optimizer_does_not_know_is_refused():
    model = toy(Soft())
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    model.train_step(batch(model))
    with pytest.raises(ValueError, match="Call compile"):
        model.use(Variational())
    model.compile(optimizer=keras.optimizers.Adam(0.01))
    model.use(Variational())


def test_updates_are_compiled_once_for_all_estimators(monkeypatch):
    model = toy(Reinforce())
    compiled, apply = [], keras.optimizers.Adam.apply_gradients
    monkeypatch.setattr(
        keras.optimizers.Adam,
        "apply_gradients",
        lambda *args: (compiled.append(1), apply(*args)),
    )
    for times in (1, 2):
        model.compile(optimizer=keras.optimizers.Adam(0.01))
        for estimator in (Soft(), Reinforce(), Reinforce(samples=2)):
            model.use(estimator)
            before = model.attention.vector.numpy()
            model.train_step(batch(model))
            assert np.any(model.attention.vector.numpy() != before)
        assert len(compiled) == times


@pytest.mark.parametrize(
    "estimator",
    [*(kind() for kind in ESTIMATORS.values()), *OWNERS, StepMarginal(top_k=9)],
    ids=label,
)
def test_works_in_a_graph_of_any_length(estimator):
    """As in `fit`; nothing is run, as each would be compiled."""
    model = toy(estimator)
    shape = [None, model.encoder.locations, model.encoder.size]
    signature = {
        "annotations": tf.TensorSpec(shape),
        "tokens": tf.TensorSpec([None, None], tf.int32),
    }

    @tf.function(input_signature=[signature], autograph=False)
    def gradient(data):
        with tf.GradientTape() as tape:
            loss, trace = model.loss_of(data)
        estimator.update(trace)
        return tape.gradient(loss, model.trainable_variables), loss

    found, _ = gradient.get_concrete_function().structured_outputs
    assert None not in found


def test_critic_learns_the_reward_and_nothing_else_learns_from_it():
    estimator = Reinforce(baseline="nvil", reward="to_go")
    model = toy(estimator)
    data, seed = batch(model, lengths=(4, 2)), tf.constant([17, 4])
    own = estimator.critic.trainable_variables
    optimizer = keras.optimizers.Adam(0.05)
    errors = []
    looked, _ = estimator.trace(model, data, seed)
    for _ in range(100):
        with tf.GradientTape(persistent=True) as tape:
            trace = estimator._with_baseline(looked, model, data)
            error = tf.reduce_mean(estimator._critic_error(trace))
        others = [v for v in model.trainable_variables if "critic/" not in v.path]
        assert tape.gradient(error, others) == [None] * len(others)
        optimizer.apply(tape.gradient(error, own), own)
        errors.append(float(error))
    assert errors[-1] < 0.05 * errors[0]


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
    trace, _ = estimator.trace(model, data, tf.constant([17, 4]))
    soft = model.trace(data, lambda e, t: tf.nn.softmax(e))[0].log_p_word.numpy()
    wanted = soft[..., ::-1].cumsum(-1)[..., ::-1]
    np.testing.assert_allclose(trace.baseline, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "kind, name, value",
    [
        (Reinforce, "reward", "all"),
        (Reinforce, "baseline", "ema"),
        (Rebar, "baseline", "nvil"),
        (StepMarginal, "baseline", "soft"),
        (StepMarginal, "carry", "hard"),
        (WsRam, "proposal", "posterior"),
    ],
)
def test_unknown_option_names_the_choices(kind, name, value):
    with pytest.raises(ValueError, match=f"Received: {name}='{value}'"):
        kind(**{name: value})


@pytest.mark.parametrize(
    "kind, options",
    [
        (Reinforce, dict(baseline="leave_one_out", samples=1)),
        (Rloo, dict(samples=1)),
        (Vimco, dict(samples=1)),
        (WsRam, dict(samples=1)),
        (StepMarginal, dict(top_k=0)),
        (StraightThrough, dict(temperature=0.0)),
        (GumbelSoftmax, dict(anneal_steps=0)),
    ],
)
def test_number_out_of_range_is_named(kind, options):
    name, value = list(options.items())[-1]
    with pytest.raises(ValueError, match=f"Received: {name}={value}"):
        kind(**options)
