"""Where a model finds the words of a sentence that it is given."""

import dataclasses

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from pictures import encode, picture
from plain_decoder import PAD, UNK, PlainCaptioner, log_softmax
from small_captioner import WORDS, small_captioner

from sat_tf.decoding import LOCATION_RULES
from sat_tf.reranking.alignment import Alignment
from sat_tf.vocabulary import tokenise

CAPTIONS = ["r-s g-t", "b-x, g-s zebra r-s b-t!", "g-x"]
FIELDS = ("locations", "evidence", "support", "log_p_word", "alpha")


def features_of(captioner, number=3):
    shape = number, captioner.encoder.locations, captioner.encoder.size
    return np.random.default_rng(17).normal(0, 2, shape).astype("float32")


def explained(captioner, features, captions):
    """Through the door that takes features: a data set of annotations."""
    data = tf.data.Dataset.from_tensors({"annotations": features})
    return captioner.explain(data, captions)


@pytest.fixture(scope="module")
def of_features():
    captioner = small_captioner("none")
    captioner.encoder.adapt(features_of(captioner, 50) + 1)
    return captioner


@pytest.fixture(scope="module")
def of_images():
    return small_captioner(resize_mode="squash")


def assert_same(found, wanted, atol=1e-5):
    assert (found.caption, found.words) == (wanted.caption, wanted.words)
    np.testing.assert_array_equal(found.known, wanted.known)
    for name in FIELDS:
        np.testing.assert_allclose(
            getattr(found, name), getattr(wanted, name), atol=atol, err_msg=name
        )


# ------------------------------------------------------------------ the slow plain twin


def explain_plainly(captioner, features, ids, rule):
    """Evidence, support, log p and alpha of one caption, word by word in float64."""
    plain = PlainCaptioner(captioner)
    mean, variance = (
        np.asarray(x, np.float64)
        for x in (
            captioner.encoder.standardise.mean,
            captioner.encoder.standardise.variance,
        )
    )
    annotations = (features - mean.ravel()) / np.sqrt(variance.ravel())
    locations = len(annotations)

    def choose(logits):
        if rule == "expected":
            return np.exp(log_softmax(logits))
        return np.eye(locations)[np.argmax(logits)]

    def spoken(annotations):
        state, last = plain.start(annotations), PAD
        for word in ids:
            log_p, after, look = plain.step(last, state, annotations, choose)
            yield last, state, log_p[word], look["alpha"]
            state, last = after, word

    rows = []
    average = list(spoken(np.zeros_like(annotations)))
    for word, (last, state, log_p, alpha), usual in zip(
        ids, spoken(annotations), average, strict=True
    ):
        from_each = [
            plain.step(last, state, annotations, lambda _, i=i: np.eye(locations)[i])[0]
            for i in range(locations)
        ]
        joint = alpha * np.exp([each[word] for each in from_each])
        support = np.log(joint.sum()) - usual[2]
        rows.append((joint / joint.sum(), support, log_p, alpha))
    return [np.array(x) for x in zip(*rows, strict=True)]


@pytest.mark.parametrize("rule", ["argmax", "expected", "sample"])
def test_evidence_is_the_models_own_posterior(of_features, rule):
    """Of a location, the word and all before it known; in both ways of looking."""
    features = features_of(of_features)
    of_features.decoder_options = {"attention": rule}
    found = explained(of_features, features, CAPTIONS)
    for caption, each, one in zip(CAPTIONS, features, found, strict=True):
        ids = of_features.vocabulary.encode(caption)[:-1]
        evidence, support, log_p, alpha = explain_plainly(
            of_features, each.astype(float), ids, rule
        )
        grid = len(ids), *of_features.grid
        np.testing.assert_allclose(one.evidence, evidence.reshape(grid), atol=1e-5)
        np.testing.assert_allclose(one.alpha, alpha.reshape(grid), atol=1e-5)
        np.testing.assert_allclose(one.support, support, atol=1e-4)
        np.testing.assert_allclose(one.log_p_word, log_p, atol=1e-5)
        np.testing.assert_array_equal(one.locations, evidence.argmax(axis=-1))
    assert not np.allclose(found[0].evidence, found[0].alpha, atol=0.01)
    assert np.concatenate([x.support for x in found]).std() > 0.01
    of_features.decoder_options = {}


@pytest.mark.parametrize(
    "dtype, rule, atol",
    [("float32", "argmax", 1e-5), ("mixed_bfloat16", "expected", 0.05)],
)
def test_probabilities_are_those_that_training_sees(dtype, rule, atol):
    captioner = small_captioner("none", dtype=dtype)
    captioner.decoder_options = {"attention": rule}
    features = features_of(captioner)
    found = explained(captioner, features, CAPTIONS)
    ids = [captioner.vocabulary.encode(caption) for caption in CAPTIONS]
    tokens = keras.utils.pad_sequences(ids, padding="post", dtype="int32")
    trace, _ = captioner.network.trace(
        {"annotations": features, "tokens": tokens},
        lambda logits, t: LOCATION_RULES[rule](logits, None),
        one_hot=rule == "argmax",
    )
    alpha = np.exp(trace.log_alpha[0]).reshape(len(ids), -1, *captioner.grid)
    for i, one in enumerate(found):
        said = slice(0, len(one.words))
        np.testing.assert_allclose(
            one.log_p_word, trace.log_p_word[0, i, said], atol=atol
        )
        np.testing.assert_allclose(one.alpha, alpha[i, said], atol=atol)
        assert one.evidence.dtype == one.support.dtype == np.float32
        np.testing.assert_allclose(one.evidence.sum((1, 2)), 1, atol=1e-4)


# --------------------------------------------------------- what locates, and batches


def located():
    captioner = small_captioner("none", rerankers=[Alignment(4)])
    (head,) = captioner.rerankers
    rng = np.random.default_rng(17)
    for weight in head.weights:
        weight.assign(rng.uniform(0.05, 0.9, weight.shape))
    return captioner


def test_a_reranker_that_locates_takes_the_likelihoods_place():
    captioner = located()
    features = features_of(captioner)
    found = explained(captioner, features, CAPTIONS)
    for i, one in enumerate(found):
        ids = np.array([captioner.vocabulary.encode(CAPTIONS[i])[:-1]])
        annotations = captioner.encoder(features[i : i + 1])
        log_places, support = captioner.rerankers[0].locate(annotations, ids)
        joint = np.exp(log_places[0]).reshape(-1, *captioner.grid) * one.alpha
        evidence = joint / joint.sum(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(one.evidence, evidence, atol=1e-5)
        np.testing.assert_allclose(one.support, support[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["posterior", "alignment"])
def test_it_does_not_depend_on_the_batch(kind, of_features, monkeypatch):
    """Nor on how long the other captions are, nor how many go through at once."""
    captioner = located() if kind == "alignment" else of_features
    features = features_of(captioner)
    together = explained(captioner, features, CAPTIONS)
    for i, caption in enumerate(CAPTIONS):
        (alone,) = explained(captioner, features[i : i + 1], caption)
        assert_same(alone, together[i])


def test_more_images_than_go_through_at_once(of_images):
    images = [np.asarray(picture(64, 64, seed=i), "float32") for i in range(18)]
    captions = [" ".join(WORDS[: 1 + i % 5]) for i in range(18)]
    found = of_images.explain(images, captions)
    assert [each.caption for each in found] == captions
    (last,) = of_images.explain(images[17], captions[17])
    assert_same(found[17], last, atol=1e-4)


# ------------------------------------------------------------------ what it is given


def test_words_that_it_does_not_know(of_features):
    features = features_of(of_features, 2)
    found, other = explained(of_features, features, ["A zebra, r-s", "A llama r-s"])
    assert found.words == ("a", "zebra", "r-s") and found.words == tuple(
        tokenise(found.caption)
    )
    assert found.known.tolist() == [False, False, True]
    assert found.known.dtype == bool and found.locations.dtype.kind == "i"
    (same,) = explained(of_features, features[:1], "a llama r-s")
    renamed = dataclasses.replace(same, words=found.words, caption=found.caption)
    assert_same(found, renamed)  # all that it does not know is alike to it
    assert UNK in of_features.vocabulary.encode("zebra")
    assert other.words == ("a", "llama", "r-s")


def test_images_in_every_form_that_generate_takes(of_images, tmp_path):
    image = picture(64, 64, seed=3)
    file = encode(image, "PNG")
    (tmp_path / "a.png").write_bytes(file)
    array = np.asarray(image, "float32")
    caption = CAPTIONS[0]
    (wanted,) = of_images.explain(array, caption)
    for images in (
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        file,
        image,
        [array],
        array[None],
        np.asarray(image),
        (each for each in [image]),
        tf.data.Dataset.from_tensors(array),
        tf.data.Dataset.from_tensors({"image": array[None]}),
        tf.data.Dataset.from_tensors({"annotations": of_images.encode(array[None])}),
    ):
        for captions in (caption, [caption]):
            if not isinstance(images, (str, list)) and captions is not caption:
                continue  # a generator is read once
            (found,) = of_images.explain(images, captions)
            assert_same(found, wanted, atol=1e-4)
    first, second = of_images.explain(
        [array, PIL.Image.new("RGB", (64, 64))], [caption] * 2
    )
    assert_same(first, wanted)
    assert not np.allclose(first.evidence, second.evidence, atol=1e-4)
    assert of_images.explain([], []) == []


@pytest.mark.parametrize(
    "images, captions, said",
    [
        (2, ["r-s"], "one caption for each image. Received: images=2, captions=1"),
        (1, ["r-s", "g-t"], "Received: images=1, captions=2. Repeat the image"),
        (0, ["r-s"], "Received: images=0, captions=1"),
        (17, ["r-s"] * 16, "Received: images=17, captions=16"),
        (2, "r-s", "Received: images=2, captions=1"),
        (1, "", "strings with a word or more. Received: ''. Write what"),
        (2, ["r-s", " . "], "Received: ' . '"),
        (1, [b"r-s"], "Received: b'r-s'"),
        (1, [None], "Received: None"),
        (1, None, "strings with a word or more. Received: None"),
        (1, b"r-s", "Received: b'r-s'"),
        (1, [["r-s"]], r"Received: \['r-s'\]"),
    ],
)
def test_what_is_refused(of_images, images, captions, said):
    images = [np.zeros((64, 64, 3), "float32")] * images
    with pytest.raises(ValueError, match=said):
        of_images.explain(images, captions)
