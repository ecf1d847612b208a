"""benchmarks/compare.py between two checkouts that are stand-ins, in real processes."""

import importlib.util
import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TIMEOUT = 300  # seconds, on a busy machine
# What benchmarks/epoch_order.py calls.
PIPELINE = """
import pathlib, time

class Batches:
    def __init__(self, *given):
        with open(pathlib.Path(__file__).with_name("runs"), "a") as file:
            file.write("x")
        time.sleep({seconds})

    def of_epoch(self, epoch):
        pass
"""


def checkout(folder, seconds):
    """A package of which nothing is there but what takes so many seconds."""
    package = folder / "sat_tf" / "datasets"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "pipeline.py").write_text(PIPELINE.format(seconds=seconds))
    return folder


def runs(folder):
    """How often a checkout was measured."""
    noted = folder / "sat_tf/datasets/runs"
    return len(noted.read_text()) if noted.exists() else 0


def start(folder, *options):
    """The command, in a process of its own, of one measurement in three rounds."""
    named = [str(folder / "before"), str(folder / "after"), "--quick", "--rounds", "3"]
    kept = ["--out", str(folder / "out.json"), "--work", str(folder / "work")]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "benchmarks/compare.py"), *named, *kept]
        + ["--only", "epoch_order", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has them ignore interrupts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def compared(folder):
    """What the file holds."""
    return json.loads((folder / "out.json").read_text())["compared"]


def tables():
    """docs/tables.py, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_both_take_turns_until_stopped_and_go_on_where_they_were(tmp_path):
    before = checkout(tmp_path / "before", 0.4)
    after = checkout(tmp_path / "after", 0.2)
    (tmp_path / "out.json").write_text('{"train_step": [1]}')
    process = start(tmp_path)
    end = time.monotonic() + TIMEOUT
    while not runs(after) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130, errors
    assert "repeat the command" in errors
    first = compared(tmp_path)["measurements"]["epoch_order"]["runs"]

    process = start(tmp_path, "--only", "epoch_order,cache_memory")
    _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, errors
    measured = compared(tmp_path)["measurements"]["epoch_order"]
    assert measured["runs"][: len(first)] == first
    sides = [(one["round"], one["side"][0]) for one in measured["runs"]]
    assert sides == [(0, "b"), (0, "a"), (1, "a"), (1, "b"), (2, "b"), (2, "a")]
    assert runs(before) == 3
    assert measured["figures"][0]["before"]["min"] >= 0.4
    assert measured["figures"][0]["ratio"]["max"] < 1
    assert json.loads((tmp_path / "out.json").read_text())["train_step"] == [1]

    # No stand-in has what this one needs: it is tried once each.
    for one in compared(tmp_path)["measurements"]["cache_memory"]["runs"]:
        assert one["round"] == 0 and "cannot import name" in one["error"]
    assert {"machine", "versions", "date"} <= compared(tmp_path).keys()

    page = tables()
    page.read = lambda name: {"compared": compared(tmp_path)}
    assert "order of 50 million captions, start, s | 0.4" in page.compared()
    assert "| no figure | no figure |" in page.compared()
    assert "| small, as a try |" in page.compared_on()

    other = start(tmp_path, "--data-dir", str(tmp_path))
    _, errors = other.communicate(timeout=TIMEOUT)
    assert other.returncode == 1 and "Choose another --out" in errors
