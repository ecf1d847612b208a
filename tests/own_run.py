"""A user's own folder of images, and a captioner trained on it, both tiny."""

import atexit
import csv
import functools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types

import numpy as np
import PIL.Image

import sat_tf

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "green": (30, 200, 30)}
SIDES = {"left": 2, "right": 18}
IMAGES = {"train": 12, "validation": 4, "test": 4}
TIMEOUT = 600  # seconds, on a busy machine
EPOCHS, STEPS = 2, 3  # per epoch: 12 images, all captions of 4 at a time

# Soft for an epoch, then hard: a run has to survive being stopped in either.
RECIPE = {
    "model.image_size": "[32,32]",
    "model.embedding_size": "8",
    "model.hidden_size": "16",
    "model.attention_size": "8",
    "estimator": "reinforce",
    "estimator.reward": "to_go",
    "estimator.baseline": "leave_one_out",
    "estimator.samples": "2",
    "data.batch_size": "8",
    "stages.warm_up.epochs": "1",
    "stages.train.epochs": "1",
    "decoding.max_length": "8",
}


def write_own(folder):
    """Coloured squares left or right, two captions each, a CSV that has the splits."""
    images = pathlib.Path(folder) / "images"
    images.mkdir(parents=True)
    rng, rows = np.random.default_rng(17), []
    for split, number in IMAGES.items():
        for i in range(number):
            colour, side = rng.choice(list(COLOURS)), rng.choice(list(SIDES))
            pixels = np.full((32, 32, 3), 255, np.uint8)
            left = SIDES[side]
            pixels[10:22, left : left + 12] = COLOURS[colour]
            name = f"{split}{i}.png"
            PIL.Image.fromarray(pixels).save(images / name)
            rows += [
                (name, f"A {colour} square on the {side}.", split),
                (name, f"{colour} on the {side}", split),
            ]
    with open(images.parent / "captions.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "caption", "split"), *rows])


@functools.cache
def workplace():
    """A folder with `own` in it, for as long as the tests run."""
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_own(folder / "own")
    return folder


def environment():
    """Of a process that keeps all it caches in the workplace, and finds no Java."""
    return {
        **os.environ,
        "PATH": "",
        "PYTHONPATH": str(pathlib.Path(sat_tf.__file__).parents[1]),
        "SAT_TF_CACHE": str(workplace() / "cache"),
        "TFDS_DATA_DIR": str(workplace() / "tfds"),
        "XDG_CACHE_HOME": str(workplace() / "home"),
    }


def setting(recipe):
    """`--set` for every part of a recipe: dotted name -> value."""
    pairs = [f"{name}={value}" for name, value in recipe.items()]
    return [text for pair in pairs for text in ("--set", pair)]


def train_arguments(out, changes=()):
    """Of `sat-tf train` on the own data, in the workplace."""
    named = ["--data", "own", "--preset", "scenes", "--out", str(out)]
    return ["train", *named, *setting({**RECIPE, **dict(changes)})]


def sat_tf_process(*arguments, code=None, **options):
    """`sat-tf` with these arguments, started in the workplace."""
    run = ["-c", code] if code else ["-m", "sat_tf.cli"]
    return subprocess.Popen(
        [sys.executable, *run, *map(str, arguments)],
        cwd=workplace(),
        text=True,
        **{
            "env": environment(),
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            **options,
        },
    )


def command(*arguments):
    """Runs `sat-tf` to its end: exit status, standard output, standard error."""
    process = sat_tf_process(*arguments)
    output, errors = process.communicate(timeout=TIMEOUT)
    return process.returncode, output, errors


# Saves after every update, says so, and dawdles: the parent has time to stop it.
DAWDLING = """
import signal, sys, time
from sat_tf import cli
from sat_tf.training import callbacks, run

# A shell that starts the tests in the background has them ignore interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

def save_and_say(self, captioner, progress, save=run.Run.save_checkpoint):
    save(self, captioner, progress)
    print("saved", progress.step, flush=True)
    time.sleep(1)

callbacks.SAVE_EVERY = 1
run.Run.save_checkpoint = save_and_say
sys.exit(cli.main())
"""


def stopped(how, step, out):
    """Trains until some time after the checkpoint of `step`: status and errors."""
    process = sat_tf_process(*train_arguments(out), code=DAWDLING)
    for line in process.stdout:
        if line == f"saved {step}\n":
            time.sleep(random.uniform(0, 1.2))  # any moment
            process.send_signal(how)
            break
    _, errors = process.communicate(timeout=TIMEOUT)
    return process.returncode, errors


@functools.cache
def trained():
    """The training of `run` in the workplace, as it may go: in three processes.

    Returns:
        what came of each: `killed` in the soft epoch and `interrupted` in the hard
        one (status, errors), and `finished` (status, output, errors).
    """
    return types.SimpleNamespace(
        killed=stopped(signal.SIGKILL, 1, "run"),
        interrupted=stopped(signal.SIGINT, STEPS + 1, "run"),
        finished=command(*train_arguments("run"), "--json"),
    )
