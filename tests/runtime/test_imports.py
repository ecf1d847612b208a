"""What is imported, and what is heard of it, in processes that have not done so yet."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]


def test_figures_are_drawn_by_what_keras_did_without(tmp_path):
    program = """
import sys
from sat_tf.runtime.imports import import_keras
import_keras()
assert "keras" in sys.modules
assert not {"matplotlib", "IPython", "tensorflow_datasets"} & sys.modules.keys()
from sat_tf.evaluation.figures import save_figure
import matplotlib.pyplot as plt
save_figure(plt.figure(), sys.argv[1])
"""
    subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "figure.png")], check=True
    )


MODULE = """
import os
os.write(2, b"a notice\\n")
print("said", file=__import__("sys").stderr)
value = 17
{last}
"""
PROGRAM = """
import sys
from sat_tf.runtime.imports import Quietly
sys.meta_path.insert(0, Quietly("{quiet}"))
{before}
import noisy
print(noisy.value, noisy.__spec__.name)
print("heard", file=sys.stderr)
"""

FULL = """
import tempfile
def full():
    raise OSError(28, "No space left on device")
tempfile.TemporaryFile = full
"""


@pytest.mark.parametrize(
    "quiet, last, before, status, heard",
    [
        ("noisy", "", "", 0, ["heard"]),
        ("other", "", "", 0, ["a notice", "said", "heard"]),
        ("noisy", "raise OSError('broken')", "", 1, ["a notice", "said"]),
        ("noisy", "raise KeyboardInterrupt", "", -signal.SIGINT, []),
        ("noisy", "", "sys.__stderr__ = None", 0, ["a notice", "said", "heard"]),
        ("noisy", "", FULL, 0, ["a notice", "said", "heard"]),
    ],
    ids=["quiet", "another", "fails", "stopped", "no stream", "full disk"],
)
def test_a_module_is_imported_without_its_notices(
    quiet, last, before, status, heard, tmp_path
):
    (tmp_path / "noisy.py").write_text(MODULE.format(last=last))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(quiet=quiet, before=before)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert done.stdout == ("" if status else "17 noisy\n")
    lines = done.stderr.splitlines()
    assert lines[: len(heard)] == heard
    assert ("a notice" in lines) == ("a notice" in heard)
    ends = {0: "heard", 1: "OSError: broken", -signal.SIGINT: "KeyboardInterrupt"}
    assert lines[-1] == ends[status]


@pytest.mark.parametrize("asked", [False, True])
def test_the_commands_do_not_greet(asked, tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    if asked:
        env["TF_CPP_MIN_LOG_LEVEL"] = "0"
    done = subprocess.run(
        [sys.executable, "-m", "sat_tf.cli", "evaluate", "nobody", "--data", "own"]
        + ["--out", str(tmp_path / "out")],
        env={**env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    told = done.stderr.splitlines()
    assert told[-1].startswith("sat-tf evaluate: Expected")
    assert asked == (len(told) > 1)
