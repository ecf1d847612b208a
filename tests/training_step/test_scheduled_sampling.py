"""Training on the captioner's own words: only what goes in changes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy import batch, gradients, toy

from sat_tf.estimators import ESTIMATORS, Reinforce
from sat_tf.training_step.scheduled_sampling import (
    draw_words,
    rising,
    shifted,
    with_own_words,
)
from sat_tf.vocabulary import EOS, PAD

SEED = tf.constant([17, 5])


def compiled(estimator, probability, monkeypatch):
    model = toy(estimator)
    model.compile(scheduled_sampling=probability)
    monkeypatch.setattr(model, "_seed", lambda: SEED)
    return model


@pytest.mark.parametrize("name", ESTIMATORS)
def test_probability_one_feeds_only_own_words(name, monkeypatch):
    """Here the captioner only ever says `cat`."""
    model = compiled(name, 1.0, monkeypatch)
    cat = model.vocabulary.id_of("cat")
    model.network.decoder.output_word.bias.assign(100 * np.eye(7)[cat])
    data = batch(model, lengths=(4, 2))
    inputs = with_own_words(model, data, SEED)["inputs"].numpy()
    shown = shifted(data["tokens"]).numpy()
    np.testing.assert_array_equal(inputs, np.where(shown > 0, cat, 0))
    assert (shown != cat).any() and (inputs[:, 0] == 0).all()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_only_the_inputs_change(name, monkeypatch):
    """No gradient through the first pass; what is to be said stays the caption."""
    data = batch(toy(), lengths=(4, 2))
    model = compiled(name, 1.0, monkeypatch)
    own = with_own_words(model, data, SEED)["inputs"]
    assert (own != shifted(data["tokens"])).numpy().any()
    got = gradients(model, lambda: model.loss_of(data)[0])
    model.scheduled_sampling = 0.0
    wanted = gradients(model, lambda: model.loss_of({**data, "inputs": own})[0])
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)
    plain = gradients(model, lambda: model.loss_of(data)[0])
    assert np.abs(plain - wanted).max() > 1e-3


def test_off_costs_nothing(monkeypatch):
    def passes(probability):
        model = compiled("reinforce", probability, monkeypatch)
        graph = tf.function(lambda: model.loss_of(batch(model))[0], autograph=False)
        return len(graph.get_concrete_function().graph.get_operations())

    plain = passes(rising(0.0, 100))
    monkeypatch.setattr("sat_tf.training_step.objective.with_own_words", None)
    assert passes(0.0) == plain
    monkeypatch.undo()
    assert passes(0.5) > plain


def test_probability_rises_linearly_with_the_updates(monkeypatch):
    model = compiled("reinforce", rising(0.8, 100), monkeypatch)
    data = batch(model, lengths=[6] * 400)
    shares = []
    for step in (0, 50, 100, 300):
        model.optimizer.iterations.assign(step)
        mixed = with_own_words(model, data, SEED)["inputs"]
        model.scheduled_sampling, before = 1.0, model.scheduled_sampling
        own = with_own_words(model, data, SEED)["inputs"]
        model.scheduled_sampling = before
        differ = own[:, 1:] != shifted(data["tokens"])[:, 1:]
        shares.append(np.mean((mixed == own)[:, 1:].numpy()[differ]))
    # 400 x 5 words, most of which differ: a standard error of at most 0.015.
    np.testing.assert_allclose(shares, [0, 0.4, 0.8, 0.8], atol=0.07)
    assert shares[0] == 0
    with pytest.raises(ValueError, match="Received: scheduled_sampling=1.5"):
        rising(1.5, 100)


def test_words_are_drawn_from_the_softmax():
    """Chi-square over 3 words, 20,000 draws; 23.0 is its 1e-5 quantile at 2 d.f."""
    logits = tf.constant([3.0, 2.0, 0.0, 1.0, -1.0])
    drawn = draw_words(tf.tile(logits[None, None], [200, 100, 1]), SEED).numpy()
    assert not {PAD, EOS} & set(drawn.ravel())
    counts = np.bincount(drawn.ravel(), minlength=5)[2:]
    wanted = 20_000 * tf.nn.softmax(logits[2:]).numpy()
    assert ((counts - wanted) ** 2 / wanted).sum() < 23.0


def test_draws_do_not_depend_on_padding(monkeypatch):
    model = compiled("reinforce", 0.5, monkeypatch)
    short, long = (
        with_own_words(model, batch(model, lengths=(4, 2), padding=n), SEED)["inputs"]
        for n in (0, 3)
    )
    np.testing.assert_array_equal(short, long[:, :4])


def test_fit_with_captions_that_share_images():
    """A saved model knows its schedule."""
    model = toy(Reinforce(samples=2, baseline="leave_one_out", reward="to_go"))
    model.compile(keras.optimizers.Adam(0.03), scheduled_sampling=rising(0.5, 20))
    data = batch(model, lengths=(4, 2, 3))
    data["annotations"] = data["annotations"][:2]
    data["rows"] = tf.constant([0, 1, 1])
    history = model.fit(
        tf.data.Dataset.from_tensors(data).repeat(),
        steps_per_epoch=10,
        epochs=2,
        verbose=0,
        shuffle=False,
    ).history
    assert history["log_likelihood"][1] > history["log_likelihood"][0]
    config = keras.saving.deserialize_keras_object(model.get_compile_config())
    assert float(config["scheduled_sampling"](10)) == pytest.approx(0.25)
