"""A trunk that learns the words of captions, in a file that `train` takes."""

import json
import re

import keras
import numpy as np
import own_run
import pytest
from quick_run import HARD

from sat_tf import ShowAttendTell, cli
from sat_tf.training import tuning
from sat_tf.trunks import make_network, pretrained
from sat_tf.trunks.pretrained import Trunk

TRUNK = "small"
CHANGES = {
    **HARD,
    "model.trunk": TRUNK,
    "model.rerankers": '{"alignment":{"hidden_size":16}}',
    "stages.see": "{}",
}


def command(name, out, *options, **changes):
    """`sat-tf train` or `tune-trunk` of the own data."""
    arguments = own_run.train_arguments(out, {**CHANGES, **changes})
    return cli.main([name, *arguments[1:], *options, "--json"])


def small(weights=None, input_shape=(32, 32, 3)):
    """Came trained, as far as anybody can tell; all that is behind the cut is lost."""
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(8, 8, strides=8, activation="relu", name="lower")(images)
    return keras.Model(images, keras.layers.Conv2D(2, 1, name="upper")(x))


@pytest.fixture(autouse=True)
def passes(quick, monkeypatch):
    """More passes, as one is a single update: of so few images."""
    monkeypatch.setattr(tuning, "PASSES", 10)
    trunk = Trunk(small, ("lower",), lambda images: images / 255)
    monkeypatch.setitem(pretrained.TRUNKS, TRUNK, trunk)


def weights_of(path):
    return make_network(TRUNK, path, (32, 32)).get_weights()


def test_the_words_are_learned_and_trained_on(tmp_path, monkeypatch, capsys):
    losses, tuned = {}, {}
    for rate in (0.0, 1e-2):
        monkeypatch.setattr(tuning, "RATE", rate)
        out = tmp_path / f"{rate}.weights.h5"
        assert command("tune-trunk", out) == 0
        said = json.loads(capsys.readouterr().out)  # and nothing else
        assert said["path"] == str(out)
        losses[rate], tuned[rate] = said["loss"], weights_of(out)
    assert losses[1e-2] < 0.9 * losses[0.0]
    assert len(list(tmp_path.iterdir())) == 2  # nothing that was needed on the way
    assert command("train", tmp_path / "run", "--encoder-weights", str(out)) == 0
    found = ShowAttendTell.from_preset(tmp_path / "run").encoder.network.get_weights()
    for mine, same, other in zip(found, tuned[1e-2], tuned[0.0], strict=True):
        np.testing.assert_array_equal(mine, same)
        assert not np.array_equal(mine, other)


def test_goes_on_behind_the_last_whole_pass(tmp_path, monkeypatch, capsys):
    """With the head as it was then: it is fitted once."""
    fits, passes = [], []
    fit_head, on_epoch_begin = tuning._Session.fit_head, tuning._Pixels.on_epoch_begin

    def fits_head(self):
        fits.append(1)
        fit_head(self)

    def begins(self):
        if len(passes) == dies_in:
            raise KeyboardInterrupt
        on_epoch_begin(self)
        passes.append(1)

    monkeypatch.setattr(tuning._Session, "fit_head", fits_head)
    monkeypatch.setattr(tuning._Pixels, "on_epoch_begin", begins)
    out, dies_in = tmp_path / "tuned.weights.h5", 1 + 3  # one when it is made
    assert command("tune-trunk", out) == 130
    assert "repeat the command" in capsys.readouterr().err and not out.exists()
    passes.clear()
    dies_in = None
    assert command("tune-trunk", out) == 0
    assert len(fits) == 1 and len(passes) == 1 + tuning.PASSES - 3
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("tuned.h5", {}, r"Expected a file of weights, \*.weights.h5. Received: out="),
        ("t.weights.h5", {"model.trunk": "convnet"}, "a trunk that comes trained"),
        ("t.weights.h5", {"model.rerankers": "{}"}, "a reranker that locates words"),
    ],
)
def test_what_cannot_be_tuned_is_refused(name, changes, said, tmp_path, capsys):
    assert command("tune-trunk", tmp_path / name, **changes) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())
