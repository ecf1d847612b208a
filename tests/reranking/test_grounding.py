"""What is said of a location: learned from where the captioner looks, and kept."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from toy import toy

from sat_tf import ShowAttendTell
from sat_tf.decoding import LOCATION_RULES
from sat_tf.reranking import grounding
from sat_tf.reranking.grounding import Grounding

CAPTIONS = [
    ("red dog", "dog red cat", "a cat"),  # "a" is a word it does not know
    ("blue cat",),
    ("dog dog dog dog", "red"),
]


class Inputs:
    """Features of three images, read as from a cache."""

    def __init__(self, captioner, seed=17):
        shape = (3, captioner.encoder.locations, captioner.encoder.size)
        drawn = np.random.default_rng(seed).normal(0, 3, shape)
        self.features = drawn.astype("float32")

    def __len__(self):
        return len(self.features)

    def read(self, rows):
        return self.features[rows]


def looks_of(captioner, features, captions):
    """(image, location) -> how often each word was said there, caption by caption."""
    table = collections.defaultdict(collections.Counter)
    for image, texts in enumerate(captions):
        for text in texts:
            tokens = np.array([captioner.vocabulary.encode(text)], "int32")
            trace, _ = captioner.network.trace(
                {"annotations": features[image : image + 1], "tokens": tokens},
                lambda e, t: LOCATION_RULES["argmax"](e, None),
                one_hot=True,
            )
            locations = trace.weights[0, 0].numpy().argmax(axis=-1)
            for location, word in zip(locations, tokens[0], strict=True):
                table[image, int(location)][int(word)] += 1
    return table


def evidence_of(captioner, features):
    """What its only reranker makes of features `[B, L, D]`."""
    annotations = captioner.encoder(tf.constant(features))
    return captioner.rerankers[0].evidence(annotations).numpy()


# In one batch, and in two, which pull to and fro and take longer to settle: from any
# initial weights the largest error is then about 0.006.
@pytest.mark.parametrize(
    ("images", "passes", "rate"), [(50, 100, 0.02), (2, 150, 0.06)]
)
def test_learns_which_words_are_said_where(images, passes, rate, monkeypatch):
    """Its evidence becomes log p(word | location) / p(word), as one counts them."""
    monkeypatch.setattr(grounding, "IMAGES", images)
    monkeypatch.setattr(grounding, "PASSES", passes)
    monkeypatch.setattr(grounding, "RATE", rate)
    captioner = toy(rerankers=[Grounding(256)])
    inputs = Inputs(captioner)
    (head,) = captioner.rerankers
    own = {id(w) for w in head.weights}
    others = [w for w in captioner.weights if id(w) not in own]
    before = [w.numpy() for w in others]
    head.fit(captioner, inputs, "annotations", CAPTIONS, verbose=0)
    after = [w.numpy() for w in others]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    table = looks_of(captioner, inputs.features, CAPTIONS)
    assert len(table) > 3  # some image is looked at in more than one location
    size = len(captioner.vocabulary)
    counts = np.bincount(
        [word for said in table.values() for word in said.elements()], minlength=size
    )
    prior = (counts + grounding.SMOOTHING) / (counts + grounding.SMOOTHING).sum()
    evidence = evidence_of(captioner, inputs.features)
    for (image, location), said in table.items():
        wanted = np.array([said[word] for word in range(size)]) / said.total()
        found = np.exp(evidence[image, location]) * prior
        np.testing.assert_allclose(found, wanted, atol=0.02)


def test_has_no_opinion_before(tmp_path):
    captioner = toy(rerankers=[Grounding(4)])
    (head,) = captioner.rerankers
    assert not head.fitted and not head.trainable_variables
    fresh = ShowAttendTell.from_config(captioner.get_config())
    for each in (captioner, fresh):
        own = {id(weight) for weight in each.rerankers[0].weights}
        assert not own & {id(weight) for weight in each.trainable_variables}
    inputs = Inputs(captioner)
    evidence = evidence_of(fresh, inputs.features)
    np.testing.assert_allclose(evidence, 0, atol=1e-6)
    head.fit(captioner, inputs, "annotations", CAPTIONS, verbose=0)
    assert head.fitted and not head.trainable_variables
    captioner.save_to_preset(tmp_path / "kept")
    kept = ShowAttendTell.from_preset(tmp_path / "kept")
    assert kept.rerankers[0].fitted
    found, wanted = (evidence_of(m, inputs.features) for m in (kept, captioner))
    np.testing.assert_array_equal(found, wanted)
