"""What somebody does who has installed the wheel: caption, demo, Ctrl-C, demo again.

    python .ci/first_minute.py drawing.jpg

Run it with the Python of an environment that has the wheel and nothing else. The home
is empty, the working directory outside the checkout.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

LIMIT = 600  # s, for each command; a quiet machine takes less than 60
COMMAND = pathlib.Path(sys.executable).with_name("sat-tf")
ELSEWHERE = ("SAT_TF_", "TFDS_", "KERAS_", "XDG_", "MPLCONFIGDIR", "PYTHONPATH")


def main(drawing):
    """Exits with what was expected and what came instead, or says that all is well."""
    # A shell that starts this in the background has it ignore interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as home:
        env = {k: v for k, v in os.environ.items() if not k.startswith(ELSEWHERE)}
        place = {"cwd": home, "env": {**env, "HOME": home}}
        said = run(place, "caption", drawing, "--model", "scenes_hard")
        expect(said.removeprefix(f"{drawing}: ").split(), "a caption", said)
        said = run(place, "caption", drawing)
        expect(said.removeprefix(f"{drawing}: ").split(), "a caption", said)
        said = run(place, "explain", drawing, "--caption", "a red ball")
        expect(len(said.splitlines()) == 3, "a line for each word", said)
        said = run(place, "serve", "--help")
        expect("--port" in said, "the options of serve", said)
        first = interrupted(place, pathlib.Path(home, "out", "run"), 0)
        second = interrupted(place, pathlib.Path(home, "out", "run"), first)
    print(f"The wheel's first minute: stopped at update {first}, then at {second}.")


def run(place, *arguments):
    """The output of a command that has to succeed."""
    done = subprocess.run(
        [COMMAND, *arguments], **place, capture_output=True, text=True, timeout=LIMIT
    )
    expect(done.returncode == 0, f"{arguments[0]} to succeed", done)
    return done.stdout


def interrupted(place, run_folder, step):
    """Runs the demo until a checkpoint after `step`, then Ctrl-C: its update."""
    log = pathlib.Path(place["cwd"], "log")
    with log.open("w") as file:
        demo = subprocess.Popen(
            [COMMAND, "demo", "--out", "out"],
            **place,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    end = time.monotonic() + LIMIT
    while saved(run_folder) <= step and demo.poll() is None and time.monotonic() < end:
        time.sleep(0.2)
    demo.send_signal(signal.SIGINT)
    status, output = demo.wait(timeout=LIMIT), log.read_text()[-2000:]
    expect(saved(run_folder) > step, f"updates after {step} in {LIMIT} s", output)
    expect("loss: " in output, "the progress of training", output)
    expect(status == 130, "the status of a command that Ctrl-C stopped", status)
    expect("repeat the command to resume" in output, "a word on resuming", output)
    return saved(run_folder)


def saved(run_folder):
    """The update of the checkpoint, 0 if there is none."""
    path = run_folder / "checkpoint.npz"
    if not path.is_file():
        return 0
    with np.load(path) as arrays:
        return json.loads(str(arrays["progress"]))["step"]


def expect(truth, what, received):
    """As an assertion, which `python -O` would drop."""
    if not truth:
        sys.exit(f"Expected {what}. Received: {received}")


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
