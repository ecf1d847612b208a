"""Units of work, each in a process of its own, each a JSON file when it is done."""

import json
import multiprocessing
import multiprocessing.connection
import os
import pathlib
import signal
import threading
from collections.abc import Callable
from typing import NamedTuple

from tqdm import tqdm

from sat_tf.runtime.files import replacing


class Unit(NamedTuple):
    """Something to be worked out once."""

    path: pathlib.Path
    """Where the result goes, a JSON file; until it is there the unit is not done."""
    work: Callable
    """A function of a module, to be found again by the process that calls it."""
    arguments: tuple
    """What it is called with; it returns JSON values."""


def work_off(units, *, quiet=False):
    """Works on the units that are not done, one after the other.

    A process each, so that time and memory are the unit's own. A stop at any moment,
    be it Ctrl-C or a power cut, costs the unit in progress and no other.

    Args:
        units: list of `Unit`.
        quiet: show no bar.

    Raises:
        ChildProcessError: a unit failed.
    """
    todo = [unit for unit in units if not unit.path.is_file()]
    done = len(units) - len(todo)
    with tqdm(total=len(units), initial=done, unit="unit", disable=quiet) as bar:
        for unit in todo:
            bar.set_description(f"{unit.path.parent.name} {unit.path.stem}")
            work_on(unit)
            bar.update()


def work_on(unit):
    """Works on one unit, in a process of its own."""
    spawn = multiprocessing.get_context("spawn")  # a fork of TensorFlow would hang
    process = spawn.Process(target=_write, args=(unit,), daemon=True)
    process.start()
    try:
        process.join()
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
    if process.exitcode:
        raise ChildProcessError(
            f"Expected the unit {unit.path.stem} of {unit.path.parent} to finish. "
            f"Received: exit status {process.exitcode}; what it said is above. "
            "Mend that, or leave it out, and give the same command again: "
            "what is done is kept."
        )


def _write(unit):
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    threading.Thread(target=_follow_parent, daemon=True).start()
    result = unit.work(*unit.arguments)
    with replacing(unit.path) as beside:
        beside.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def _follow_parent():
    """Ends with a parent that was killed, or two units would be timed at once."""
    parent = multiprocessing.parent_process()
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
