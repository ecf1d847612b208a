"""Values that make no sense are refused where they are given, by name."""

import keras
import numpy as np
import pytest

from sat_tf import ShowAttendTell, Vocabulary
from sat_tf.estimators import ESTIMATORS
from sat_tf.model.attention import Attention
from sat_tf.model.decoder import Decoder
from sat_tf.model.encoder import Encoder
from sat_tf.model.initial_state import INITIAL_STATES, FromMean
from sat_tf.reranking import RERANKERS
from sat_tf.runtime import ranges


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (ranges.Size, (1, 7), (0, -1, 1.5, True, "1", None)),
        (ranges.Count, (0, 7), (-1, 0.5, False, "0", None)),
        (ranges.Share, (0, 0.5, 1), (-0.1, 1.1, np.nan, True, "0.5", None)),
        (ranges.Rate, (0, 0.999), (-0.1, 1, np.nan, False, "0.5", None)),
        (ranges.Weight, (0, 1e9), (-1e-9, np.inf, np.nan, "1", None)),
        (ranges.Positive, (1e-9, 3), (0, -1, np.inf, np.nan, "1", None)),
        (ranges.Seed, (0, 2**32 - 1), (-1, 2**32, 1.0, True, "1", None)),
        (ranges.Bound, (1e-9, 3, None), (0, -1, np.nan, "1")),
    ],
    ids=["size", "count", "share", "rate", "weight", "positive", "seed", "bound"],
)
def test_ranges_hold_what_makes_sense_and_nothing_else(kind, good, bad):
    for value in good:
        assert ranges.checked("x", value, kind) == value
        ranges.check(kind, x=value)
        if value is not None:  # what NumPy counts with is as good
            ranges.check(kind, x=np.array([value])[0])
    for value in bad:
        said = f"Expected x to be a .*Received: x={value!r}. Give it such a value."
        with pytest.raises(ValueError, match=said):
            ranges.check(kind, x=value)
        with pytest.raises(ValueError, match=said):
            ranges.checked("x", value, kind)


def of(registry, name):
    return lambda **options: registry[name](**options)


def decoder(**options):
    return Decoder(9, **options)


def captioner(**options):
    encoder = Encoder("none", features_shape=(1, 2, 3))
    return ShowAttendTell(**{"vocabulary": ["a"], "encoder": encoder, **options})


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (of(ESTIMATORS, "reinforce"), {"samples": 0}, "samples to be a whole number"),
        (of(ESTIMATORS, "reinforce"), {"lambda_r": -1}, "lambda_r to be a number, 0 o"),
        (of(ESTIMATORS, "reinforce"), {"semi_sampling": 2}, "semi_sampling to be a nu"),
        (of(ESTIMATORS, "gumbel_softmax"), {"temperature": 0}, "more than 0"),
        (of(ESTIMATORS, "straight_through"), {"anneal_steps": 0}, "anneal_steps to be"),
        (of(ESTIMATORS, "reinmax"), {"samples": 0}, "samples to be a whole number"),
        (of(ESTIMATORS, "step_marginal"), {"top_k": 0}, "top_k to be a whole number"),
        (of(RERANKERS, "alignment"), {"hidden_size": 0}, "hidden_size to be a whole"),
        (of(RERANKERS, "alignment"), {"sharpness": 0}, "sharpness to be a number, mo"),
        (of(RERANKERS, "alignment"), {"teaching": -1}, "teaching to be a number, 0 o"),
        (of(RERANKERS, "detection"), {"dropout": 1}, "from 0 to less than 1"),
        (of(RERANKERS, "grounding"), {"input_dropout": -1}, "input_dropout to be a nu"),
        (FromMean, {"dropout": 2}, "dropout to be a number, from 0 to 1"),
        (FromMean, {"scale": -1}, "scale to be a number, from 0 to 1"),
        (Attention, {"size": 0}, "size to be a whole number, 1 or more"),
        (captioner, {"attention_size": 0}, "attention_size to be a whole number, 1"),
        (Decoder, {"vocabulary_size": 0}, "vocabulary_size to be a whole number, 1"),
        (decoder, {"embedding_size": -1}, "embedding_size to be a whole number, 1"),
        (decoder, {"hidden_size": 2.5}, "hidden_size to be a whole number, 1 or more"),
        (decoder, {"dropout": 1}, "dropout to be a number, from 0 to less than 1"),
        (decoder, {"input_dropout": -1}, "input_dropout to be a number, from 0 to l"),
    ],
)
def test_constructors_refuse_what_makes_no_sense(make, options, said):
    with pytest.raises(ValueError, match=said):
        make(**options)


ALIGNMENT, RLOO = RERANKERS["alignment"], ESTIMATORS["rloo"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder": "vgg19"}, "encoder to be an Encoder. Received: encoder='vgg19'"),
        ({"encoder": Encoder}, "encoder to be an Encoder. Received: encoder=<class"),
        ({"encoder": keras.Sequential()}, "encoder to be an Encoder. Received"),
        ({"estimator": None}, "estimator to be an Estimator, or one of soft"),
        ({"estimator": RLOO}, "estimator to be an Estimator, or one of soft"),
        ({"estimator": "rlo"}, "estimator to be one of soft, reinforce"),
        ({"initial_state": 1}, "initial_state to be an InitialState, or one of"),
        ({"initial_state": ["learned"]}, "to be an InitialState, or one of from_mean"),
        ({"initial_state": "mean"}, "initial_state to be one of from_mean, learned"),
        ({"rerankers": "alignment"}, "rerankers to be a list. Received"),
        ({"rerankers": {"alignment": 3}}, "rerankers to be a list. Received"),
        ({"rerankers": None}, "rerankers to be a list. Received: rerankers=None"),
        ({"rerankers": ["align"]}, "reranker to be one of alignment, consensus"),
        ({"rerankers": [ALIGNMENT]}, "reranker to be a Reranker, or one of alignment"),
        ({"rerankers": ["alignment", ALIGNMENT()]}, "kinds. Received: Alignment, Al"),
        ({"vocabulary": None}, "Expected a list of words, each a string. Received"),
        ({"vocabulary": "a.txt"}, "Expected a list of words, each a string. Received"),
        ({"vocabulary": [1, 2]}, "Expected a list of words, each a string. Received"),
    ],
    ids=str,
)
def test_captioners_refuse_parts_of_another_kind(options, said):
    with pytest.raises(ValueError, match=said):
        captioner(**options)


def test_parts_by_name_are_as_if_made_with_their_defaults():
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    named = captioner(
        estimator="rloo", initial_state="learned", rerankers=("alignment", "detection")
    )
    keras.utils.clear_session()  # which names things anew
    keras.utils.set_random_seed(1)
    made = captioner(
        estimator=RLOO(),
        initial_state=INITIAL_STATES["learned"](),
        rerankers=[ALIGNMENT(), RERANKERS["detection"]()],
    )
    config = named.get_config()
    assert config == made.get_config()
    assert ShowAttendTell.from_config(config).get_config() == config
    for one, other in zip(named.weights, made.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(
            ({"image_size": size}, "image_size to be a height and a width, whole numb")
            for size in ((64,), (64, 64, 3), 64, (64, 0), (64, 64.5), ("a", 64))
        ),
        ({"resize_mode": "cut"}, "resize_mode to be one of crop, squash, none. Receiv"),
        ({"trunk": "vgg11"}, "Expected trunk to be one of vgg19"),
    ],
)
def test_encoders_refuse_what_makes_no_sense(options, said):
    with pytest.raises(ValueError, match=said):
        Encoder(**{"trunk": "convnet", **options})


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": 2},
        {"lambda_ds": -1},
        {"encoder_rate": float("nan")},
        {"scheduled_sampling": 1.5},
    ],
    ids=str,
)
def test_compile_refuses_what_makes_no_sense(options):
    (name,) = options
    vocabulary = Vocabulary.from_captions(["a dog"])
    encoder = Encoder("none", features_shape=(2, 2, 3))
    captioner = ShowAttendTell(vocabulary, encoder=encoder, hidden_size=4)
    with pytest.raises(ValueError, match=f"Expected {name} to be a number"):
        captioner.compile(optimizer=keras.optimizers.Adam(), **options)
