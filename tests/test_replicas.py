"""Training on several replicas: `two_replicas.py` does it, in a process of its own."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
import two_replicas

FOLDER = pathlib.Path(__file__).parent
pytestmark = pytest.mark.slow
# In bfloat16 a sum is rounded to 8 bits, and shares are other sums.
TOLERANCE = {"mixed_bfloat16": 1e-2}


@pytest.fixture(scope="module")
def found():
    done = subprocess.run(
        [sys.executable, "two_replicas.py"],
        cwd=FOLDER,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [*two_replicas.CASES, "see"])
def test_two_replicas_are_one_device_where_nothing_is_drawn(found, name):
    """Weights, moving averages, moments and what `fit` and `evaluate` show."""
    assert found["apart"][name] < TOLERANCE.get(name, 1e-5)


def test_replicas_draw_differently(found):
    draws = found["draws"]
    assert draws["first_as_one_device"] > 0.999  # but for rounding
    assert draws["same_locations"] < 0.5
    assert draws["same_dropout"] < 0.95


def test_means_over_draws_agree(found):
    draws = found["draws"]
    assert draws["replicas_apart"] < 2 * draws["seeds_apart"] < 1


@pytest.mark.parametrize(
    "name, words",
    [
        ("array", "that 2 replicas can divide evenly. Received: 3 captions. Choose"),
        ("data set", "that 2 replicas can divide evenly. Received: 3 captions. Choose"),
        ("on batch", "that 2 replicas can divide evenly. Received: 3 captions. Choose"),
        ("outside", "one and the same strategy. Received: _DefaultDistributionStra"),
        ("compiled outside", "one and the same strategy. Received: MirroredStrategy"),
        ("estimator outside", "baseline, made outside. Make estimators, encoders and"),
        ("central", "Expected a MirroredStrategy for several replicas or machines"),
        ("predict", "Expected one replica to predict with. Received: num_replicas_in"),
        (
            "reranker",
            "on one device to fit a reranker to. Received: num_replicas_",
        ),
        ("two strategies", "Expected one MirroredStrategy in a process, as TensorFlow"),
    ],
)
def test_what_cannot_be_done_gets_a_sentence(found, name, words):
    assert words in found["refused"][name]


def test_a_run_resumes_on_another_number_of_replicas(found):
    """Begun on one device, ended and judged on two: as if it had stayed on one."""
    run = found["run"]
    assert run["stopped"] == 130
    assert run["apart"] < 1e-5
    assert run["bleu_4"][0] == pytest.approx(run["bleu_4"][1])
    assert "data.batch_size=7. Set data.batch_size=8." in run["refused"]
