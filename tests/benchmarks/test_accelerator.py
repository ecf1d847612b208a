"""benchmarks/accelerator.py: it runs, and others can read the programs it writes."""

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def report(*options):
    """What the script prints of small programs."""
    command = [sys.executable, str(ROOT / "benchmarks/accelerator.py"), "--small"]
    done = subprocess.run(
        [*command, "--batches", "2", *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_programs_are_measured():
    found = report("--repeats", "1", "--only", "greedy")
    (line,) = found["lines"]
    assert line["as_run"]["ms"] > 0 and line["compiled"]["ms"] > 0
    assert found["gflop_per_s"]["bfloat16"] > 0
    assert line["operations_a_word"][0] > 50


@pytest.mark.slow
@pytest.mark.parametrize("program, loops", [("greedy", 1), ("train_step_float32", 3)])
def test_programs_are_written(program, loops, tmp_path):
    (line,) = report("--only", program, "--hlo", str(tmp_path))["lines"]
    assert len(line["operations_a_word"]) == loops  # there, back, by blocks
    assert len(line["instructions_a_word"]) == loops
    name = f"{program}_batch_2"
    told = json.loads((tmp_path / f"{name}.inputs.json").read_text())
    assert len(told["answer"]) == (1 if "train" in program else 2)
    program = (tmp_path / f"{name}.stablehlo.mlir").read_text()
    (main,) = re.findall(r"func\.func @main\((.*?)\) ->", program)
    taken = re.findall(r"%arg\d+: tensor<([\dx]*?)x?[a-z]+\d+>", main)
    assert taken == ["x".join(map(str, x["shape"])) for x in told["inputs"]]
    assert "stablehlo.while" in (tmp_path / f"{name}.stablehlo.mlir").read_text()
    for stage in ("hlo", "optimized_hlo"):
        text = (tmp_path / f"{name}.{stage}.txt").read_text()
        assert text.startswith("HloModule") and " while(" in text


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3.5),
        np.zeros((4, 5), np.float32),
        np.array([7, -9]),
        np.random.default_rng(1).integers(3, 90, (40, 30)).astype(np.int32),
        np.random.default_rng(1).normal(0, 0.2, (100, 90)).astype(np.float32),
    ],
    ids=["scalar", "constant", "seed", "words", "weights"],
)
def test_inputs_are_drawn_alike(array, run_programs):
    told = json.loads(json.dumps(run_programs.described(np.asarray(array))))
    found = run_programs.drawn(told, seed=3)
    assert found.shape == np.shape(array) and found.dtype == np.asarray(array).dtype
    assert np.array_equal(found, run_programs.drawn(told, seed=3))
    if array.size <= 4 or not array.any():
        assert np.array_equal(found, array)
    elif found.dtype.kind == "i":
        assert (found.min(), found.max()) == (array.min(), array.max())
    else:
        assert np.std(found) == pytest.approx(np.std(array), rel=0.05)


@pytest.fixture
def run_programs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("run_programs")
