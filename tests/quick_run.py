"""Training on the own data with updates that cost nothing but depend on order."""

import functools
import types

import keras
import numpy as np
import own_run
import pytest
from own_run import STEPS

from sat_tf import cli, datasets
from sat_tf.model import encoder
from sat_tf.recipes import RECIPES
from sat_tf.training import callbacks, loop

FINE_TUNED = {
    "model.trunk": "mobilenet",
    "stages.warm_up.epochs": 0,
    "stages.train.epochs": 1,
    "stages.fine_tune.epochs": 2,
    "optimizer.encoder_rate": 0.1,
}
# Two epochs of the estimator, and no softness before.
HARD = {"stages.warm_up.epochs": 0, "stages.train.epochs": 2}


def arrays_of(path):
    """The variables in a checkpoint."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files if name != "progress"}


@functools.cache
def loaded(data, split, *, data_dir=None, cache_dir=None):
    """`datasets.load`, once in all tests."""
    return datasets.load(data, split, data_dir=data_dir, cache_dir=cache_dir)


def vector_of(captioner):
    """Of f_att, which the updates move."""
    return captioner.network.attention.vector.numpy()


def trunk_of(captioner):
    """The weights of the trunk."""
    return [v.numpy() for v in captioner.encoder.network.weights]


def own_recipe(changes=()):
    """The recipe of the own data."""
    return RECIPES["scenes"].replace(own_run.RECIPE).replace(dict(changes))


def train_on(data, out, *options):
    """The exit status of `sat-tf train`."""
    arguments = own_run.train_arguments(out)
    arguments[arguments.index("own")] = str(data)
    return cli.main([*arguments, *options, "--json"])


def _fit(state):
    def fit(self, data, *, callbacks, steps_per_epoch, **_):
        for batch in data.take(steps_per_epoch).as_numpy_iterator():
            vector = self.network.attention.vector
            moved = float(np.sum(batch["tokens"] ** 2)) / 1e3
            vector.assign(0.7 * vector + moved)
            self.optimizer.iterations.assign_add(1)
            state.read.append("image" if "image" in batch else "annotations")
            if self.encoder_optimizer is not None:
                self.encoder_optimizer.iterations.assign_add(1)
                for weight in self.encoder.trainable_variables:
                    seen = float(np.mean(batch["image"])) / 1e3
                    steps = float(self.encoder_optimizer.iterations)
                    weight.assign(0.7 * weight + moved * seen + steps / 10)
            step = callbacks[0].progress.step
            state.used.append(type(self.estimator))
            callbacks[0].set_model(self)
            loss = state.losses.get(step, 1.0)
            if loss == "nan after":
                vector.assign(vector * np.nan)
                loss = 1.0
            callbacks[0].on_train_batch_end(0, {"loss": loss})
        return types.SimpleNamespace(history={"loss": [1.0]})

    return fit


@pytest.fixture
def quick(monkeypatch):
    """`train` on the own data.

    Returns a namespace: `train(out, changes)`; `bleu`, the validation scores to come;
    `used`, the estimator of every update; `read`, what it got of the images; `losses`,
    values to report.
    """
    for name, value in own_run.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(own_run.workplace())
    monkeypatch.setattr(callbacks, "SAVE_EVERY", 1)
    monkeypatch.setattr(loop, "load", loaded)
    state = types.SimpleNamespace(bleu={}, used=[], read=[], losses={})

    def validate(session):
        epoch = int(session.captioner.optimizer.iterations.numpy()) // STEPS
        return {"val_bleu_4": state.bleu.get(epoch, float(epoch))}

    monkeypatch.setattr(loop.ShowAttendTell, "fit", _fit(state))
    monkeypatch.setattr(loop, "_validate", validate)

    def train(out, changes=(), **options):
        recipe = own_recipe(changes)
        return loop.train(recipe, "own", out, verbose=0, **options)

    state.train = train
    return state


@pytest.fixture
def small_trunk(monkeypatch):
    """A trunk that came trained, as far as anybody can tell: 2 x 2 locations."""

    def network(trunk, weights, image_size):
        images = keras.Input((*image_size, 3))
        x = keras.layers.Rescaling(1 / 255)(images)
        x = keras.layers.Conv2D(4, 16, strides=16, activation="relu")(x)
        x = keras.layers.BatchNormalization()(x)
        return keras.Model(images, x, name=trunk)

    monkeypatch.setattr(encoder, "make_network", network)


@pytest.fixture
def whole(quick, tmp_path, undisturbed=[]):  # noqa: B006, trained once
    """Vector and history of a run of two epochs that nothing disturbed."""
    if not undisturbed:
        captioner, history = quick.train(tmp_path / "whole", HARD)
        undisturbed += [vector_of(captioner), history]
    return undisturbed
