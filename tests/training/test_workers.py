"""A run of several processes; `two_replicas.py` trains on several devices of one."""

import json
import signal
import socket
import time

import numpy as np
import own_run
import pytest
import tensorflow as tf

from sat_tf.training import strategies
from sat_tf.training import workers as several

pytestmark = pytest.mark.slow
SOFT = {
    "estimator": "soft",
    "model.dropout": "0",
    # Adam makes a whole step of what rounding leaves of a gradient that is zero.
    "optimizer.name": "rmsprop",
    "optimizer.learning_rate": "1e-4",
    "stages.warm_up.epochs": "0",
    "stages.train.epochs": "2",
}
LEFT_OUT = ("estimator.reward", "estimator.baseline", "estimator.samples")


def arguments(out):
    """Of `sat-tf train`, where nothing is drawn."""
    recipe = {**own_run.RECIPE, **SOFT}
    recipe = {name: value for name, value in recipe.items() if name not in LEFT_OUT}
    named = ["train", "--data", "own", "--preset", "scenes", "--out", out, "--json"]
    return [*named, *own_run.setting(recipe)]


def workers(out, monkeypatch, code=None):
    """The chief and another worker, in processes of their own."""
    free = [socket.create_server(("localhost", 0)) for _ in range(2)]
    addresses = [f"localhost:{each.getsockname()[1]}" for each in free]
    for each in free:
        each.close()
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        named = [*arguments(out), "--strategy", "multi_worker"]
        yield own_run.sat_tf_process(*named, code=code)


def paused(process, seconds):
    """Stops a process for a while, as a busy machine or a slow disk does."""
    process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def ended(processes):
    """Status, output and errors of each."""
    said = [process.communicate(timeout=own_run.TIMEOUT) for process in processes]
    return [(p.returncode, *each) for p, each in zip(processes, said, strict=True)]


def weights(out):
    """What a run's checkpoint holds."""
    with np.load(own_run.workplace() / out / "checkpoint.npz") as arrays:
        return [arrays[name] for name in sorted(arrays.files) if name != "progress"]


def test_workers_that_are_killed_end_as_one_device(monkeypatch):
    """Both start again, by what started them, and go on from the chief's checkpoint.

    A worker that is only slow, for longer than TensorFlow would wait, ends nothing.
    """
    chief, other = workers("workers", monkeypatch, own_run.DAWDLING)
    for line in chief.stdout:
        if line == "saved 1\n":
            paused(other, seconds=13)
        if line == "saved 2\n":
            other.kill()
            break
    else:
        pytest.fail(f"it ended before that: {ended([chief, other])}")
    stopped, _ = ended([chief, other])
    assert stopped[0] == 2, stopped
    assert "Expected all workers" in stopped[2].splitlines()[-1], stopped

    finished, silent = ended(list(workers("workers", monkeypatch)))
    assert finished[0] == silent[0] == 0, (finished, silent)
    assert [row["epoch"] for row in json.loads(finished[1])] == [1, 2]
    assert silent[1] == ""
    monkeypatch.delenv("TF_CONFIG")
    status, *said = own_run.command(*arguments("alone"))
    assert status == 0, said
    for ours, theirs in zip(weights("workers"), weights("alone"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


TWO = '"cluster":{"worker":["localhost:1","localhost:2"]}'


@pytest.mark.parametrize(
    "config, why",
    [
        (None, "None (no cluster)"),
        ('{"task":{"type":"worker","index":0}}', "(no cluster)"),
        ("{bad", "'{bad' (Expecting property name"),
        (f"{{{TWO}}}", "you must also specify"),
        (f'{{{TWO},"task":{{"type":"worker","index":2}}}}', "exceeds the maximum id"),
        (f'{{{TWO},"task":{{"type":"ps","index":0}}}}', "'ps' not found"),
    ],
)
def test_half_a_tf_config_gets_a_sentence(config, why, monkeypatch):
    """TensorFlow would train alone where it is told of no workers."""
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match="Expected TF_CONFIG to name all") as refused:
        strategies.make("multi_worker")
    assert why in str(refused.value)


@pytest.mark.parametrize(
    "kind, message",
    [
        ("Unavailable", "Collective ops is aborted by: Socket closed\nmore"),
        (
            "Unavailable",
            "Graph execution error:\n\nDetected at node X defined at\n  File x\n"
            "Collective ops is aborted by: Socket closed\nAdditional GRPC error",
        ),
        ("Unavailable", "Socket closed."),
        (
            "DeadlineExceeded",
            "{{function_node __wrapped__CollectiveReduceV2}} Collective ops is "
            "aborted by: Socket closed:\n\nRPC: /tensorflow.CoordinationService",
        ),
        (
            "FailedPrecondition",
            "Collective ops is aborted by: Socket closed. "
            "[type.googleapis.com/tensorflow.CoordinationServiceError='']\nmore",
        ),
    ],
)
def test_what_ended_a_worker_is_found_in_what_tensorflow_says(kind, message):
    with pytest.raises(OSError, match="Received: Socket closed. Start all of them"):
        with several.together():
            raise getattr(tf.errors, f"{kind}Error")(None, None, message)


def test_other_errors_of_tensorflow_stay_what_they_are():
    with pytest.raises(tf.errors.InvalidArgumentError, match="shapes"):
        with several.together():
            raise tf.errors.InvalidArgumentError(None, None, "two shapes")
