"""Batches of constant shape: what fills them up counts for nothing, and XLA rests."""

import os
import subprocess
import sys

import keras
import numpy as np
import own_run
import pytest
import tensorflow as tf
from toy import batch, toy

from sat_tf.estimators import ESTIMATORS, Reinforce, Rloo
from sat_tf.reranking.detection import Detection

CAPTIONS, FILLING, SAMPLES = 3, 4, 4


def table(seed):
    """Uniform numbers of steps, samples, captions and places, the same for all."""
    rng = np.random.default_rng(seed)
    return tf.constant(
        rng.uniform(0.01, 0.99, [8, SAMPLES, CAPTIONS + FILLING, 4]), tf.float32
    )


def draw_alike(estimator):
    """What an estimator draws of a caption does not depend on those behind it."""

    def gumbel(shape, seed, step):
        return -tf.math.log(-tf.math.log(table(17)[step, : shape[0], : shape[1]]))

    def draw(logits, seed, step):
        noise = gumbel(tf.shape(logits), seed, step)
        return tf.one_hot(tf.argmax(logits + noise, axis=-1), 4)

    def exponential(shape, seed):
        noise = -tf.math.log(table(23)[: shape[2], : shape[0], : shape[1]])
        return tf.transpose(noise, [1, 2, 0, 3])

    estimator.draw = draw
    if hasattr(estimator, "noise"):
        rebar = isinstance(estimator, ESTIMATORS["rebar"])
        estimator.noise = exponential if rebar else gumbel


def filled(data):
    """A batch with rows of padding behind it that share its images."""
    rows = np.concatenate([np.arange(CAPTIONS), np.full(FILLING, CAPTIONS - 1)])
    tokens = tf.pad(data["tokens"], [[0, FILLING], [0, 0]])
    return {**data, "tokens": tokens, "rows": tf.constant(rows, tf.int32)}


PLAIN = {name: (kind, {}) for name, kind in ESTIMATORS.items()}
OTHER = {
    "batch_sum": (Reinforce, dict(batch_sum=True, lambda_e=0.1, reward="per_word")),
    "semi_sampling": (Reinforce, dict(semi_sampling=0.5)),
    "to_go": (Rloo, dict(reward="to_go", normalise_advantage=True)),
    "nvil": (Reinforce, dict(baseline="nvil", reward="to_go")),
    "soft_baseline": (Reinforce, dict(baseline="soft")),
    "inference": (ESTIMATORS["ws_ram"], dict(proposal="inference")),
    "step_sampled": (ESTIMATORS["step_marginal"], dict(carry="sampled", top_k=2)),
}


@pytest.mark.parametrize("name", [*PLAIN, *OTHER])
def test_filling_counts_for_nothing(name):
    """Neither in weights and states after an update, nor in what `fit` shows."""
    kind, options = {**PLAIN, **OTHER}[name]
    found = []
    for change in (dict, filled):
        keras.utils.set_random_seed(17)
        model = toy(kind(**options), lambda_ds=0.1, label_smoothing=0.1)
        draw_alike(model.estimator)
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        model.compiled_updates = keras.optimizers.SGD.apply_gradients  # compiles less
        logs = model.train_step(change(batch(model, lengths=(2, 4, 3))))
        shown = [float(logs[key]) for key in sorted(logs)]
        found.append((shown, [v.numpy() for v in model.variables]))
    (shown, weights), (shown_filled, weights_filled) = found
    np.testing.assert_allclose(shown_filled, shown, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(weights_filled, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_filling_counts_for_nothing_in_the_detector():
    found = []
    for change in (dict, filled):
        keras.utils.set_random_seed(17)
        model = toy("soft", rerankers=[Detection(3)])
        data = change(batch(model, lengths=(2, 4, 3)))
        with tf.GradientTape() as tape:
            loss, _ = model.loss_of(data)
        weights = model.rerankers[0].trainable_variables
        found.append([loss, *tape.gradient(loss, weights)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


# Photographs with one to nine captions, trained with the trunk, for two epochs; then
# once more from their features.
UNEVEN = """
import glob, sys, tempfile
import numpy as np
from sat_tf import Encoder, ShowAttendTell
from sat_tf.datasets import cache, pipeline

rng = np.random.default_rng(17)
words = ["red", "blue", "dog", "cat"]
captions = [
    [" ".join(rng.choice(words, rng.integers(2, 6))) for _ in range(number)]
    for number in rng.integers(1, 10, 25)
]

def programs():
    return len(glob.glob(sys.argv[1] + "/*before_optimizations.txt"))

def train(encoder, key, shape):
    records = cache.write(
        tempfile.mkdtemp(),
        lambda *span: (np.full([1, *shape], i, "uint8") for i in range(*span)),
        n_records=25, record_shape=shape, dtype="uint8", fingerprint={},
    )
    sizes = {"embedding_size": 4, "hidden_size": 5, "attention_size": len(key)}
    model = ShowAttendTell(words, encoder=encoder, **sizes)
    model.compile(optimizer="adam")
    plan = pipeline.Schedule(
        captions, model.vocabulary, batch_size=16, seed=1, together=key == "image"
    )
    traces, step = [], model.train_step
    model.train_step = lambda data: traces.append(data) or step(data)
    before = programs()
    batches = pipeline.training_batches(records, plan, key=key)
    model.fit(batches, epochs=2, steps_per_epoch=plan.steps_per_epoch, shuffle=False)
    print("found", key, programs() - before, len(traces))

train(Encoder("convnet", weights=None, image_size=(32, 32)), "image", (32, 32, 3))
train(Encoder("none", features_shape=(2, 2, 3)), "annotations", (4, 3))
"""


def test_xla_compiles_once_for_uneven_photographs(tmp_path):
    """e^2p, f_att, its three gradients, the update: six programs, one trace of all."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_dump_to={tmp_path} --xla_dump_hlo_as_text"
    done = subprocess.run(
        [sys.executable, "-c", UNEVEN, str(tmp_path)],
        env={**own_run.environment(), "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [line for line in done.stdout.splitlines() if line.startswith("found")]
    assert found == ["found image 6 1", "found annotations 6 1"]
