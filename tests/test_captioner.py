"""The model as its users meet it: fit, save, load, generate."""

import io
import json
import math
import re
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from toy import WORDS, batch, toy

from sat_tf import Encoder, ShowAttendTell
from sat_tf.decoding.generate import caption_features
from sat_tf.estimators import ESTIMATORS, Reinforce, Soft
from sat_tf.evaluation.evaluate import predict
from sat_tf.model.initial_state import FromMean
from sat_tf.presets import storage
from sat_tf.reranking import RERANKERS
from sat_tf.reranking.detection import Detection
from sat_tf.reranking.grounding import Grounding

LEARNED = {name: kind for name, kind in RERANKERS.items() if kind.learns}


def dataset(data):
    return tf.data.Dataset.from_tensors(data).repeat()


def drawn(size=32, seed=17, **options):
    """A captioner of images, small enough to train in a test."""
    keras.utils.set_random_seed(seed)
    encoder = Encoder(
        "convnet", image_size=(size, size), resize_mode="squash", trainable=True
    )
    return ShowAttendTell(
        WORDS,
        encoder=encoder,
        estimator=Reinforce(samples=2, baseline="leave_one_out", reward="to_go"),
        embedding_size=8,
        hidden_size=16,
        attention_size=8,
        dropout=0.0,
        **options,
    )


def pictures(model, number=4, seed=17):
    """Left half red or blue; the caption says which."""
    h, w = model.encoder.image_size
    images = np.zeros((number, h, w, 3), "uint8")
    tokens = np.zeros((number, 3), "int32")
    for i in range(number):
        images[i, :, : w // 2, 0 if i % 2 else 2] = 255
        tokens[i] = *model.vocabulary.encode("red" if i % 2 else "blue")[:1], 5, 1
    return {"image": tf.constant(images), "tokens": tf.constant(tokens)}


@pytest.mark.parametrize("estimator", [Soft(), Reinforce(lambda_e=0.01)])
def test_fit_shows_what_a_person_watches(estimator):
    model = toy(estimator)
    model.compile(optimizer=keras.optimizers.Adam(0.03))
    data = batch(model, lengths=(4, 2, 3))
    history = model.fit(
        dataset(data), steps_per_epoch=30, epochs=3, verbose=0, shuffle=False
    ).history
    wanted = {"loss", "log_likelihood", "perplexity", "attention_entropy"}
    if isinstance(estimator, Reinforce):
        wanted |= {"baseline", "advantage"}
    assert wanted <= set(history)
    assert history["log_likelihood"][-1] > history["log_likelihood"][0] + 0.3
    assert history["perplexity"][-1] == pytest.approx(
        np.exp(-history["log_likelihood"][-1]), rel=1e-5
    )
    assert 0 <= history["attention_entropy"][-1] <= np.log(4)


def test_loss_is_nats_per_word_in_training_and_validation():
    """What is minimised is an estimator's own; at a rate of 0 both are the same."""
    model = toy(Soft())
    model.compile(optimizer=keras.optimizers.SGD(0.0), lambda_ds=0.3)
    data = batch(model, lengths=(4, 2, 3))
    history = model.fit(data, validation_data=data, verbose=0).history
    (loss,), (val_loss,) = history["loss"], history["val_loss"]
    assert loss == pytest.approx(val_loss, rel=1e-5)
    assert loss == pytest.approx(-history["log_likelihood"][0], rel=1e-6)
    surrogate, _ = model.loss_of(data)
    assert history["surrogate"] == [pytest.approx(float(surrogate), rel=1e-5)]
    assert "val_surrogate" not in history

    model.use(Reinforce(reward="to_go"))
    history = model.fit(data, verbose=0).history
    assert {"baseline", "advantage"} <= set(history)  # a graph of its own
    assert history["loss"] == [-history["log_likelihood"][0]]
    assert history["loss"][0] != pytest.approx(history["surrogate"][0], rel=0.1)


@pytest.fixture(scope="module")
def everyday():
    """A compiled captioner, and arrays as they come in a notebook."""
    model = toy(Soft())
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    data = batch(model, lengths=(4, 2, 3, 3, 2))
    data = {k: np.asarray(v) for k, v in data.items()}
    return model, {**data, "annotations": data["annotations"].astype("float64")}


def test_everyday_keras(everyday):
    """One dict of arrays, in every method that takes data."""
    model, data = everyday
    loss = model.evaluate(data, batch_size=2, verbose=0, return_dict=True)["loss"]
    names = model.metrics_names
    assert len(names) == len(set(names)) and names[0] == "loss"
    for on_batch in (model.train_on_batch, model.test_on_batch):
        assert on_batch(data)[0] == pytest.approx(loss, rel=1e-5)
        assert on_batch(data, return_dict=True)["loss"] == pytest.approx(loss, rel=1e-5)
    history = model.fit(data, batch_size=2, verbose=0, validation_data=data).history
    for name in ("loss", "val_loss"):
        assert history[name] == [pytest.approx(loss, rel=1e-5)]
    split = model.fit(data, batch_size=8, verbose=0, validation_split=0.4).history
    assert set(split) == set(history)
    said = model.predict_on_batch(data)
    assert said.shape == data["tokens"].shape
    mean = said.sum() / (data["tokens"] > 0).sum()
    assert mean == pytest.approx(-loss, rel=1e-5)
    predicted = model.predict(data, batch_size=2, verbose=0)
    np.testing.assert_allclose(predicted, said, rtol=1e-5)


def pairs(data):
    return tf.data.Dataset.from_tensors((data, data["tokens"]))


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda m, d: m.fit(d, d["tokens"]), r"Received: y=ndarray of shape \(5, 4\)"),
        (lambda m, d: m.fit(pairs(d), shuffle=False), "Received: a tuple of two"),
        (lambda m, d: m.fit(d, validation_data=(d, d["tokens"])), "Expected no y"),
        (lambda m, d: m.fit(d, class_weight={1: 2.0}), "no class_weight in fit"),
        (lambda m, d: m.fit(d, sample_weight=np.ones(5)), "no sample_weight in fit"),
        (lambda m, d: m.evaluate(d, d["tokens"]), "no y in evaluate"),
        (lambda m, d: m.evaluate(pairs(d)), "Received: a tuple of two"),
        (lambda m, d: m.train_on_batch(d, d["tokens"]), "no y in train_on_batch"),
        (lambda m, d: m.test_on_batch(d, d["tokens"]), "no y in test_on_batch"),
        (lambda m, d: m.fit(d["annotations"]), "Expected a dict of"),
        (lambda m, d: m.predict(d["annotations"]), r"call generate\(images\)"),
        (lambda m, d: m.fit({"annotations": d["annotations"]}), "Received: annotatio"),
        (
            lambda m, d: m.fit(tf.data.Dataset.from_tensor_slices(d), shuffle=False),
            r"Received: tokens.shape=\[4\]. Make batches .* with .batch\(32\)",
        ),
        (
            lambda m, d: m.train_on_batch({**d, "tokens": d["tokens"].tolist()}),
            "Received: a list. Make it an array",
        ),
        (
            lambda m, d: m.train_on_batch(
                {**d, "annotations": d["annotations"][..., 1:]}
            ),
            r"annotations of shape \[any, 4, 3\]. Received: .*\[5, 4, 2\]",
        ),
        (
            lambda m, d: m.fit({**d, "tokens": [[1], [3, 1]] * 2}, batch_size=2),
            "Expected tokens of shape .*Received: a list. .* captioner.vocabulary",
        ),
        (
            lambda m, d: m.fit(batches(d, tokens=tf.ragged.constant(RAGGED))),
            r"Received: a ragged tensor. Pad it with 0: to_tensor\(\)",
        ),
        (
            lambda m, d: m.evaluate({**d, "tokens": np.array(["a dog", "a cat"])}),
            "Received: tokens.dtype=str.* captioner.vocabulary",
        ),
        (
            lambda m, d: m.fit({**d, "tokens": d["tokens"][:, :0]}),
            r"Received: tokens.shape=\[5, 0\]. None may be empty",
        ),
        (
            lambda m, d: m.fit({**d, "rows": np.zeros(5)[:, None]}),
            r"rows of shape \[any\]. Received: rows.shape=\[5, 1\]",
        ),
        (
            lambda m, d: m.predict({**d, "annotations": d["annotations"][:4]}),
            "Expected arrays of one length.*Received: annotations of 4, tokens of 5",
        ),
        (lambda m, d: m.compile("adam", "mse"), "no loss in compile. .* estimator"),
        (lambda m, d: m.compile(metrics=["accuracy"]), "no metrics in compile"),
        (lambda m, d: m.compile(weighted_metrics=["accuracy"]), "no weighted_metrics"),
        (lambda m, d: m.compile(loss_weights=[1.0]), "no loss_weights in compile"),
    ],
)
def test_what_cannot_mean_anything_gets_a_sentence(everyday, call, words):
    """And what is right works after it."""
    model, data = everyday
    with pytest.raises(ValueError, match=words):
        call(model, data)
    assert np.isfinite(model.test_on_batch(data)[0])


RAGGED = [[1], [3, 1], [4, 1], [1], [3, 4, 1]]
LEFT = [[0, 0, 3, 1], [0, 3, 4, 1], [3, 4, 5, 1]]
HIGH = [[3, 7, 1, 0], [9, 1, 0, 0], [1, 0, 0, 0]]
CALLS = {
    "fit": lambda m, d: m.fit(d, verbose=0),
    "fit of a data set": lambda m, d: m.fit(batches(d, 3), shuffle=False, verbose=0),
    "evaluate": lambda m, d: m.evaluate(d, verbose=0),
    "predict": lambda m, d: m.predict(d, verbose=0),
    "train_on_batch": lambda m, d: m.train_on_batch(d),
    "test_on_batch": lambda m, d: m.test_on_batch(d),
    "predict_on_batch": lambda m, d: m.predict_on_batch(d),
}


def batches(data, size=None, **changes):
    """A data set of dicts, of one batch by default."""
    data = tf.data.Dataset.from_tensor_slices({**data, **changes})
    return data.batch(size or 100)


WRONG = [
    ("tokens", LEFT, "Received: words after a 0. Put the zeros behind"),
    ("tokens", HIGH, "0 to 6. Received: 0 to 9. Make them with"),
    ("tokens", np.negative(HIGH), "0 to 6. Received: -9 to 0. "),
    ("tokens", [[3, 4, 5, 1], [3, 4, 0, 0], [4, 1, 0, 0]], "Received: a 0 after anoth"),
    ("rows", [0, 1, 3], "Received: 0 to 3 in a batch of 3. Data"),
    ("rows", [0, -1, 1], "Received: -1 to 1 in a batch of 3. Data"),
    ("inputs", HIGH, "inputs that are ids of the vocabulary, 0 to 6. Received: 0 to 9"),
    ("inputs", [[0], [0], [0]], "inputs for each .* 3 x 4. Received: 3 x 1. Pad both"),
    ("location_bias", np.zeros([3, 5, 4]), "3 x 4. Received: 3 x 5. Pad both"),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_values_that_cannot_be_trained_on_get_a_sentence(call, eagerly):
    """Through every door, and what is right works after it."""
    model = toy(Soft())
    model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=eagerly)
    data = {k: v.numpy() for k, v in batch(model, lengths=(4, 2, 3)).items()}
    data |= {"rows": np.arange(3), "inputs": np.zeros([3, 4], "int32")}
    data["location_bias"] = np.zeros([3, 4, 4])
    for name, values, words in WRONG:
        with pytest.raises(ValueError, match=words):
            CALLS[call](model, {**data, name: np.array(values)})
    CALLS[call](model, data)


def test_captions_and_images_go_together():
    """One image each without rows; captions without words need none."""
    model = toy(Soft())
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    data = {k: v.numpy() for k, v in batch(model, lengths=(4, 2, 3)).items()}
    with pytest.raises(ValueError, match="Received: 2 for 3 captions. Say as rows"):
        model.train_on_batch({**data, "annotations": data["annotations"][:2]})
    alone = model.test_on_batch({**data, "rows": np.array([0, 1, 2])})
    tokens = np.concatenate([data["tokens"], np.zeros_like(data["tokens"])])
    filled = {**data, "tokens": tokens, "rows": np.array([0, 1, 2, -1, 7, 0])}
    assert model.test_on_batch(filled)[0] == pytest.approx(alone[0], rel=1e-6)


@pytest.mark.parametrize("kind", ["uint8", "int64", "float32"])
def test_tokens_may_be_any_numbers(kind):
    """Even such as cannot hold the size of the vocabulary."""
    model = toy(Soft(), words=[f"w{i}" for i in range(300)])
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    data = batch(model)
    data["tokens"] = np.array([[3, 1], [200, 1]])
    wanted = model.test_on_batch({**data, "tokens": data["tokens"].astype("int32")})
    given = model.test_on_batch({**data, "tokens": data["tokens"].astype(kind)})
    assert given == wanted


def test_training_works_after_a_mistake():
    """The graph that the mistake left half traced is thrown away."""
    model = toy(Soft())
    model.compile("adam")
    data = batch(model)
    unbatched = tf.data.Dataset.from_tensor_slices(data)
    for _ in range(2):
        with pytest.raises(ValueError, match="Make batches"):
            model.fit(unbatched, shuffle=False, verbose=0)
    assert np.isfinite(model.fit(data, verbose=0).history["loss"][0])


def test_images_of_another_size_are_not_trained_on():
    model = drawn()
    model.compile("adam")
    data = {"image": np.zeros((2, 8, 8, 3)), "tokens": np.ones((2, 1), "int32")}
    with pytest.raises(ValueError, match=r"\[any, 32, 32, 3\].*\[2, 8, 8, 3\].*resize"):
        model.train_on_batch(data)


@pytest.mark.parametrize("top", [0.5, 1.0, math.nan])
def test_images_in_another_range_are_not_looked_at(top):
    """Where they are trained on, and where they are captioned; black ones are."""
    model = drawn()
    model.compile(optimizer=keras.optimizers.SGD(0.0))
    image = np.zeros((2, 32, 32, 3), "float32")
    tokens = np.ones((2, 1), "int32")
    model.train_on_batch({"image": image, "tokens": tokens})
    model.generate(image)
    image[0, 3, 3] = top
    with pytest.raises(ValueError, match=f"0..255. .*nothing above {top:g}. Mult"):
        model.train_on_batch({"image": image, "tokens": tokens})
    with pytest.raises(ValueError, match="0..255|finite numbers"):
        model.generate(image)
    image *= 255
    if top == top:
        model.train_on_batch({"image": image, "tokens": tokens})
        model.generate(image)


# ------------------------------------------------------------------- several devices


def test_one_device_of_a_strategy_is_enough():
    one = tf.distribute.MirroredStrategy(["CPU:0"])
    with one.scope():
        inside = toy(Soft())
        inside.compile("adam")
    data = {k: v.numpy() for k, v in batch(inside).items()}
    losses = inside.fit(data, epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0]

    outside = toy(Soft())
    outside.compile("adam")
    wanted = "made, compiled and trained with one and the same strategy"
    with one.scope():
        for call in (outside.compile, lambda: outside.fit(data, verbose=0)):
            with pytest.raises(ValueError, match=f"{wanted}.*MirroredStrategy now"):
                call()
    with one.scope():
        inside = toy(Soft())
    with pytest.raises(ValueError, match=f"{wanted}.*MirroredStrategy when it was"):
        inside.compile("adam")


def test_several_workers_are_refused(monkeypatch):
    def cluster(*workers):
        config = {
            "cluster": {"worker": workers},
            "task": {"type": "worker", "index": 0},
        }
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))

    model = toy(Soft())
    cluster("a:1")
    model.compile("adam")
    cluster("a:1", "b:1")
    for call in (model.compile, lambda: model.fit(batch(model), verbose=0)):
        with pytest.raises(ValueError, match="Received: TF_CONFIG with 2 workers"):
            call()


# ------------------------------------------------------------------------ its draws


def draws(seed, estimator=None, **options):
    """The trace of one training batch: all but the seed is the same in every call."""
    keras.utils.set_random_seed(seed)
    model = toy(estimator or Reinforce(), **options)
    model.scheduled_sampling = 0.5
    data = batch(model, lengths=[6] * 16)
    return model.loss_of(data)[1]


def locations(trace):
    return np.argmax(trace.weights, axis=-1)


@pytest.mark.parametrize(
    "what, look",
    [
        (dict(estimator=Reinforce), locations),
        (
            dict(estimator=lambda: Reinforce(semi_sampling=0.5)),
            lambda trace: np.max(trace.weights, axis=-1) == 1,
        ),
        (dict(estimator=Soft), lambda trace: trace.embedded.numpy()),  # own words
        (
            dict(estimator=Soft, initial_state=lambda: FromMean(dropout=0.5)),
            lambda trace: trace.states[0][:, :, 0].numpy(),
        ),
        (
            dict(estimator=Soft, input_dropout=0.5),
            lambda trace: trace.annotations.numpy(),
        ),
    ],
    ids=["locations", "coins", "own words", "initial dropout", "dropout"],
)
def test_keras_seed_moves_every_draw(what, look):
    one, again, other = (
        look(draws(seed, **{k: v() if callable(v) else v for k, v in what.items()}))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert np.mean(one != other) > 0.02


def test_draws_leave_the_initial_weights_alone():
    """Which are those of a seed, whatever is drawn later."""

    def weights(**options):
        keras.utils.set_random_seed(17)
        model = ShowAttendTell(
            WORDS, encoder=Encoder("none", features_shape=(2, 2, 3)), **options
        )
        return [v.numpy() for v in model.trainable_variables]

    plain, dropped = weights(), weights(initial_state=FromMean(dropout=0.5))
    for one, other in zip(plain, dropped, strict=True):
        np.testing.assert_array_equal(one, other)
    # What a reranker has comes last, and moves nothing before it.
    ranked = weights(rerankers=[Detection(4, dropout=0.5, input_dropout=0.5)])
    for one, other in zip(plain, ranked[: len(plain)], strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluate_does_not_depend_on_a_draw():
    model = toy()
    model.compile()
    data = tf.data.Dataset.from_tensors(batch(model, lengths=(4, 2)))
    first, second = (model.evaluate(data, return_dict=True, verbose=0) for _ in "12")
    assert first == second
    assert first["loss"] == pytest.approx(-first["log_likelihood"], rel=1e-6)


def test_channels_first_is_for_others():
    """Keras may be told so by a file in the home of whoever installed it once."""
    keras.config.set_image_data_format("channels_first")
    try:
        first = drawn()
        assert keras.config.image_data_format() == "channels_first"
    finally:
        keras.config.set_image_data_format("channels_last")
    last = drawn()
    last.set_weights(first.get_weights())
    images = np.random.default_rng(17).integers(256, size=(2, 32, 32, 3))
    np.testing.assert_array_equal(first.encode(images), last.encode(images))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_weights_are_float32(dtype):
    with pytest.raises(ValueError, match=f"Received: dtype='{dtype}'. Choose float32"):
        toy(dtype=dtype)
    with pytest.raises(ValueError, match=f"Received: dtype='{dtype}'. Choose float32"):
        Encoder("none", features_shape=(2, 2, 3), dtype=dtype)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        with pytest.raises(ValueError, match="keras.config.set_dtype_policy"):
            Encoder("convnet", image_size=(32, 32))
    finally:
        keras.config.set_dtype_policy(before)


def test_input_dropout_drops_channels_and_word_elements_in_training_only():
    model = toy(Soft(), size=40, embedding_size=40, input_dropout=0.5)
    plain = batch(model, lengths=(4, 3))
    features = plain["annotations"]
    whole = model.network.start(features)[0]["annotations"].numpy()
    dropped = model.network.start(features, training=True)[0]["annotations"].numpy()
    kept = dropped != 0
    np.testing.assert_array_equal(kept, np.broadcast_to(kept[:, :1], kept.shape))
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_allclose(dropped[kept], 2 * whole[kept], rtol=1e-6)
    words = model.network.decoder.embed(plain["tokens"])
    dropped = model.network.decoder.embed(plain["tokens"], training=True)
    scale = np.unique(np.round(dropped / words, 4)[plain["tokens"] > 0])
    np.testing.assert_array_equal(scale, [0, 2])
    assert model.loss_of(plain)[0] != model.loss_of(plain)[0]
    np.testing.assert_array_equal(model(plain), model(plain))
    assert model.get_config()["input_dropout"] == 0.5


def test_a_learned_initial_state_knows_nothing_of_the_image():
    model = toy(Soft(), initial_state="learned")
    data = batch(model, lengths=(4, 3))
    features = data["annotations"]
    memory, state = model.network.start(features)
    assert all(np.ptp(x, axis=1).max() == 0 and np.abs(x).max() > 0 for x in state)
    _, other = model.network.start(features + 1)
    np.testing.assert_array_equal(state, other)
    mean = toy(Soft()).network.start(features)[1]
    assert all(np.ptp(x, axis=1).max() > 0 for x in mean)
    assert model.get_config()["initial_state"]["class_name"] == "Learned"
    with tf.GradientTape() as tape:
        loss = model.loss_of(data)[0]
    gradient = tape.gradient(loss, model.network.decoder.initial_state.cell.kernel)
    assert gradient.shape == (1, 4) and np.abs(gradient).max() > 0
    with pytest.raises(ValueError, match="initial_state='mean'"):
        toy(initial_state="mean")


def test_initial_dropout_withholds_some_images_as_a_whole_in_training_only():
    model = toy(Soft(), initial_state=FromMean(dropout=0.5))
    features = tf.random.stateless_normal([40, 4, 3], [1, 7])
    known = np.stack(model.network.start(features)[1])
    unknown = np.stack(model.network.decoder.initial_state(tf.zeros_like(features)))
    states = np.stack(model.network.start(features, training=True)[1])
    kept = (states == known).all(axis=(0, 1, 3))
    assert 0.2 < kept.mean() < 0.8
    np.testing.assert_array_equal(states[:, :, ~kept], unknown[:, :, ~kept])
    again = np.stack(model.network.start(features, training=True)[1])
    assert (again != states).any()
    np.testing.assert_array_equal(np.stack(model.network.start(features)[1]), known)
    again = ShowAttendTell.from_config(model.get_config())
    assert again.network.decoder.initial_state.dropout == 0.5


def test_initial_scale_tells_less_of_the_image_at_test_time_only():
    data = batch(toy(), lengths=(4, 3))
    features = data["annotations"]
    scales = (1.0, 0.25, 0.0)
    plain, less, none = (
        toy(Soft(), initial_state=FromMean(scale=scale)) for scale in scales
    )
    np.testing.assert_array_equal(
        less.network.start(features)[1],
        plain.network.decoder.initial_state(features / 4),
    )
    assert all(np.ptp(x, axis=1).max() == 0 for x in none.network.start(features)[1])
    for model, scale in zip((less, none), scales[1:], strict=True):
        told, all_told = (
            m.network.start(features, training=True)[1] for m in (model, plain)
        )
        np.testing.assert_array_equal(told, all_told)
        again = ShowAttendTell.from_config(model.get_config())
        assert again.network.decoder.initial_state.scale == scale
    with pytest.raises(ValueError, match="Received: scale=25"):
        FromMean(scale=25)


def test_an_encoder_from_scratch_learns_at_its_own_rate():
    model = drawn()
    model.compile(optimizer=keras.optimizers.Adam(0.01), encoder_rate=0.1)
    kernel = model.encoder.network.weights[0].numpy()
    model.fit(dataset(pictures(model)), steps_per_epoch=1, verbose=0, shuffle=False)
    moved = np.abs(model.encoder.network.weights[0].numpy() - kernel).max()
    assert moved == pytest.approx(0.01 * 0.1, rel=0.01)  # Adam's first step: its rate


def test_fine_tuning_starts_when_it_is_asked_for(tmp_path):
    """At its own rate, and without new batch statistics."""
    model = drawn()
    encoder = model.encoder
    encoder.trunk = "mobilenet"  # any that came trained
    encoder.network.trainable = False
    model.compile(optimizer=keras.optimizers.Adam(0.01), encoder_rate=0.1)
    data = dataset(pictures(model))

    def moved():
        before = [v.numpy() for v in encoder.network.weights]
        model.fit(data, steps_per_epoch=1, verbose=0, shuffle=False)
        return {
            v.path: np.abs(v.numpy() - was).max()
            for v, was in zip(encoder.network.weights, before, strict=True)
        }

    assert not any(moved().values())
    model.fine_tune()
    steps = moved()
    for path, step in steps.items():
        # Adam's first step has the size of its rate.
        wanted = 0 if "moving" in path else 0.01 * 0.1
        assert step == pytest.approx(wanted, rel=0.01), path
    assert sum("moving" in path for path in steps) == 10

    encoder.trunk, model.encoder_rate = "convnet", 1.0  # as it can be built again
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name in ("optimizer", "encoder_optimizer"):
        mine, theirs = (getattr(m, name).variables for m in (model, loaded))
        for one, other in zip(mine, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_learns_a_caption_and_says_it():
    model = drawn()
    model.compile(optimizer=keras.optimizers.Adam(0.01), decoder="beam")
    data = pictures(model)
    model.fit(dataset(data), steps_per_epoch=100, verbose=0, shuffle=False)
    captions = model.generate(data["image"], beam=2, max_length=5)
    assert [c.caption for c in captions] == ["blue dog", "red dog"] * 2
    first = captions[0]
    assert first.words == ("blue", "dog") and len(first.beams) == 2
    assert first.alpha.shape == (2, *model.grid) and first.locations.shape == (2,)
    np.testing.assert_array_equal(
        first.alpha.reshape(2, -1).argmax(-1), first.locations
    )
    assert model.generate(data["image"][0])[0].caption == "blue dog"


def photograph(*size, seed=17):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), "uint8")


def as_png(pixels, **options):
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def talker():
    """Says something else of each image."""
    model = drawn()
    rng = np.random.default_rng(17)
    for variable in model.network.decoder.trainable_variables:
        variable.assign(rng.normal(0, 1, variable.shape))
    return model


FORMS = {
    "a path": lambda pixels, path: path,
    "a path as text": lambda pixels, path: str(path),
    "paths": lambda pixels, path: [path, str(path)],
    "paths of a glob": lambda pixels, path: path.parent.glob(path.name),
    "an array of paths": lambda pixels, path: np.array([str(path)] * 2),
    "bytes": lambda pixels, path: path.read_bytes(),
    "a Pillow image": lambda pixels, path: PIL.Image.open(path),
    "Pillow images": lambda pixels, path: [PIL.Image.fromarray(pixels)] * 3,
    "with opacity": lambda pixels, path: PIL.Image.open(path).convert("RGBA"),
    "an array": lambda pixels, path: pixels,
    "a batch": lambda pixels, path: pixels[None],
    "floats": lambda pixels, path: [pixels.astype("float64")] * 2,
    "a tensor": lambda pixels, path: tf.constant(pixels),
    "all kinds": lambda pixels, path: [
        PIL.Image.open(path),
        pixels,
        path,
        path.read_bytes(),
        pixels[None],
    ],
    "data set": lambda pixels, path: data_of(pixels),
    "of batches": lambda pixels, path: data_of(pixels).batch(2),
    "of tuples": lambda pixels, path: data_of((pixels, 1, 2)).batch(2),
    "of dictionaries": lambda pixels, path: data_of({"image": pixels}),
    "of both": lambda pixels, path: data_of(({"image": pixels}, 1)).batch(2),
    "of files": lambda pixels, path: data_of(path.read_bytes()),
}


def data_of(element):
    return tf.data.Dataset.from_tensors(element).repeat(3)


@pytest.mark.parametrize("form", FORMS)
def test_generate_takes_images_as_people_have_them(talker, form, tmp_path):
    pixels = photograph(32, 32)
    (tmp_path / "photo.png").write_bytes(as_png(pixels))
    expected = caption_features(talker, talker.encode(pixels[None]), talker.options())
    captions = talker.generate(FORMS[form](pixels, tmp_path / "photo.png"))
    assert len(captions) >= 1
    for caption in captions:
        assert caption.caption == expected[0].caption
        assert caption.log_p == pytest.approx(expected[0].log_p, abs=1e-3)


def test_generate_resizes_arrays_and_pillow_images_as_files(talker, tmp_path):
    arrays = [photograph(50, 40, seed=1), photograph(32, 90, seed=2)]
    pillows = [PIL.Image.fromarray(array) for array in arrays]
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for image, file in zip(pillows, files, strict=True):
        image.save(file)
    said = [
        [(c.caption, round(c.log_p, 3)) for c in talker.generate(images)]
        for images in (files, pillows, arrays, [a[None] for a in arrays])
    ]
    assert said[0][0] != said[0][1] and all(each == said[0] for each in said)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "CMYK", "HSV"])
def test_generate_reads_pillow_images_of_every_mode(talker, mode):
    image = PIL.Image.fromarray(photograph(32, 32)).convert(mode)
    (caption,) = talker.generate(image)
    (expected,) = talker.generate(np.asarray(image.convert("RGB")))
    assert caption.log_p == pytest.approx(expected.log_p, abs=1e-3)


def test_generate_holds_pillow_images_upright(talker):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    file, pixels = io.BytesIO(), photograph(40, 32)
    PIL.Image.fromarray(pixels).save(file, "JPEG", exif=exif, quality=100)
    (one,), (other,) = map(talker.generate, (PIL.Image.open(file), file.getvalue()))
    assert (one.caption, one.log_p) == (other.caption, pytest.approx(other.log_p, 1e-3))


@pytest.mark.parametrize(
    "nothing",
    [
        [],
        (),
        iter([]),
        np.zeros((0, 32, 32, 3)),
        data_of(np.zeros((32, 32, 3))).take(0),
    ],
    ids=["list", "tuple", "iterator", "array", "data set"],
)
def test_generate_says_nothing_of_nothing(talker, nothing):
    assert talker.generate(nothing) == []


@pytest.mark.parametrize(
    "images, said",
    [
        (None, "image 0 with type=NoneType"),
        ([photograph(32, 32), None], "image 1 with type=NoneType"),
        ({"image": photograph(32, 32)[None]}, "image 0 with type=dict"),
        (np.zeros((32, 32)), r"image 0 with shape=\(32, 32\)"),
        (np.zeros((0, 32, 3)), r"image 0 with shape=\(0, 32, 3\)"),
        (np.zeros((3, 32, 32)), r"image 0 with shape=\(3, 32, 32\)"),
        (data_of({"picture": 1}), "image 0 with type=dict"),
        ("nothing.png", "image='nothing.png'"),
        ([b"no image"], "image that can be decoded"),
    ],
    ids=str,
)
def test_generate_refuses_what_is_no_image(talker, images, said):
    with pytest.raises(ValueError, match=rf"Expected .*{said}"):
        talker.generate(images)


def test_generate_refuses_another_size_where_nothing_is_resized(talker):
    model = drawn()
    model.encoder.resize_mode = "none"
    with pytest.raises(ValueError, match=r"\(32, 32\).*image 0 of size \(8, 9\)"):
        model.generate(np.zeros((1, 8, 9, 3)))
    with pytest.raises(ValueError, match="batch_size=0"):
        model.generate(np.zeros((1, 32, 32, 3)), batch_size=0)


@pytest.mark.parametrize(
    "chance", [{"decoder": "sample", "temperature": 4.0}, {"attention": "sample"}]
)
def test_draws_of_an_image_do_not_depend_on_the_batch(talker, chance):
    """One image 96 times: three identical blocks of 32 were once the answer."""
    images = np.repeat(photograph(32, 32)[None], 96, axis=0)
    ways = {"seed": 3, "max_length": 5, **chance}

    def said(images, **more):
        captions = talker.generate(images, **ways, **more)
        return [(c.caption, *c.locations) for c in captions]

    first = said(images)
    for size in (96, 7):
        assert said(images, batch_size=size) == first
    assert said(tf.data.Dataset.from_tensor_slices(images).batch(10)) == first
    assert said(images[:50]) == first[:50]
    blocks = [first[i : i + 32] for i in (0, 32, 64)]
    assert blocks[0] != blocks[1] != blocks[2] and len(set(first)) > 10
    ways["seed"] = 4
    assert said(images) != first

    class Records(list):  # as `evaluate` reads them
        def read(self, rows):
            return np.stack([self[i] for i in rows])

    records, options = Records(images[:20]), talker.options(**chance)
    evaluated = [
        [c.words for c in predict(talker, records, "image", options, batch_size=size)]
        for size in (6, 20)
    ]
    assert evaluated[0] == evaluated[1]
    assert len(set(evaluated[0])) > 3
    ways["seed"] = None
    assert said(images) != said(images)


def test_banned_words_are_named_by_the_user():
    model = toy()
    features = batch(model)["annotations"]
    options = model.options(banned=["red", "dog"], max_length=6)
    for caption in caption_features(model, features, options):
        assert not {"red", "dog"} & set(caption.words)
    with pytest.raises(ValueError, match="word='unicorn'"):
        model.options(banned=["unicorn"])


def test_detection_learns_what_is_said_and_tells_nobody():
    """Its gradient stays with it: the words are on their own, as without it."""
    model, plain = (toy("soft", rerankers=x) for x in ([Detection(8)], []))
    data = batch(model, lengths=(3, 2))
    gradients = []
    for each in (model, plain):
        with tf.GradientTape() as tape:
            loss, _ = each.loss_of(data)
        gradients.append(tape.gradient(loss, each.trainable_variables))
    (detection,) = model.rerankers
    inside = {id(v) for v in detection.weights}
    pairs = zip(model.trainable_variables, gradients[0], strict=True)
    rest = [g for v, g in pairs if id(v) not in inside]
    for a, b in zip(rest, gradients[1], strict=True):
        np.testing.assert_allclose(
            tf.convert_to_tensor(a), tf.convert_to_tensor(b), atol=1e-6
        )
    model.compile(keras.optimizers.Adam(0.03))
    step = tf.function(model.train_step, autograph=False)
    for _ in range(200):
        step(data)
    detected = detection.evidence(model.encoder(data["annotations"])).numpy()
    for row, tokens in zip(detected, data["tokens"].numpy(), strict=True):
        said = np.isin(np.arange(len(row)), tokens[tokens > 0])
        assert row[said].min() > 0.9 and row[~said].max() < 0.1


def test_detection_leaves_a_trained_trunk_alone():
    trunks = []
    for rerankers in ([Detection(4)], []):
        model = drawn(rerankers=rerankers)
        with tf.GradientTape() as tape:
            loss, _ = model.loss_of(pictures(model))
        trunks.append(tape.gradient(loss, model.encoder.trainable_variables))
    for a, b in zip(*trunks, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_detection_knows_which_image_a_caption_is_about():
    """Captions that share images, as `rows` says, or each with its own copy."""
    model = toy("soft", rerankers=[Detection(4)])
    data = batch(model, lengths=(3, 2, 3))
    rows = np.array([1, 0, 1], "int32")
    shared = {**data, "annotations": data["annotations"][:2], "rows": rows}
    copied = {**data, "annotations": tf.gather(data["annotations"], rows)}
    with_it = [model.loss_of(x)[0] for x in (shared, copied)]
    model.rerankers = []
    without = [model.loss_of(x)[0] for x in (shared, copied)]
    shares = [a - b for a, b in zip(with_it, without, strict=True)]
    np.testing.assert_allclose(*shares, rtol=1e-4)


@pytest.mark.parametrize("name, kind", LEARNED.items())
def test_opinions_take_one_who_has_them(name, kind):
    ranked = {"decoder": "beam", "rerank": {"consensus": 0.3, name: 2.0}}
    with pytest.raises(ValueError, match=f"it has none.*model.rerankers.{name}="):
        toy().options(**ranked)
    model = toy(rerankers=[kind(4)])
    model.decoder_options = ranked
    assert dict(model.options().rerank) == ranked["rerank"]
    assert model.options(rerank={"consensus": None}).rerank == ()  # nothing to add to
    for off in (None, 0):
        rerank = model.options(rerank={name: off}).rerank
        assert dict(rerank) == {"consensus": 0.3}
    with pytest.raises(ValueError, match=f"Expected consensus beside {name}"):
        model.options(rerank={"consensus": None, name: 1.0})


def test_saved_and_loaded_is_the_same_captioner(tmp_path):
    model = drawn(
        initial_state=FromMean(dropout=0.5, scale=0.5),
        rerankers=[Detection(4), Grounding(4)],
    )
    ranked = {"consensus": 0.3, "detection": 2.0, "grounding": 0.5}
    decoder = {"decoder": "beam", "beam": 4, "rerank": ranked}
    model.compile(optimizer="adam", decoder=decoder)
    data = pictures(model)
    model.fit(dataset(data), steps_per_epoch=2, verbose=0, shuffle=False)
    model.estimator.average.assign(np.linspace(-2, -1, 64))
    model.save(tmp_path / "model.keras")
    model.save_to_preset(tmp_path / "model")
    for loaded in (
        keras.saving.load_model(tmp_path / "model.keras"),
        ShowAttendTell.from_preset(tmp_path / "model"),
    ):
        np.testing.assert_array_equal(loaded(data), model(data))
        np.testing.assert_array_equal(loaded.estimator.average, model.estimator.average)
        assert loaded.get_config() == {**model.get_config(), "name": loaded.name}
        assert loaded.options() == model.options(**decoder)
        before, after = (m.generate(data["image"]) for m in (model, loaded))
        assert [c.caption for c in before] == [c.caption for c in after]


def test_preset_without_encoder_needs_its_weights_again(tmp_path):
    """As shipped for photographs: the trunk's weights stay with their owner."""
    encoder = Encoder("mobilenet", image_size=(32, 32))
    model = ShowAttendTell(
        WORDS, encoder=encoder, embedding_size=4, hidden_size=4, attention_size=4
    )
    weights = tmp_path / "trunk.weights.h5"
    trunk = keras.applications.MobileNet(
        weights=None, include_top=False, input_shape=(32, 32, 3)
    )
    for mine, theirs in zip(encoder.network.weights, trunk.weights, strict=False):
        theirs.assign(mine)
    trunk.save_weights(weights)
    model.encoder.standardise.adapt_variance.assign([7e4] * encoder.size)
    model.encoder.standardise.finalize_state()  # above the largest float16
    model.save_to_preset(tmp_path / "model", encoder=False, dtype="float16")
    assert (tmp_path / "model" / "weights.npz").stat().st_size < 200_000
    loaded = ShowAttendTell.from_preset(tmp_path / "model", encoder_weights=weights)
    images = np.random.default_rng(17).uniform(0, 255, (2, 32, 32, 3))
    np.testing.assert_allclose(loaded.encode(images), model.encode(images), atol=1e-6)
    variance = loaded.encoder.standardise.adapt_variance
    np.testing.assert_array_equal(variance, [7e4] * encoder.size)
    with pytest.raises(FileNotFoundError, match="which does not exist"):
        ShowAttendTell.from_preset(tmp_path / "model", encoder_weights="no.h5")


def test_nothing_to_train_is_said():
    model = drawn()
    model.trainable = False
    model.compile(optimizer="adam")
    with pytest.raises(ValueError, match="Expected weights to train"):
        data = dataset(pictures(model))
        model.fit(data, steps_per_epoch=1, verbose=0, shuffle=False)
    with pytest.raises(ValueError, match="Expected an optimizer"):
        model.compile(optimizer=None)


def test_what_json_does_not_take_costs_no_file(tmp_path):
    model = toy()
    model.save_to_preset(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for variable in model.network.decoder.trainable_variables:
        variable.assign(-variable)
    with pytest.raises(TypeError, match="JSON"):
        model.save_to_preset(tmp_path, metadata={"when": object()})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_numbers_of_numpy_are_kept_as_any(tmp_path):
    model = toy()
    rerank = {"consensus": np.float32(0.5)}
    decoder = {"decoder": "beam", "beam": np.int64(4), "rerank": rerank}
    model.compile(decoder=decoder | {"banned": np.array([4, 5])})
    model.save_to_preset(tmp_path)
    loaded = ShowAttendTell.from_preset(tmp_path)
    assert loaded.options() == model.options(**decoder, banned=(4, 5))


def test_damaged_preset_says_what_does_not_fit(tmp_path):
    toy().save_to_preset(tmp_path)
    with np.load(tmp_path / "weights.npz") as arrays:
        kept = dict(arrays)
    kept.pop("attention/vector")
    np.savez(tmp_path / "weights.npz", **kept)
    with pytest.raises(ValueError, match="attention/vector"):
        ShowAttendTell.from_preset(tmp_path)
    with pytest.raises(ValueError, match="Expected the folder of a run"):
        ShowAttendTell.from_preset(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name, spoil",
    [
        ("weights.npz", lambda x: x[: len(x) // 2]),
        ("weights.npz", lambda x: x[:200] + bytes([x[200] ^ 255]) + x[201:]),
        ("weights.npz", lambda x: b""),
        ("weights.npz", lambda x: b"version https://git-lfs"),
        ("config.json", lambda x: x[: len(x) // 2]),
        ("config.json", lambda x: b"[1]"),
        ("config.json", lambda x: b"\xff\xfe"),
        ("config.json", lambda x: x.replace(b'"captioner"', b'"x"')),
        ("config.json", lambda x: x.replace(b'"encoder"', b'"x"')),
        ("config.json", lambda x: x.replace(b"Reinforce", b"Later")),
        ("config.json", lambda x: x.replace(b'"hidden_size"', b'"later"')),
    ],
)
def test_a_torn_preset_names_the_file(name, spoil, tmp_path, capsys):
    toy().save_to_preset(tmp_path)
    path = tmp_path / name
    path.write_bytes(spoil(path.read_bytes()))
    said = f"Expected {name} as save_to_preset writes it. Received: {path}, damaged"
    with pytest.raises(ValueError, match=re.escape(said)):
        ShowAttendTell.from_preset(tmp_path)


def test_a_preset_that_was_edited_on_windows_is_read(tmp_path):
    """Where editors put a mark of the encoding before the text."""
    toy().save_to_preset(tmp_path, metadata={"made": "by hand"})
    for name in "config.json", "metadata.json":
        text = (tmp_path / name).read_text("utf-8").replace("\n", "\r\n")
        (tmp_path / name).write_text(text, "utf-8-sig")
    ShowAttendTell.from_preset(tmp_path)
    assert storage.read_metadata(tmp_path) == {"made": "by hand"}


def test_weights_have_stable_names():
    """Another captioner built before must not change what the file is called."""

    def names():
        parts = {"initial_state": FromMean(), "rerankers": [Detection(4), Grounding(4)]}
        return list(storage.named_weights(drawn(**parts)))

    first = names()
    toy()
    assert names() == first
    assert "decoder/initial_state/hidden/kernel" in first


# ------------------------------------------------------- files, in a new process


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "model.keras"
    model = toy(rerankers=[Detection(2)])
    model.decoder_options = {"decoder": "beam", "beam": 4}
    model.save(path)
    return path


@pytest.mark.parametrize(
    "imports",
    [
        "import sat_tf, importlib.util; importlib.util.find_spec('keras')",
        "import keras, sat_tf",
        "from sat_tf.estimators import Soft",  # imports Keras, and some of the classes
    ],
)
def test_keras_finds_our_classes_in_a_new_process(imports, keras_file):
    code = f"""
import warnings
warnings.simplefilter("error", UserWarning)
{imports}
import keras
model = keras.saving.load_model({str(keras_file)!r})
assert model.options().beam == 4 and not model.compiled
kind = keras.saving.get_registered_object("sat_tf>ShowAttendTell")
import sat_tf
assert kind is type(model) is sat_tf.ShowAttendTell
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_stand_ins_are_the_classes():
    """Before a class is there, something in its place makes it and knows it."""
    code = """
import sat_tf, keras, sys
stands = keras.saving.get_registered_object("sat_tf>Soft")
assert "sat_tf.captioner" not in sys.modules
assert isinstance(stands(), sat_tf.Soft)
assert isinstance(stands.from_config({}), sat_tf.Soft)
assert keras.saving.get_registered_object("sat_tf>Soft") is sat_tf.Soft
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_is_in_the_file(estimator, tmp_path):
    model = toy(estimator, rerankers=[Grounding(2)], dtype="mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    data = batch(model)
    rebuilt = (
        keras.saving.load_model(tmp_path / "model.keras", safe_mode=True),
        keras.models.clone_model(model),
        ShowAttendTell.from_config(model.get_config()),
    )
    for other in rebuilt:
        assert other.get_config() == {**model.get_config(), "name": other.name}
    np.testing.assert_array_equal(rebuilt[0](data), model(data))
