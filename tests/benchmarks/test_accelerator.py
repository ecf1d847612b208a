"""benchmarks/accelerator.py: it runs, and others can read the programs it writes."""

import json
import os
import pathlib
import subprocess
import sys

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
    assert "stablehlo.while" in (tmp_path / f"{name}.stablehlo.mlir").read_text()
    for stage in ("hlo", "optimized_hlo"):
        text = (tmp_path / f"{name}.{stage}.txt").read_text()
        assert text.startswith("HloModule") and " while(" in text
