"""What is said of a place: learned from where the captioner looks, and kept."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from toy import toy

from sat_tf import ShowAttendTell
from sat_tf.decoding import LOCATION_RULES
from sat_tf.reranking import grounding

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
    """(image, place) -> how often each word was said there, caption by caption."""
    table = collections.defaultdict(collections.Counter)
    for image, texts in enumerate(captions):
        for text in texts:
            tokens = np.array([captioner.vocabulary.encode(text)], "int32")
            trace, _ = captioner.network.trace(
                {"annotations": features[image : image + 1], "tokens": tokens},
                lambda e, t: LOCATION_RULES["argmax"](e, None),
                one_hot=True,
            )
            places = trace.weights[0, 0].numpy().argmax(axis=-1)
            for place, word in zip(places, tokens[0], strict=True):
                table[image, int(place)][int(word)] += 1
    return table


# In one batch, and in two, which pull to and fro and take longer to settle: from any
# initial weights the largest error is then about 0.005.
@pytest.mark.parametrize(("images", "passes"), [(50, 100), (2, 400)])
def test_learns_which_words_are_said_where(images, passes, monkeypatch):
    """Its evidence becomes log p(word | place) / p(word), as one counts them."""
    monkeypatch.setattr(grounding, "IMAGES", images)
    monkeypatch.setattr(grounding, "PASSES", passes)
    monkeypatch.setattr(grounding, "RATE", 0.02)
    captioner = toy(grounding_size=256)
    inputs = Inputs(captioner)
    before = [w.numpy() for w in captioner.weights if "grounding" not in w.path]
    grounding.fit(captioner, inputs, "annotations", CAPTIONS, verbose=0)
    after = [w.numpy() for w in captioner.weights if "grounding" not in w.path]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    table = looks_of(captioner, inputs.features, CAPTIONS)
    assert len(table) > 3  # some image is looked at in more than one place
    size = len(captioner.vocabulary)
    counts = np.bincount(
        [word for said in table.values() for word in said.elements()], minlength=size
    )
    prior = (counts + grounding.SMOOTHING) / (counts + grounding.SMOOTHING).sum()
    evidence = captioner.ground(tf.constant(inputs.features)).numpy()
    for (image, place), said in table.items():
        wanted = np.array([said[word] for word in range(size)]) / said.total()
        found = np.exp(evidence[image, place]) * prior
        np.testing.assert_allclose(found, wanted, atol=0.02)


def test_has_no_opinion_before(tmp_path):
    captioner = toy(grounding_size=4)
    assert not captioner.grounding.fitted
    assert not captioner.grounding.trainable_variables
    fresh = ShowAttendTell.from_config(captioner.get_config())
    inputs = Inputs(captioner)
    evidence = fresh.ground(tf.constant(inputs.features)).numpy()
    np.testing.assert_allclose(evidence, 0, atol=1e-6)
    grounding.fit(captioner, inputs, "annotations", CAPTIONS, verbose=0)
    assert captioner.grounding.fitted and not captioner.grounding.trainable_variables
    captioner.save_to_preset(tmp_path / "kept")
    kept = ShowAttendTell.from_preset(tmp_path / "kept")
    assert kept.grounding.fitted
    found, wanted = (m.ground(tf.constant(inputs.features)) for m in (kept, captioner))
    np.testing.assert_array_equal(found, wanted)
