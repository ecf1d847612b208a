"""How sure attention is: fitted to captions, against a plain twin."""

import numpy as np
import pytest
import tensorflow as tf
from plain_decoder import PAD, PlainCaptioner, log_softmax
from quick_run import HARD, vector_of
from small_captioner import small_captioner

from sat_tf.estimators import StraightThrough
from sat_tf.reranking.alignment import Alignment
from sat_tf.training import stages, temperature
from sat_tf.training.run import Run

IMAGES = 24


class Features:
    """Of as many images, and how often they were read."""

    def __init__(self, captioner, images):
        shape = images, captioner.encoder.locations, captioner.encoder.size
        self.features = np.random.default_rng(17).normal(0, 2, shape).astype("float32")

    def read(self, indices):
        return self.features[indices]

    def dataset(self):
        return tf.data.Dataset.from_tensors({"annotations": self.features})


@pytest.fixture
def captioner():
    """One that looks where alpha is greatest."""
    return small_captioner("none", estimator=StraightThrough())


@pytest.fixture
def inputs(captioner):
    return Features(captioner, IMAGES)


@pytest.fixture
def captions(captioner, inputs):
    """Two of each image, as words and locations are drawn from it, if it were surer."""
    vector = vector_of(captioner)
    captioner.network.attention.vector.assign(3 * vector)
    options = {"decoder": "sample", "attention": "sample", "max_length": 6}
    said = [captioner.generate(inputs.dataset(), seed=i, **options) for i in (1, 2)]
    captioner.network.attention.vector.assign(vector)
    return [[one.caption for one in each] for each in zip(*said, strict=True)]


def likelihoods(captioner, features, captions):
    """Of all words, each from every location, for each factor: in float64."""
    plain = PlainCaptioner(captioner)
    locations = np.eye(captioner.encoder.locations)
    total = np.zeros(len(temperature.FACTORS))
    for image, each in zip(features.astype(float), captions, strict=True):
        for caption in each:
            state, last = plain.start(image), PAD
            for word in captioner.vocabulary.encode(caption):
                log_p = [
                    plain.step(last, state, image, lambda _, one=one: one)[0][word]
                    for one in locations
                ]
                _, after, look = plain.step(
                    last, state, image, lambda e: locations[np.argmax(e)]
                )
                for k, factor in enumerate(temperature.FACTORS):
                    prior = log_softmax(factor * np.log(look["alpha"]))
                    total[k] += np.log(np.exp(prior + log_p).sum())
                state, last = after, word
    return total


def fit(captioner, inputs, captions, **options):
    return temperature.fit_temperature(
        captioner, inputs, "annotations", captions, **options
    )


def test_the_likeliest_factor_is_found(captioner, inputs, captions, capsys):
    before = vector_of(captioner)
    wanted = likelihoods(captioner, inputs.features, captions)
    factor = fit(captioner, inputs, captions)
    found = list(temperature.FACTORS).index(factor)
    assert 1 < factor < 8 and wanted.max() - wanted[temperature.AS_IT_IS] > 0.1
    assert wanted[found] >= wanted.max() - 1e-4
    np.testing.assert_allclose(vector_of(captioner), factor * before, rtol=1e-6)
    assert f"times {factor:.3g}: " in capsys.readouterr().out
    assert fit(captioner, inputs, captions) == 1 and not capsys.readouterr().out


def test_where_captions_do_not_tell_it_stays(captioner, inputs, captions):
    """Of an image that is the same everywhere, a word is as probable from anywhere."""
    before = vector_of(captioner)
    inputs.features[:] = inputs.features[:, :1]
    assert fit(captioner, inputs, captions, verbose=0) == 1
    np.testing.assert_array_equal(vector_of(captioner), before)


def test_where_words_are_found_stays_and_evidence_is_its_power(captions):
    """With a reranker that locates words, which is made surer by the same factor."""
    captioner = small_captioner(
        "none", estimator=StraightThrough(), rerankers=[Alignment(4)]
    )
    (head,) = captioner.rerankers
    rng = np.random.default_rng(17)
    for weight in head.hidden.weights + head.words.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    inputs = Features(captioner, IMAGES)
    said = [each[0] or "r-s" for each in captions]
    before = captioner.explain(inputs.dataset(), said)
    factor = fit(captioner, inputs, captions, verbose=0)
    assert factor != 1
    for old, new in zip(before, captioner.explain(inputs.dataset(), said), strict=True):
        np.testing.assert_array_equal(old.locations, new.locations)
        power = old.evidence.astype(float) ** factor
        power /= power.sum(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(new.evidence, power, atol=1e-4)
        np.testing.assert_allclose(old.support, new.support, atol=1e-5)


def test_what_is_said_stays_and_alpha_is_its_power(captioner, inputs, captions):
    before = captioner.generate(inputs.dataset())
    factor = fit(captioner, inputs, captions, verbose=0)
    assert factor != 1
    for old, new in zip(before, captioner.generate(inputs.dataset()), strict=True):
        assert old.words == new.words
        np.testing.assert_array_equal(old.locations, new.locations)
        power = old.alpha**factor
        power /= power.sum(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(new.alpha, power, atol=1e-5)


RUN = {**HARD, "estimator": {"name": "straight_through"}, "stages.fit_temperature": {}}


def test_a_run_fits_it_at_its_end_and_once(quick, tmp_path, monkeypatch):
    """And one that is killed then ends as one that was not."""
    factors = []

    def fit_temperature(captioner, *_, **options):
        vector = captioner.network.attention.vector
        factors.append(1 / float(np.abs(vector).max()))
        vector.assign(factors[-1] * vector)
        return factors[-1]

    def dies(self, *args):
        real(self, *args)
        if len(factors) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(stages, "fit_temperature", fit_temperature)
    plain, _ = quick.train(tmp_path / "plain", {**RUN, "stages.fit_temperature": None})
    whole, _ = quick.train(tmp_path / "whole", RUN)
    assert len(factors) == 1 and factors[0] != 1
    np.testing.assert_allclose(vector_of(whole), factors[0] * vector_of(plain), 1e-6)
    real = Run.save_best
    monkeypatch.setattr(Run, "save_best", dies)
    with pytest.raises(KeyboardInterrupt):
        quick.train(tmp_path / "killed", RUN)
    found, _ = quick.train(tmp_path / "killed", RUN)
    assert factors[2:] == [1.0]
    np.testing.assert_array_equal(vector_of(found), vector_of(whole))


def test_one_that_takes_the_mean_has_learned_it(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "fit_temperature", None)
    soft, _ = quick.train(tmp_path, {**RUN, "estimator": {"name": "soft"}})
    assert soft.options().attention == "expected"
