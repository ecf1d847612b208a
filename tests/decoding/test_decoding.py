"""Decoding: the plain twin, brute force, and captions that a person can read."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from plain_decoder import EOS, PAD, UNK, PlainCaptioner, decode_plainly

from sat_tf.captioner import ShowAttendTell
from sat_tf.decoding import (
    DECODERS,
    LOCATION_RULES,
    DecodingOptions,
    decode,
    generate,
)
from sat_tf.decoding.words import top_k
from sat_tf.model.encoder import Encoder
from sat_tf.reranking import name_of
from sat_tf.reranking.alignment import Alignment
from sat_tf.reranking.detection import Detection
from sat_tf.reranking.grounding import Grounding
from sat_tf.vocabulary import Vocabulary

EVERY_MODE = list(itertools.product(DECODERS, LOCATION_RULES))
# The same wherever it does not matter, as each graph takes a second to trace.
USUAL = {"max_length": 7, "length_penalty": 0.7, "temperature": 3.0}


def options_for(decoder, **settings):
    if decoder != "sample":
        settings = {k: v for k, v in settings.items() if k[:3] not in ("tem", "top")}
    return DecodingOptions(decoder=decoder, **settings)


# ------------------------------------------------------------- random tiny models


def tiny_captioner(words=6, guiding=0.0):
    keras.utils.set_random_seed(17)
    return ShowAttendTell(
        [f"w{i}" for i in range(words)],
        encoder=Encoder("none", features_shape=(2, 3, 5)),
        embedding_size=6,
        hidden_size=7,
        attention_size=4,
        rerankers=[Detection(3), Grounding(3), Alignment(3, guiding=guiding)],
    )


def alignment_of(captioner):
    return next(one for one in captioner.rerankers if type(one) is Alignment)


def randomise(captioner, seed):
    """New weights, spread enough that words and locations vary; 3 new images."""
    rng = np.random.default_rng(seed)
    network = captioner.network
    for layer in (network.attention, network.decoder, *captioner.rerankers):
        for weight in layer.weights:
            weight.assign(0.8 * rng.normal(size=weight.shape))
    share = alignment_of(captioner).share
    share.assign(rng.choice([0.1, 0.3, 1.0], share.shape))
    return rng.normal(size=(3, 6, 5)).astype("float32")


@pytest.fixture(scope="module")
def captioner():
    return tiny_captioner()


@pytest.fixture(scope="module")
def guided():
    return tiny_captioner(guiding=0.7)


@functools.cache
def compiled(captioner, options):
    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, None, 5]),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([], tf.int32),
        ],
    )
    def run(features, seed, first=0):
        start = captioner.network.start(features)
        step = captioner.network.step
        opinions = captioner.opinions(features, options)
        return decode(step, *start, options, seed, first=first, **opinions)

    return run


def assert_same(decoded, image, captions, options):
    """Row `image` of `decoded` is what the twin found: words exactly, logs to 1e-5."""
    for k, caption in enumerate(captions):
        n = len(caption.words)
        tokens = [*caption.words, *[PAD] * (options.max_length - n)]
        assert decoded.tokens[k, image].numpy().tolist() == tokens
        assert int(decoded.length[k, image]) == n
        expected = {
            "score": caption.rank,
            "log_p": sum(caption.log_p_word),
            "log_p_word": caption.log_p_word,
            **{k: [look[k] for look in caption.looks] for k in caption.looks[0]},
        }
        for name, value in expected.items():
            found = getattr(decoded, name)[k, image].numpy()
            if np.ndim(value):
                np.testing.assert_array_equal(found[n:], 0, err_msg=name)
                found = found[:n]
            np.testing.assert_allclose(found, value, atol=1e-5, err_msg=name)


def evidence_of(captioner, features):
    """What each reranker knows of the images, by its name."""
    annotations = captioner.encoder(features)
    known = {
        name_of(one): [
            x.numpy().astype(float) for x in tf.nest.flatten(one.evidence(annotations))
        ]
        for one in captioner.rerankers
    }
    share = alignment_of(captioner).share.numpy()
    known["alignment"] = [np.exp(x) for x in known["alignment"]]
    known["alignment"].append(np.tile(share, [len(features), 1]))
    return known


def compare_with_twin(captioner, options, seeds):
    run, lengths = compiled(captioner, options), []
    for seed in seeds:
        features = randomise(captioner, seed)
        decoded, plain = run(features, seed), PlainCaptioner(captioner)
        evidence = evidence_of(captioner, features)
        for image, annotations in enumerate(features.astype(float)):
            known = {k: [x[image] for x in xs] for k, xs in evidence.items()}
            guiding = alignment_of(captioner).guiding
            captions = decode_plainly(
                plain, annotations, image, options, seed, known, guiding
            )
            assert_same(decoded, image, captions, options)
            lengths += [len(c.words) for c in captions]
    assert min(lengths) < options.max_length == max(lengths)  # some end, some are cut


@pytest.mark.parametrize("decoder, attention", EVERY_MODE)
def test_agrees_with_the_plain_twin(captioner, decoder, attention):
    options = options_for(decoder, attention=attention, **USUAL)
    compare_with_twin(captioner, options, range(17, 22))


@pytest.mark.parametrize("decoder, attention", EVERY_MODE)
def test_guided_by_an_alignment_agrees_with_the_plain_twin(guided, decoder, attention):
    rerank = {"consensus": 0.3, "alignment": 1.0}
    options = options_for(decoder, attention=attention, rerank=rerank, **USUAL)
    compare_with_twin(guided, options, range(17, 22))


def test_what_guides_a_search_is_not_in_its_log_probabilities(guided):
    """They are those of the same words to the captioner alone; others may be found."""
    features = randomise(guided, 18)
    alone, led = (
        compiled(guided, DecodingOptions(rerank=rerank, max_length=7))(features, 18)
        for rerank in ({}, {"consensus": 0.3, "alignment": 1.0})
    )
    assert (alone.tokens.numpy() != led.tokens.numpy()).any()
    np.testing.assert_array_equal(alone.score, alone.log_p)
    assert (np.abs(led.score.numpy() - led.log_p.numpy()) > 0.1).any()
    trace, _ = guided.network.trace(
        {"annotations": features, "tokens": led.tokens[0]},
        lambda logits, t: tf.one_hot(tf.argmax(logits, -1), logits.shape[-1]),
    )
    np.testing.assert_allclose(led.log_p_word[0], trace.log_p_word[0], atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(
    "settings",
    [
        {"min_length": 3, "no_repeat_ngram": 1, "top_k": 3},
        {"no_repeat_ngram": 2, "allow_unknown": True, "top_p": 0.7},
        {"banned": (4, 6), "no_repeat_ngram": 3, "top_k": 4, "top_p": 0.8},
    ],
    ids=lambda s: "-".join(s),
)
def test_constraints_agree_with_the_plain_twin(captioner, decoder, settings):
    options = options_for(decoder, max_length=7, beam=4, **settings)
    compare_with_twin(captioner, options, range(17, 23))


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_constraints_hold_in_a_guided_search(guided, decoder):
    rerank = {"consensus": 0.3, "detection": 1.0, "alignment": 2.0}
    rules = {"min_length": 3, "no_repeat_ngram": 2, "banned": (4,)}
    options = options_for(decoder, max_length=7, beam=4, rerank=rerank, **rules)
    compare_with_twin(guided, options, range(17, 23))


@pytest.mark.parametrize("exponent", [0.1, 0.3, 1.0])  # 0 makes ties
def test_consensus_agrees_with_the_plain_twin(captioner, exponent):
    options = DecodingOptions(
        decoder="beam",
        beam=6,
        max_length=7,
        rerank={"consensus": exponent},
        length_penalty=0.7,
    )
    compare_with_twin(captioner, options, range(17, 23))


@pytest.mark.parametrize("weight", [0.3, 3.0])
def test_detection_agrees_with_the_plain_twin(captioner, weight):
    rerank = {"consensus": 0.3, "detection": weight}
    options = DecodingOptions(decoder="beam", beam=6, max_length=7, rerank=rerank)
    compare_with_twin(captioner, options, range(17, 23))


@pytest.mark.parametrize("weights", [(0.0, 0.3), (0.0, 3.0), (3.0, 1.0)])
def test_alignment_agrees_with_the_plain_twin(captioner, weights):
    rerank = {"consensus": 0.3, "detection": weights[0], "alignment": weights[1]}
    options = DecodingOptions(decoder="beam", beam=6, max_length=7, rerank=rerank)
    compare_with_twin(captioner, options, range(17, 23))


@pytest.mark.parametrize("weights", [(0.0, 0.1), (0.0, 1.0), (3.0, 0.3)])
def test_grounding_agrees_with_the_plain_twin(captioner, weights):
    rerank = {"consensus": 0.3, "detection": weights[0], "grounding": weights[1]}
    options = DecodingOptions(decoder="beam", beam=6, max_length=7, rerank=rerank)
    compare_with_twin(captioner, options, range(17, 23))


def test_consensus_is_what_most_beams_say(captioner):
    """Another order, the same captions; and other decoders have nobody to ask."""
    features = randomise(captioner, 17)
    ways = {"beam": 6, "max_length": 7}
    likely, agreed, greedy = (
        compiled(captioner, DecodingOptions(decoder=name, rerank=rerank, **ways))
        for name, rerank in (
            ("beam", {}),
            ("beam", {"consensus": 0.0}),
            ("greedy", {"consensus": 0.0}),
        )
    )
    likely, agreed, greedy = (run(features, 17) for run in (likely, agreed, greedy))
    assert (likely.tokens[0].numpy() != agreed.tokens[0].numpy()).any()
    for a, b in zip(
        *(np.moveaxis(x.tokens.numpy(), 1, 0).tolist() for x in (likely, agreed)),
        strict=True,
    ):
        assert sorted(a) == sorted(b)
    np.testing.assert_allclose(greedy.score, greedy.log_p)


def test_consensus_of_fewer_captions_than_beams():
    """Beams that could not be filled come last and have no say."""
    captioner = tiny_captioner(words=1)
    features = randomise(captioner, 17)
    options = DecodingOptions(
        decoder="beam", beam=6, max_length=2, rerank={"consensus": 0.3}
    )
    decoded = compiled(captioner, options)(features, 17)
    filled = decoded.length.numpy() > 0
    assert not filled.all()
    assert (np.diff(filled.astype(int), axis=0) <= 0).all()
    assert (np.isfinite(decoded.score.numpy()) == filled).all()
    assert (decoded.score.numpy()[filled] <= 1.0 + 1e-6).all()


@pytest.mark.parametrize("decoder", DECODERS)
def test_batched_is_one_at_a_time(captioner, decoder):
    """Whatever the neighbours are, an image of nan among them."""
    run = compiled(captioner, options_for(decoder, **USUAL))
    features = randomise(captioner, 17)
    together = run(np.concatenate([features, np.nan * features]), 17)
    for i in range(len(features)):
        alone = run(features[i : i + 1], 17, i)
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(a[:, 0], b[:, i], atol=1e-5)


def test_draws_do_not_depend_on_padding_images(captioner):
    options = options_for("sample", attention="sample", **USUAL)
    run, features = compiled(captioner, options), randomise(captioner, 17)
    padded = run(np.concatenate([features, 0 * features]), 17)
    for a, b in zip(run(features, 17), padded, strict=True):
        np.testing.assert_allclose(a, b[:, :3], atol=1e-5)


@pytest.mark.parametrize("decoder, attention", EVERY_MODE)
def test_draws_depend_on_the_seed_and_the_index_alone(captioner, decoder, attention):
    """Of many times one image: however they come, and each its own."""
    options = options_for(decoder, attention=attention, **USUAL)
    run, number = compiled(captioner, options), 23
    features = np.repeat(randomise(captioner, 18)[:1], number, axis=0)
    whole = run(features, 17)
    for size in (4, 9):
        parts = [run(features[i : i + size], 17, i) for i in range(0, number, size)]
        for part, all_ in zip(zip(*parts, strict=True), whole, strict=True):
            np.testing.assert_allclose(np.concatenate(part, 1), all_, atol=1e-5)
    stories = np.concatenate([whole.tokens, whole.locations])
    different = len(np.unique(stories, axis=1)[0])
    assert different > 12 if options.stochastic else different == 1


@pytest.mark.parametrize("size", [2500, 2539])
def test_top_k_of_many_words(size):
    x = np.random.default_rng(17).normal(size=(2, 3, size)).astype("float32")
    x[0, 0, :] = -np.inf
    x[0, 0, [7, size - 1]] = [-3, -2]
    values, ids = top_k(tf.constant(x), 4)
    np.testing.assert_array_equal(values, tf.math.top_k(x, 4).values)
    np.testing.assert_array_equal(values, np.take_along_axis(x, ids.numpy(), -1))
    assert len(set(ids[0, 0].numpy())) == 4


def test_beam_of_one_is_greedy(captioner):
    features = randomise(captioner, 18)
    one = compiled(captioner, options_for("beam", beam=1, **USUAL))
    greedy = compiled(captioner, options_for("greedy", **USUAL))
    for a, b in zip(one(features, 0), greedy(features, 0), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_wide_beam_is_brute_force(penalty):
    """With K >= V^T the beams are *all* captions, in order of their scores."""
    captioner, length = tiny_captioner(words=2), 3
    features = randomise(captioner, 17)
    options = DecodingOptions(
        decoder="beam", beam=3**length, max_length=length, length_penalty=penalty
    )
    decoded = compiled(captioner, options)(features, 0)
    memory, state = captioner.network.start(features)
    words = (EOS, 3, 4)
    stories = {
        s[: s.index(EOS) + 1] if EOS in s else s
        for s in itertools.product(words, repeat=length)
    }
    log_p = {s: _log_p(captioner, memory, state, s) for s in stories}
    for image in range(3):
        score = {s: log_p[s][image] / len(s) ** penalty for s in stories}
        best_first = sorted(stories, key=lambda s, score=score: -score[s])
        k = len(stories)
        lengths = decoded.length[:, image].numpy()
        found = [
            tuple(decoded.tokens[i, image].numpy()[: lengths[i]]) for i in range(k)
        ]
        assert found == best_first
        np.testing.assert_allclose(
            decoded.score[:k, image], [score[s] for s in best_first], atol=1e-5
        )
        assert (lengths[k:] == 0).all()
        assert (decoded.score[k:, image].numpy() == -np.inf).all()
        assert (decoded.tokens[k:, image].numpy() == PAD).all()


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_wide_guided_beam_is_brute_force(penalty):
    """All captions, by what the captioner and a guide make of them; and by log_p."""
    script, advice = Script(DOG), {"dog": -1.0, "cat": 2.0, "down": -np.inf}
    gain = np.array([advice.get(w, 0.0) for w in script.vocabulary.words], "float32")
    options = DecodingOptions(
        decoder="beam", beam=20, max_length=5, length_penalty=penalty
    )

    def guide(tokens, locations):
        return tf.broadcast_to(gain, [*tf.shape(locations), len(gain)])

    decoded = decode(script.step, (), script.state, options, guides=[guide])
    expected = {}
    stories = [((), 0.0, 0.0)]
    while stories:
        words, log_p, added = stories.pop()
        if words and words[-1] == ".":
            expected[words] = ((log_p + added) / len(words) ** penalty, log_p)
            continue
        for word, p in DOG[words[-1] if words else ""].items():
            if (more := advice.get(word, 0.0)) > -np.inf:
                stories.append(((*words, word), log_p + np.log(p), added + more))
    best_first = sorted(expected, key=lambda story: -expected[story][0])
    for k, story in enumerate(best_first):
        length = int(decoded.length[k, 0])
        said = decoded.tokens[k, 0].numpy()[:length]
        assert said.tolist() == [script.ids[word] for word in story]
        score, log_p = expected[story]
        np.testing.assert_allclose(decoded.score[k, 0], score, rtol=1e-5)
        np.testing.assert_allclose(decoded.log_p[k, 0], log_p, rtol=1e-5)
    assert (decoded.length[len(expected) :, 0].numpy() == 0).all()
    assert (decoded.log_p[len(expected) :, 0].numpy() == -np.inf).all()


def _log_p(captioner, memory, state, story):
    total, last = 0.0, tf.zeros([1, 3], tf.int32)
    for word in story:
        log_p, state, _ = captioner.network.step(
            last, state, memory, lambda e: LOCATION_RULES["argmax"](e, None)
        )
        total, last = total + log_p[0, :, word].numpy(), tf.fill([1, 3], word)
    return total


# ------------------------------------------------------- captions a person can read


class Script:
    """A captioner that says what a table says: last word -> next words.

    Args:
        table: {"a": {"dog": 0.6, "cat": 0.4}, ...}; "" begins, "." ends a caption.
        logits: of the locations, the same at every step.
    """

    def __init__(self, table, images=1, logits=(0.0, 1.0)):
        said = {w for row in table.values() for w in row} | set(table)
        self.vocabulary = Vocabulary(sorted(said - {"", ".", "?"}))
        self.ids = {w: i for i, w in enumerate(self.vocabulary.words)}
        self.ids |= {"": PAD, ".": EOS, "?": UNK}
        size = len(self.vocabulary)
        p = np.zeros([size, size], np.float32)
        for last, row in table.items():
            for word, value in row.items():
                p[self.ids[last], self.ids[word]] = value
        with np.errstate(divide="ignore"):
            self.log_p = tf.constant(np.log(p))
        self.logits = tf.constant(logits, tf.float32)
        self.state = tf.zeros([1, images, 1])
        self.steps = tf.Variable(0)

    def step(self, tokens, state, memory, choose):
        self.steps.assign_add(1)
        shape = tf.concat([tf.shape(tokens), tf.shape(self.logits)], 0)
        logits = tf.broadcast_to(self.logits, shape)
        aux = {"alpha": tf.nn.softmax(logits), "weights": choose(logits)}
        aux["beta"] = tf.ones(tf.shape(tokens))
        return tf.gather(self.log_p, tokens), state, aux

    def decode(self, decoder="greedy", seed=17, **settings):
        """Eagerly: tracing a graph takes longer than a few words."""
        options = DecodingOptions(decoder=decoder, **settings)
        return decode(self.step, (), self.state, options, seed)

    def say(self, decoder="greedy", image=0, **settings):
        """Captions of one image as text, best first."""
        tokens = self.decode(decoder, **settings).tokens[:, image].numpy()
        return [self.vocabulary.decode(row) for row in tokens]


DOG = {
    "": {"a": 0.9, "the": 0.1},
    "a": {"dog": 0.6, "cat": 0.4},
    "the": {"dog": 1.0},
    "dog": {"runs": 0.7, ".": 0.3},
    "cat": {"sits": 1.0},
    "runs": {".": 0.8, "fast": 0.2},
    "sits": {".": 0.9, "down": 0.1},
    "fast": {".": 1.0},
    "down": {".": 1.0},
}


def test_greedy_and_beam_tell_different_stories():
    script = Script(DOG)
    assert script.say("greedy") == ["a dog runs"]  # 0.9 * 0.6 * 0.7 * 0.8 = 0.30
    best = script.decode("beam", beam=4)
    assert script.say("beam", beam=4)[:2] == ["a cat sits", "a dog runs"]
    np.testing.assert_allclose(
        np.exp(best.score[:2, 0]), [0.9 * 0.4 * 0.9, 0.9 * 0.6 * 0.7 * 0.8], rtol=1e-5
    )


def test_ended_beams_are_frozen():
    """Scored after its end, p = 0.60 falls below p = 0.26; frozen, it does not."""
    script = Script(
        {
            "": {"yes": 0.6, "it": 0.4},
            "yes": {".": 1.0},
            ".": {"yes": 0.4, "it": 0.3, "is": 0.3},  # what must not be asked
            "it": {"is": 0.65, ".": 0.35},
            "is": {".": 1.0},
        }
    )
    decoded = script.decode("beam", beam=2)
    assert script.say("beam", beam=2) == ["yes", "it is"]
    np.testing.assert_allclose(np.exp(decoded.score[:, 0]), [0.6, 0.26], rtol=1e-5)
    assert decoded.length.numpy().ravel().tolist() == [2, 3]


def test_length_penalty_is_log_p_over_length_to_its_power():
    script = Script(
        {
            "": {"dog": 0.52, "a": 0.48},
            "dog": {".": 0.7, "eats": 0.3},
            "eats": {".": 0.6, "a": 0.4},
            "a": {"big": 0.85, ".": 0.15},
            "big": {"animal": 0.9, ".": 0.1},
            "animal": {".": 0.9, "a": 0.1},
        }
    )
    short, long = np.log(0.52 * 0.7), np.log(0.48 * 0.85 * 0.9 * 0.9)
    for penalty, order in ((0, ["dog", "a big animal"]), (1, ["a big animal", "dog"])):
        settings = {"beam": 3, "length_penalty": penalty}
        assert script.say("beam", **settings)[:2] == order
        score = script.decode("beam", **settings).score[:2, 0]
        expected = sorted([short / 2**penalty, long / 4**penalty], reverse=True)
        np.testing.assert_allclose(score, expected, rtol=1e-5)
    greedy = script.decode("greedy", length_penalty=0.5)
    np.testing.assert_allclose(greedy.score[0, 0], short / 2**0.5, rtol=1e-5)


def test_captions_are_cut_at_max_length_and_end_after_min_length():
    script = Script(DOG)
    assert script.say("greedy", max_length=2) == ["a dog"]
    assert script.decode("greedy", max_length=2).length[0, 0] == 2
    assert script.say("greedy", min_length=4) == ["a dog runs fast"]
    assert script.say("beam", min_length=4)[0] == "a dog runs fast"


def test_words_can_be_forbidden():
    script = Script(DOG)
    banned = (script.ids["dog"],)
    assert script.say("greedy", banned=banned) == ["a cat sits"]
    assert not any("dog" in c.split() for c in script.say("beam", banned=banned))


def test_unknown_is_forbidden_unless_allowed():
    script = Script({"": {"?": 0.9, "dog": 0.1}, "?": {".": 1}, "dog": {".": 1}})
    for decoder in DECODERS:
        assert script.say(decoder)[0] == "dog"
    assert script.say("greedy", allow_unknown=True) == ["<unk>"]
    # What is left is not renormalised: the score is the model's own.
    np.testing.assert_allclose(np.exp(script.decode().score[0, 0]), 0.1, rtol=1e-5)


def test_repeated_ngrams_can_be_forbidden():
    very = {
        "": {"very": 1.0},
        "very": {"very": 0.5, "big": 0.3, ".": 0.2},
        "big": {"very": 0.7, ".": 0.3},
    }
    said = {0: "very " * 7, 1: "very big", 2: "very very big very", 3: None}
    said[3] = "very very very big very very ."
    for n, caption in said.items():
        text = Script(very).say("greedy", no_repeat_ngram=n, max_length=7)[0]
        assert text == caption.strip(" ."), n


def test_a_caption_with_nothing_left_to_say_ends():
    """Each word once, five words at least, three words exist."""
    rows = {"very": 0.4, "big": 0.3, "dog": 0.2, ".": 0.1}
    script = Script({"": rows, "very": rows, "big": rows, "dog": rows})
    for decoder in ("greedy", "beam"):
        (caption, *_) = script.say(decoder, no_repeat_ngram=1, min_length=5)
        assert sorted(caption.split()) == ["big", "dog", "very"]


def test_stops_when_every_caption_has_ended():
    for decoder, settings in (("greedy", {}), ("sample", {}), ("beam", {"beam": 4})):
        script = Script(DOG, images=5)
        run = tf.function(script.decode, autograph=False)
        lengths = run(decoder, max_length=50, **settings).length
        assert script.steps == tf.reduce_max(lengths), decoder
        assert script.steps < 7
    # One caption exists; the beams that cannot be filled keep nothing going.
    script = Script({"": {"yes": 1.0}, "yes": {".": 1.0}})
    assert script.say("beam", beam=3, max_length=50) == ["yes", "", ""]
    assert script.steps == 2


# ----------------------------------------------------------------------- chance

WEATHER = {"sun": 0.4, "rain": 0.3, "wind": 0.2, "snow": 0.1}
ONE_WORD = {"": WEATHER, **{word: {".": 1.0} for word in WEATHER}}


def frequencies(images=4000, **settings):
    """How often each word is drawn first, over many images of one batch."""
    script = Script(ONE_WORD, images=images)
    first = script.decode("sample", max_length=2, **settings).tokens[0, :, 0].numpy()
    return {w: np.mean(first == script.ids[w]) for w in WEATHER}


def assert_calibrated(found, p, images=4000):
    """Within 4 standard errors; a word outside the support never."""
    for word, expected in p.items():
        error = np.sqrt(expected * (1 - expected) / images)
        assert abs(found[word] - expected) <= 4 * error, (word, found, p)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_is_calibrated(temperature):
    p = {w: v ** (1 / temperature) for w, v in WEATHER.items()}
    p = {w: v / sum(p.values()) for w, v in p.items()}
    assert_calibrated(frequencies(temperature=temperature), p)


@pytest.mark.parametrize(
    "settings, kept",
    [
        ({"top_k": 1}, 1),
        ({"top_k": 3}, 3),
        ({"top_k": 100}, 4),
        ({"top_p": 0.01}, 1),
        ({"top_p": 0.6}, 2),  # 0.4 is not enough, 0.7 is
        ({"top_p": 0.95}, 4),
        ({"top_k": 3, "top_p": 0.5}, 2),  # 0.4 of 0.9 is not enough
    ],
    ids=str,
)
def test_top_k_and_top_p_restrict_the_support(settings, kept):
    mass = sum(list(WEATHER.values())[:kept])
    p = {w: v / mass * (i < kept) for i, (w, v) in enumerate(WEATHER.items())}
    assert_calibrated(frequencies(**settings), p)


def test_locations_are_drawn_from_alpha_by_each_beam():
    alpha = np.array([0.1, 0.2, 0.7], np.float32)
    two = {"": {"a": 0.6, "the": 0.4}, "a": {"dog": 1.0}, "the": {"dog": 1.0}}
    script = Script(two, images=2000, logits=np.log(alpha))
    decoded = script.decode("beam", beam=2, attention="sample", max_length=2)
    second = decoded.locations[:, :, 1].numpy()  # at the first word all beams are one
    for locations in (decoded.locations[0, :, 0].numpy(), *second):
        share = np.bincount(locations, minlength=3) / 2000
        assert (abs(share - alpha) < 4 * np.sqrt(alpha * (1 - alpha) / 2000)).all()
    together = np.mean(second[0] == second[1])
    same = np.sum(alpha**2)
    assert abs(together - same) < 4 * np.sqrt(same * (1 - same) / 2000)


def test_a_seed_repeats_and_none_does_not(captioner):
    options = options_for("sample", attention="sample", **USUAL)
    features = randomise(captioner, 17)
    run = compiled(captioner, options)
    first, again, other = run(features, 1), run(features, 1), run(features, 2)
    np.testing.assert_array_equal(first.tokens, again.tokens)
    np.testing.assert_array_equal(first.locations, again.locations)
    assert (first.tokens != other.tokens).numpy().any()
    fresh = tf.function(
        lambda x: decode(captioner.network.step, *captioner.network.start(x), options),
        autograph=False,
    )
    assert (fresh(features).tokens != fresh(features).tokens).numpy().any()


# --------------------------------------------------------------- graphs and errors


@pytest.mark.parametrize("decoder", DECODERS)
def test_graph_is_one_loop_of_stock_operations(captioner, decoder):
    settings = {"min_length": 2, "no_repeat_ngram": 2, "top_k": 5, "top_p": 0.9}
    options = options_for(decoder, attention="sample", **settings)
    graph = compiled(captioner, options).get_concrete_function().graph.as_graph_def()
    nodes = list(graph.node)
    for function in graph.library.function:
        nodes += function.node_def
        assert "_XlaMustCompile" not in function.attr
    names = [node.op for node in nodes]
    assert sum(name.endswith("While") for name in names) == 1
    assert not [name for name in names if "Py" in name or "Xla" in name]


def test_memory_is_never_copied_per_beam(captioner):
    features, seen = randomise(captioner, 17), []
    memory, state = captioner.network.start(features)

    def step(tokens, state, memory, choose):
        seen.extend(x.shape for x in tf.nest.flatten(memory))
        return captioner.network.step(tokens, state, memory, choose)

    decode(step, memory, state, DecodingOptions(decoder="beam", max_length=3))
    assert set(seen) == {(3, 6, 5), (3, 6, 4)}


def test_no_images_give_no_captions(captioner):
    run = compiled(captioner, options_for("beam", **USUAL))
    decoded = run(np.zeros([0, 6, 5], np.float32), 0)
    assert decoded.tokens.shape == (3, 0, 7)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"decoder": "beams"}, "one of greedy, sample, beam.*'beams'"),
        ({"attention": "soft"}, "to be one of argmax, sample, expected.*'soft'"),
        ({"beam": 0}, "beam to be a whole number, 1 or more.*beam=0"),
        ({"max_length": 2.5}, "max_length to be a whole number, 1 or more.*2.5"),
        ({"min_length": 30}, "min_length to be <= max_length=20.*min_length=30"),
        ({"length_penalty": -1.0}, "length_penalty to be a number, 0 or more"),
        *(
            (
                {"rerank": {"consensus": 0.3, name: strength}},
                f"rerank to have finite strengths >= 0.*Give {name} such",
            )
            for name in ("consensus", "detection", "grounding", "alignment")
            for strength in (-1.0, float("inf"), float("nan"), "0.3", True)
        ),
        ({"no_repeat_ngram": -1}, "no_repeat_ngram to be a whole number, 0 or more"),
        (
            {"decoder": "sample", "temperature": 0.0},
            "temperature to be a number, more than 0",
        ),
        (
            {"decoder": "sample", "top_p": 1.5},
            "top_p to be a number, more than 0, at most 1.*top_p=1.5",
        ),
        ({"decoder": "sample", "top_k": 0}, "top_k to be a whole number, 1 or more"),
        ({"temperature": 0.7}, "temperature=0.7.*decoder='sample'"),
        ({"decoder": "beam", "top_p": 0.9}, "top_p=0.9.*decoder='sample'"),
        ({"banned": (EOS,)}, "banned to be a list of ids .*none negative nor <eos>"),
        ({"banned": (-3,)}, "none negative nor <eos>"),
        ({"banned": (1.5,)}, "a list of ids"),
        ({"banned": None}, "a list of ids"),
        ({"banned": 3}, "a list of ids"),
        ({"banned": "dog"}, "a list of ids"),
        ({"decoder": ["beam"]}, "decoder to be one of greedy, sample, beam"),
        ({"allow_unknown": "no"}, "allow_unknown to be true or false.*'no'"),
        *(
            ({"decoder": "sample", name: value}, f"{name} to be a .*{name}={value!r}")
            for name, values in {
                "beam": [True, None, "3", 2.0],
                "max_length": [True, "20"],
                "no_repeat_ngram": [True, None],
                "length_penalty": [True, "1", None, float("inf"), float("nan")],
                "temperature": [True, "1", None, float("inf"), float("nan")],
                "top_k": [True, "1"],
                "top_p": [True, "x", float("nan")],
            }.items()
            for value in values
        ),
    ],
    ids=str,
)
def test_options_are_checked(settings, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        DecodingOptions(**settings)


@pytest.mark.parametrize("name", ["detection", "grounding", "alignment"])
def test_what_only_adds_to_consensus_needs_it(captioner, name):
    wanted = f"Expected consensus beside {name}.*Ask for consensus too"
    with pytest.raises(ValueError, match=wanted):
        captioner.options(decoder="beam", rerank={name: 2.0})


def test_rerank_is_a_dictionary(captioner):
    for wrong in (None, "consensus", 3, [0.3]):
        with pytest.raises(ValueError, match="Expected rerank to be a dictionary"):
            captioner.options(decoder="beam", rerank=wrong)


def test_a_strength_of_0_has_no_say(guided):
    """Of those that are off then, however it was asked for; consensus is not."""
    features = randomise(guided, 18)
    strengths = {"consensus": 0.0, "alignment": 0.0}
    direct = DecodingOptions(rerank=strengths, max_length=7)
    asked = guided.options(rerank=strengths, max_length=7)
    assert dict(asked.rerank) == {"consensus": 0.0}
    alone = compiled(guided, DecodingOptions(max_length=7))(features, 18)
    for options in (direct, asked):
        same = compiled(guided, options)(features, 18)
        np.testing.assert_array_equal(same.tokens, alone.tokens)


def test_a_default_of_sampling_is_none_of_another_decoder(captioner):
    captioner.compile(decoder={"decoder": "sample", "temperature": 0.7, "top_k": 3})
    assert captioner.options().temperature == 0.7
    for decoder in ("greedy", "beam"):
        options = captioner.options(decoder=decoder)
        assert (options.temperature, options.top_k) == (1.0, None)
    with pytest.raises(ValueError, match="temperature=0.7.*decoder='sample'"):
        captioner.options(decoder="beam", temperature=0.7)
    with pytest.raises(ValueError, match="temperature=0.7.*decoder='sample'"):
        captioner.compile(decoder={"decoder": "beam", "temperature": 0.7})
    assert captioner.options().decoder == "sample"  # as it was
    captioner.compile(decoder="greedy")


def test_an_image_of_nan_is_named(captioner):
    randomise(captioner, 17)
    features = np.zeros([3, 6, 5], np.float32)
    features[1] = np.nan
    for decoder in ("greedy", "beam", "sample"):
        with pytest.raises(ValueError, match="finite numbers.*nan .*in image 1"):
            options = captioner.options(decoder=decoder, max_length=7)
            generate.caption_features(captioner, features, options, seed=17)


def test_banned_words_must_exist_and_leave_some():
    script = Script(DOG)
    with pytest.raises(ValueError, match="below the vocabulary size 11"):
        script.decode(banned=(99,))
    with pytest.raises(ValueError, match="at least one word"):
        script.decode(banned=tuple(range(3, 11)))


def test_options_are_hashable_and_seeds_checked(captioner):
    assert hash(DecodingOptions(banned=[3, 4])) == hash(DecodingOptions(banned=(3, 4)))
    with pytest.raises(ValueError, match="Expected a seed"):
        decode(captioner.network.step, (), (), DecodingOptions(), seed=[1, 2, 3])


@pytest.mark.parametrize(
    "seed", [10**20, -(10**20), 1.5, "17", [1, 2, 3], [[1, 2]], True], ids=str
)
def test_generate_refuses_what_is_no_seed(captioner, seed):
    with pytest.raises(ValueError, match="Expected seed to be a whole number of 64 b"):
        captioner.generate([], seed=seed)


@pytest.mark.parametrize(
    "seed", [None, -1, 2**63 - 1, np.uint8(3), (3, 4), tf.constant([1, 2])], ids=repr
)
def test_generate_takes_what_is_a_seed(captioner, seed):
    assert captioner.generate([], seed=seed) == []
