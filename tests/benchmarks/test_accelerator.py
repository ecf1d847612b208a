"""benchmarks/accelerator.py: it runs, and others can read the programs it writes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["greedy", "train_step_float32"])
def test_programs_are_measured_and_written(program, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/accelerator.py"), "--small"]
    given = ["--batches", "2", "--repeats", "1", "--only", program]
    done = subprocess.run(
        [*command, *given, "--hlo", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    (line,) = report["lines"]
    loops = 1 if program == "greedy" else 2  # there, and back
    assert len(line["operations_a_word"]) == loops
    assert len(line["instructions_a_word"]) == loops
    assert line["as_run"]["ms"] > 0 and line["compiled"]["ms"] > 0
    name = f"{program}_batch_2"
    assert "stablehlo.while" in (tmp_path / f"{name}.stablehlo.mlir").read_text()
    for stage in ("hlo", "optimized_hlo"):
        text = (tmp_path / f"{name}.{stage}.txt").read_text()
        assert text.startswith("HloModule") and " while(" in text
