"""Places that show words: learned from captions alone, and shown to attention."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from toy import WORDS, toy

from sat_tf import ShowAttendTell
from sat_tf.reranking import alignment
from sat_tf.reranking.alignment import Alignment
from sat_tf.vocabulary import EOS, PAD

SIZE, LOCATIONS = 6, 4
GRID = (1, 4)  # in a square of four, how cells count for each other is symmetric
FIRST = 3  # id of the first of `WORDS`


def shown(images, seed=17):
    """Features where two of the words lie at a location each, the words, the locations.

    The first word of each image comes first in `WORDS` too.
    """
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 0.1, (images, LOCATIONS, SIZE)).astype("float32")
    words = np.sort([rng.choice(len(WORDS), 2, replace=False) for _ in range(images)])
    places = np.array([rng.choice(LOCATIONS, 2, replace=False) for _ in range(images)])
    for i in range(images):
        features[i, places[i], words[i]] += 3
    return features, words, places


class Inputs:
    """Features, read as from a cache."""

    def __init__(self, features):
        self.features = features

    def __len__(self):
        return len(self.features)

    def read(self, rows):
        return self.features[rows]


def captioner_of(dtype="float32", hidden_size=SIZE, **options):
    rerankers = [Alignment(hidden_size, **options)]
    return toy("soft", grid=GRID, size=SIZE, dtype=dtype, rerankers=rerankers)


def told(captioner):
    """Its alignment knows by heart that channel c shows word c, of a half of all."""
    (head,) = captioner.rerankers
    head.hidden.kernel.assign(np.eye(SIZE))
    kernel = np.zeros((SIZE, len(captioner.vocabulary)))
    kernel[np.arange(len(WORDS)), FIRST + np.arange(len(WORDS))] = 4.0
    head.words.kernel.assign(kernel)
    head.words.bias.assign(np.full(len(captioner.vocabulary), -4.0))
    head.share.assign(np.full(len(captioner.vocabulary), 0.2))
    return head


def located(captioner, features, tokens, rows=None):
    """Locations' probabilities and support, as arrays."""
    annotations = captioner.encoder(tf.constant(features))
    found = captioner.rerankers[0].locate(annotations, tf.constant(tokens), rows)
    assert all(x.dtype == tf.float32 for x in found)
    return np.exp(found[0]), found[1].numpy()


# ----------------------------------------------------------------------------- fit


def test_finds_the_locations_of_words_without_being_told_any(monkeypatch):
    monkeypatch.setattr(alignment, "PASSES", 150)
    monkeypatch.setattr(alignment, "RATE", 0.02)
    captioner = captioner_of(hidden_size=64)
    (head,) = captioner.rerankers
    features, words, places = shown(64)
    captions = [[" ".join(WORDS[w] for w in pair)] for pair in words]
    own = {id(w) for w in head.weights}
    others = [w for w in captioner.weights if id(w) not in own]
    before = [w.numpy() for w in others]
    head.fit(captioner, Inputs(features), "annotations", captions, verbose=0)
    for weight, value in zip(others, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    features, words, places = shown(50, seed=18)  # images that it has not seen
    evidence, support = located(captioner, features, words + FIRST)
    np.testing.assert_array_equal(evidence.argmax(axis=-1), places)
    assert evidence.max(axis=-1).mean() > 0.7
    assert (support > 0).all()
    absent = [sorted(set(range(len(WORDS))) - set(pair)) for pair in words]
    _, support = located(captioner, features, np.array(absent) + FIRST)
    assert (support < 0).all()


def test_has_no_opinion_before():
    captioner = captioner_of()
    (head,) = captioner.rerankers
    assert not head.fitted and not head.trainable_variables
    features, words, _ = shown(3)
    evidence, support = located(captioner, features, words + FIRST)
    np.testing.assert_allclose(evidence, 1 / LOCATIONS, atol=1e-6)
    assert np.ptp(support) == 0
    evidence = head.evidence(captioner.encoder(features))
    for log_p in evidence:
        np.testing.assert_allclose(np.exp(log_p), 0.5, atol=1e-6)
    empty = np.zeros((2, 3, 4), "int32")  # no captions yet, looking anywhere
    assert not head.guide(tf.constant(empty), empty[..., 0], evidence).numpy().any()


def test_the_same_seed_learns_the_same():
    features, words, _ = shown(40)
    captions = [[" ".join(WORDS[w] for w in pair)] for pair in words]
    learned = []
    for seed in (17, 17, 18):
        keras.utils.set_random_seed(17)
        captioner = captioner_of()
        (head,) = captioner.rerankers
        options = {"seed": seed, "verbose": 0}
        head.fit(captioner, Inputs(features), "annotations", captions, **options)
        assert head.fitted and not head.trainable_variables
        learned.append(head.words.kernel.numpy())
    np.testing.assert_array_equal(learned[0], learned[1])
    assert not np.array_equal(learned[0], learned[2])


# -------------------------------------------------------------------------- locate


def spread(grid):
    """How much the cells around count for each, cell by cell."""
    cells = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
    weights = np.array(
        [
            [
                np.exp(-((a - c) ** 2 + (b - d) ** 2) / (2 * alignment.SPREAD**2))
                for c, d in cells
            ]
            for a, b in cells
        ]
    )
    return weights / weights.sum(axis=1, keepdims=True)


def test_rare_words_say_where_their_neighbours_are():
    """A rare word draws the one before it to where it is itself."""
    captioner = captioner_of(sharpness=2.0)
    head = told(captioner)
    features, words, places = shown(5)
    tokens = (words + FIRST).astype("int32")
    alone = located(captioner, features, tokens[:, :1])[0][:, 0]
    common = located(captioner, features, tokens)[0][:, 0]
    np.testing.assert_allclose(common, alone, atol=1e-6)
    head.share.assign(np.minimum(head.share, alignment.COMMON / 2))
    rare = located(captioner, features, tokens)[0][:, 0]
    other = places[:, 1]
    rows = np.arange(5)
    moved = other != places[:, 0]
    assert moved.any()
    assert (rare[rows, other] > alone[rows, other])[moved].all()


@pytest.mark.parametrize("dtype, atol", [("float32", 1e-5), ("mixed_bfloat16", 0.05)])
def test_locations_and_support_of_each_word(dtype, atol):
    """Of what it says of each location, worked out by hand; `<pad>` has none."""
    captioner = captioner_of(dtype, sharpness=2.0)
    head = told(captioner)
    features, words, places = shown(5)
    tokens = np.concatenate([words + FIRST, np.full((5, 1), PAD)], 1).astype("int32")
    evidence, support = located(captioner, features, tokens)
    logits = 4.0 * np.maximum(features, 0)[..., : len(WORDS)] - 4.0  # [B, L, words]
    for i, pair in enumerate(words):
        for t, word in enumerate(pair):
            values = logits[i, :, word].astype(float)
            near = 2.0 * spread(captioner.grid) @ values
            wanted = np.exp(near) / np.exp(near).sum()
            np.testing.assert_allclose(evidence[i, t], wanted, atol=atol)
            assert evidence[i, t].argmax() == places[i, t]
            mean = np.log(np.mean(np.exp(2.0 * values))) / 2.0
            wanted = -np.log1p(np.exp(-mean)) - np.log(head.share.numpy()[FIRST])
            np.testing.assert_allclose(support[i, t], wanted, atol=atol)
    np.testing.assert_array_equal(support[:, -1], 0)


def test_captions_may_share_images():
    captioner = captioner_of(teaching=0.5)
    head = told(captioner)
    features, _, _ = shown(2)
    rows, tokens = np.array([0, 1, 1, 0]), np.array([[3, 4], [5, 6], [6, 1], [4, 0]])
    shared = located(captioner, features, tokens, tf.constant(rows))
    apart = located(captioner, features[rows], tokens)
    log_alpha = np.log(np.random.default_rng(17).dirichlet([1] * 4, (3, 4, 2)))
    trace = types.SimpleNamespace(log_alpha=tf.constant(log_alpha, tf.float32))
    for found, wanted in zip(shared, apart, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    annotations = captioner.encoder(tf.constant(features))
    found = head.objective(annotations, tokens, tf.constant(rows), trace)
    places, support = apart
    counts = np.clip(support / alignment.IN_FULL, 0, 1)
    wanted = 0.5 * (counts * (places * log_alpha.mean(0)).sum(-1)).sum(-1)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (wanted < 0).any()


# ------------------------------------------------------------------------- ranking


def test_evidence_of_the_image_and_of_each_location():
    """Worked out by hand; how a search uses it, its plain twin knows."""
    captioner = captioner_of(sharpness=2.0)
    head = told(captioner)
    features, _, _ = shown(5)
    has, shows = head.evidence(captioner.encoder(tf.constant(features)))
    logits = 4.0 * np.maximum(features, 0)[..., : len(WORDS)].astype(float) - 4.0
    mean = np.log(np.mean(np.exp(2.0 * logits), axis=1)) / 2.0
    said = slice(FIRST, FIRST + len(WORDS))
    np.testing.assert_allclose(has[:, said], -np.log1p(np.exp(-mean)), atol=1e-5)
    near = np.einsum("ml,blv->bmv", spread(captioner.grid), logits)
    np.testing.assert_allclose(shows[..., said], -np.log1p(np.exp(-near)), atol=1e-5)


def test_a_word_counts_for_less_where_it_is_not_looked_for():
    """The image has both words; beams that say both differ in where they look only."""
    captioner = captioner_of()
    head = told(captioner)
    features, words, places = shown(8)
    evidence = head.evidence(captioner.encoder(tf.constant(features)))
    end = np.full((8, 1), EOS)
    tokens = np.concatenate([words + FIRST, end], axis=1)[None].repeat(4, axis=0)
    elsewhere = [
        next(i for i in range(LOCATIONS) if i not in pair) for pair in places.tolist()
    ]
    looks = np.zeros((4, 8, 3), "int32")  # for <eos> at the first, and it counts not
    looks[0, :, :2] = looks[3, :, :2] = places
    looks[1, :, 0], looks[1, :, 1] = places[:, 0], elsewhere
    looks[2, :, :2] = np.array(elsewhere)[:, None]
    looks[3, :, 2] = elsewhere
    beams = types.SimpleNamespace(tokens=tf.constant(tokens, tf.int32), locations=looks)
    both, one, none, same = head.score(beams, evidence, 2.0).numpy()
    assert (both > one + 0.05).all() and (one > none + 0.05).all()
    np.testing.assert_array_equal(both, same)


def test_a_search_is_guided_to_what_is_where_it_looks():
    """Two beams look for the two words that an image has; one has said the first."""
    captioner = captioner_of(guiding=1.0)
    head = told(captioner)
    share = np.full(head.share.shape, 0.2)
    share[EOS] = 1.0
    head.share.assign(share)
    features, words, places = shown(8)
    evidence = head.evidence(captioner.encoder(tf.constant(features)))
    tokens = np.zeros((2, 8, 3), "int32")
    tokens[1, :, 0] = words[:, 0] + FIRST
    gain = head.guide(tf.constant(tokens), places.T.astype("int32"), evidence).numpy()
    assert not gain[..., [PAD, EOS]].any()
    for image, (first, second) in enumerate(words + FIRST):
        assert gain[0, image].argmax() == first and gain[0, image, first] > 1.0
        assert gain[1, image].argmax() == second and gain[1, image, second] > 1.0
        assert gain[1, image, first] == 0
        absent = np.delete(gain[0, image, FIRST:], np.array([first, second]) - FIRST)
        assert (absent < 0).all()


def test_a_word_counts_by_the_information_that_it_gives():
    """The image has two words; each beam says one of them, and finds it as well."""
    captioner = captioner_of()
    head = told(captioner)
    features, words, places = shown(8)
    evidence = head.evidence(captioner.encoder(tf.constant(features)))
    tokens = np.stack([words.T + FIRST, np.full((2, 8), EOS)], axis=-1)
    looks = np.stack([places.T, np.zeros((2, 8))], axis=-1).astype("int32")
    beams = types.SimpleNamespace(tokens=tf.constant(tokens, tf.int32), locations=looks)
    first, second = head.score(beams, evidence, 1.0).numpy()
    np.testing.assert_allclose(first, second, atol=0.1)
    share = np.full(head.share.shape, 0.2)
    share[words[0, 1] + FIRST] = 0.01
    share[PAD] = 0.0  # no caption has it
    head.share.assign(share)
    first, second = head.score(beams, evidence, 1.0).numpy()
    assert second[0] > first[0] + 0.1
    head.share.assign(np.ones(head.share.shape))  # every caption has every word
    np.testing.assert_array_equal(head.score(beams, evidence, 1.0), 0)


# ------------------------------------------------------------------------ teaching


def lesson(captioner, images=32):
    """Captions that say the same two words, whose locations differ by image."""
    rng = np.random.default_rng(17)
    features = rng.normal(0, 0.1, (images, LOCATIONS, SIZE)).astype("float32")
    places = np.array([rng.choice(LOCATIONS, 2, replace=False) for _ in range(images)])
    for t, word in enumerate((0, 2)):
        features[np.arange(images), places[:, t], word] += 3
    tokens = np.tile([FIRST, FIRST + 2, EOS], (images, 1)).astype("int32")
    return {"annotations": features, "tokens": tokens}, places


def cross_entropy(captioner, data, places):
    """Between the locations that show the two words and attention, nats per word."""
    trace, _ = captioner.estimator.trace(captioner.network, data, tf.constant([17, 17]))
    log_alpha = np.asarray(trace.log_alpha[0])[:, :2]
    return -np.take_along_axis(log_alpha, places[..., None], axis=-1).mean()


def test_attention_learns_to_look_where_words_are_shown():
    """Though the captions alone would not need it: they are all the same."""
    after = {}
    for teaching in (0.0, 1.0):
        captioner = captioner_of(teaching=teaching)
        head = told(captioner)
        before = [w.numpy() for w in head.weights]
        data, places = lesson(captioner)
        start = cross_entropy(captioner, data, places)
        captioner.compile(keras.optimizers.Adam(0.02))
        dataset = tf.data.Dataset.from_tensors(data).repeat()
        options = {"steps_per_epoch": 250, "verbose": 0, "shuffle": False}
        captioner.fit(dataset, **options)
        for weight, value in zip(head.weights, before, strict=True):
            np.testing.assert_array_equal(weight.numpy(), value)
        after[teaching] = cross_entropy(captioner, data, places)
    # A uniform attention has log 4 = 1.4 nats.
    assert after[1.0] < 0.6 < start
    assert after[1.0] < after[0.0] - 0.3


def test_no_gradient_reaches_the_annotations_through_it():
    """What is taught is a constant; only attention's own part is learned from."""
    captioner = captioner_of(teaching=2.0)
    head = told(captioner)
    data, _ = lesson(captioner, 3)
    features = data["annotations"] = tf.constant(data["annotations"])
    places, support = located(captioner, features, data["tokens"])
    counts = np.clip(support / alignment.IN_FULL, 0, 1)

    def by_hand():
        head.teaching = 0.0
        loss, trace = captioner.loss_of(data)
        log_alpha = tf.reduce_mean(trace.log_alpha, axis=0)
        taught = tf.reduce_sum(places * log_alpha, axis=-1)
        return loss - 2.0 * tf.reduce_mean(tf.reduce_sum(counts * taught, axis=-1))

    found, wanted = (
        gradient_of(scalar, features)
        for scalar in (lambda: captioner.loss_of(data)[0], by_hand)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(wanted).max() > 1e-3


def gradient_of(scalar, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = scalar()
    return tape.gradient(value, x).numpy()


# ------------------------------------------------------------------------- keeping


@pytest.mark.parametrize("form", ["keras", "preset"])
def test_one_saved_before_it_could_be_made_surer_loads(form, tmp_path, monkeypatch):
    captioner = captioner_of()
    told(captioner)
    if form == "keras":
        monkeypatch.setattr(
            Alignment,
            "save_own_variables",
            lambda self, store: store.__setitem__("0", self.share.numpy()),
        )
        captioner.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    else:
        captioner.save_to_preset(tmp_path)
        with np.load(tmp_path / "weights.npz") as arrays:
            kept = {k: v for k, v in arrays.items() if "inverse_temp" not in k}
            assert len(kept) == len(arrays) - 1
        np.savez(tmp_path / "weights.npz", **kept)
        loaded = ShowAttendTell.from_preset(tmp_path)
    features, words, _ = shown(3)
    found = located(loaded, features, words + FIRST)
    np.testing.assert_array_equal(
        found[0], located(captioner, features, words + FIRST)[0]
    )


@pytest.mark.parametrize("form", ["keras", "preset"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_it_is_saved_with_its_captioner(form, dtype, tmp_path):
    captioner = captioner_of(dtype, teaching=0.5, sharpness=2.0, dropout=0.1)
    told(captioner)
    captioner.rerankers[0].sharpen(1.5)
    if form == "keras":
        captioner.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    else:
        captioner.save_to_preset(tmp_path)
        loaded = ShowAttendTell.from_preset(tmp_path)
    (head,) = loaded.rerankers
    assert type(head) is Alignment and head.fitted and not head.trainable_variables
    assert (head.teaching, head.sharpness, head.dropout) == (0.5, 2.0, 0.1)
    features, words, _ = shown(3)
    for found, wanted in zip(
        located(loaded, features, words + FIRST),
        located(captioner, features, words + FIRST),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)
