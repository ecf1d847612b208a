"""Stopping and resuming, with real processes. Imports nothing that loads slowly."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

import sat_tf
from sat_tf.bench.units import Unit, work_off

SLOW, NUMBER = 2, 4
TIMEOUT = 120  # seconds, on a busy machine


def work(folder, i):
    """Notes that it began; the slow one hangs until it is let go."""
    with open(folder / "began", "a") as file:
        file.write(f"{i} {os.getpid()}\n")
    while i == SLOW and not (folder / "go").exists():
        time.sleep(0.02)
    return {"i": i, "process": os.getpid()}


def broken(folder, i):
    raise RuntimeError("spilt milk")


def units(folder):
    paths = [folder / "results" / f"{i}.json" for i in range(NUMBER)]
    return [Unit(path, work, (folder, i)) for i, path in enumerate(paths)]


def began(folder):
    """Number and process of every beginning so far."""
    path = folder / "began"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines]


def wait_until(true):
    end = time.monotonic() + TIMEOUT
    while not true():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)


def gone(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    state = pathlib.Path(f"/proc/{process}/stat")
    return state.is_file() and state.read_text().split()[2] == "Z"


CODE = """
import pathlib, signal, sys, test_units as t
signal.signal(signal.SIGINT, signal.default_int_handler)
t.work_off(t.units(pathlib.Path(sys.argv[1])), quiet=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stop_costs_the_unit_in_progress_and_no_other(how, tmp_path):
    here = str(pathlib.Path(__file__).parent)
    package = str(pathlib.Path(sat_tf.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([here, package])},
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(began(tmp_path)) == SLOW + 1)
    process.send_signal(how)
    assert process.wait(TIMEOUT) != 0
    wait_until(lambda: gone(began(tmp_path)[SLOW][1]))
    results = tmp_path / "results"
    assert sorted(p.name for p in results.iterdir()) == ["0.json", "1.json"]
    before = [(results / f"{i}.json").read_text() for i in range(SLOW)]

    (tmp_path / "go").touch()
    work_off(units(tmp_path), quiet=True)
    assert [i for i, _ in began(tmp_path)] == [0, 1, 2, 2, 3]
    assert [(results / f"{i}.json").read_text() for i in range(SLOW)] == before
    found = [json.loads((results / f"{i}.json").read_text()) for i in range(NUMBER)]
    assert [x["i"] for x in found] == [0, 1, 2, 3]
    assert len({x["process"] for x in found} - {os.getpid()}) == NUMBER


def test_a_unit_that_fails_leaves_no_result_and_says_which(tmp_path, capfd):
    several = [
        Unit(tmp_path / "0.json", work, (tmp_path, 0)),
        Unit(tmp_path / "1.json", broken, (tmp_path, 1)),
        Unit(tmp_path / "2.json", work, (tmp_path, 3)),
    ]
    with pytest.raises(ChildProcessError, match="unit 1 .* exit status 1"):
        work_off(several)
    errors = capfd.readouterr().err
    assert "spilt milk" in errors and "1/3" in errors
    assert [p.name for p in tmp_path.glob("*.json")] == ["0.json"]
