"""Gradients by exact enumeration: L = 4 locations, T = 2 words, 16 paths."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from objectives import (
    OBJECTIVES,
    check_conformance,
    importance_weighted_bound,
    log_marginal,
    step_marginal_bound,
    step_marginal_paths,
    variational_bound,
)
from toy import (
    all_paths,
    attention_part,
    batch,
    expected_gradient,
    gradients,
    lower_bound,
    paths_of,
    relative_error,
    settled,
    toy,
)

from sat_tf import ShowAttendTell
from sat_tf.estimators import (
    ESTIMATORS,
    Estimator,
    GumbelSoftmax,
    Rebar,
    Reinforce,
    Reinmax,
    Rloo,
    Soft,
    StepMarginal,
    StraightThrough,
    Variational,
    Vimco,
    WsRam,
)
from sat_tf.presets import storage
from sat_tf.recipes import RECIPES
from sat_tf.recipes.base import make
from sat_tf.reranking.detection import Detection
from sat_tf.training_step import logs

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
    Reinmax(temperature=1.5),
    StepMarginal(top_k=2),
    StepMarginal(carry="sampled"),
    StepMarginal(carry="sampled", top_k=3, baseline="none"),
    *(
        Variational(baseline=baseline)
        for baseline in ("none", "moving_average", "soft", "nvil")
    ),
    Variational(baseline="leave_one_out", samples=2),
]


# No enumeration reaches these: other tests integrate over their noise, see
# test_gumbel_softmax.py and research/test_rebar.py.
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
    query = model.network.attention.query.kernel
    query.assign(3.0 * query)
    data = batch(model, lengths=(2, 2))
    objective = OBJECTIVES[wrong.unbiased_for or "lower_bound"]
    wanted = gradients(model, lambda: objective(model, data))
    assert relative_error(model, expected_gradient(model, data), wanted) > 1e-2


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
    """At least eq. 10; at most the model whose word and state look at two locations."""
    model = toy(StepMarginal(carry="sampled"))
    data = batch(model, lengths=(2, 2))
    p, marginals = step_marginal_paths(model, data)
    two_locations = tf.math.log(tf.reduce_sum(p * tf.exp(marginals), axis=0))
    bound = step_marginal_bound(model, data)
    assert lower_bound(model, data) < bound < tf.reduce_mean(two_locations)
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
    hard = model.network.trace(
        data, lambda e, t: select(e, training=False, seed=seed, step=t)
    )
    soft = model.network.trace(data, lambda e, t: tf.nn.softmax(e))
    np.testing.assert_allclose(hard[0].log_p_word, soft[0].log_p_word, atol=1e-5)


def test_sampled_step_gives_attention_only_score_gradient():
    """Invariant 2 of the method: pathwise zero where hard, score zero where soft."""
    model = toy(Reinforce(baseline="none"))
    data = batch(model)

    def hard():
        trace = all_paths(model, data)
        return tf.reduce_sum(trace.log_p_word)

    def soft():
        trace = model.network.trace(data, lambda e, t: tf.nn.softmax(e))[0]
        return tf.reduce_sum(3.0 * trace.log_p_location)

    assert np.all(attention_part(model, gradients(model, hard)) == 0)
    np.testing.assert_allclose(gradients(model, soft), 0, atol=1e-5)


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


def made_by(recipe):
    """The estimator of a recipe."""
    return make("estimator", ESTIMATORS, recipe.estimator)


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


# What is added to an estimator's objective, and what it may be given otherwise.
OPTIONS = {
    "terms": {"lambda_ds": 0.3, "label_smoothing": 0.1, "detection": True},
    "own words, shared images": {"scheduled_sampling": 0.5, "rows": True},
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
    detection, rows = (options.pop(k, False) for k in ("detection", "rows"))
    estimator = type(estimator).from_config(estimator.get_config())
    model = toy(estimator, rerankers=[Detection(4)] if detection else [], **options)
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
        extra = {"surrogate": value, **estimator.statistics(trace)}
        shown = logs.update(model.means, trace, extra, model.encoder.locations)
        estimator.update(trace)
        found.append([gradient, *shown.values(), *(v.numpy() for v in state)])
        for variable in state:
            variable.assign(tf.zeros_like(variable))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


@keras.saving.register_keras_serializable("tests")
class Halves(Estimator):
    """The mean of two draws, each judged against the other."""

    samples = 2
    one_hot = True
    unbiased_for = "lower_bound"

    def __init__(self, weight=1.0, **kwargs):
        super().__init__(**kwargs)
        self.weight = weight
        self.batches = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="batches"
        )

    def surrogate(self, trace):
        reward = tf.reduce_sum(trace.log_p_word, axis=-1)
        advantage = self.weight * tf.stop_gradient(reward - reward[::-1])
        score = advantage * tf.reduce_sum(trace.log_p_location, axis=-1)
        return tf.reduce_mean(reward + score, axis=0)

    def update(self, trace):
        self.batches.assign_add(1.0)

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


@pytest.fixture
def halves(monkeypatch):
    """`Halves` in `ESTIMATORS`, while a test runs."""
    monkeypatch.setattr(ESTIMATORS, "_homes", dict(ESTIMATORS._homes))
    ESTIMATORS.register("halves", Halves)


def test_adding_an_estimator_takes_a_class_and_a_registry_line(halves):
    check_conformance(defaults(ESTIMATORS["halves"]))
    assert toy("halves").estimator.attention == "argmax"
    recipe = RECIPES["scenes"].replace(
        {"estimator": "halves", "estimator.weight": "0.5"}
    )
    assert made_by(recipe).weight == 0.5


def test_an_added_estimator_is_trained_saved_and_loaded(halves, tmp_path):
    model = toy("halves")
    model.compile(optimizer=keras.optimizers.Adam(0.03))
    data = tf.data.Dataset.from_tensors(batch(model, lengths=(4, 2, 3))).repeat()
    options = {"steps_per_epoch": 10, "epochs": 2, "verbose": 0, "shuffle": False}
    history = model.fit(data, **options).history
    assert history["log_likelihood"][1] > history["log_likelihood"][0]
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "model")
    for loaded in (
        keras.saving.load_model(tmp_path / "model.keras"),
        ShowAttendTell.from_preset(tmp_path / "model"),
    ):
        assert type(loaded.estimator) is Halves
        assert float(loaded.estimator.batches.numpy()) == 20
        options = {"steps_per_epoch": 1, "verbose": 0, "shuffle": False}
        loaded.compile(optimizer=keras.optimizers.Adam(0.03))
        assert np.isfinite(loaded.fit(data, **options).history["loss"][0])


def test_an_unknown_estimator_names_the_known():
    with pytest.raises(ValueError, match="one of soft, reinforce.*'unicorn'"):
        toy("unicorn")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_recipe_can_have_every_estimator(name):
    for recipe in RECIPES.values():
        made = made_by(recipe.replace({"estimator": name}))
        assert type(made) is ESTIMATORS[name]
        config = made.get_config()
        assert type(made).from_config(config).get_config() == config


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_recipe_sets_what_an_estimator_takes_and_nothing_else(name):
    asked = {"temperature": "0.3", "carry": "sampled", "top_k": "4"}
    for option, value in asked.items():
        changes = {"estimator": name, f"estimator.{option}": value}
        if option in ESTIMATORS[name].options():
            config = made_by(RECIPES["scenes"].replace(changes)).get_config()
            assert str(config[option]) == value
        else:
            with pytest.raises(ValueError, match=f"Received: estimator.{option}="):
                RECIPES["scenes"].replace(changes)


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
    """It is in the optimizer from the start, and in checkpoints at one address."""
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
