"""How long training takes to begin, and how long it waits for its input.

    python benchmarks/start.py [--data flickr8k --data-dir DIR] [--steps 100]

`sat-tf train` in a process of its own, twice: first until all that it reads is cached,
then again, from the command to the first update. Of the updates after that one,
`waited` is the share of time in which the next batch was not there yet. What is watched
is Keras' and TensorFlow's, not ours: the end of an update, and the iterator of batches.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

REPORT, BEGUN, STEPS = "SAT_TF_REPORT", "SAT_TF_BEGUN", "SAT_TF_STEPS"

# Whether of drawings: options of `sat-tf train`. Of the recipe for photographs only the
# stage in which the captioner itself learns.
RECIPE = {
    True: ["--preset", "scenes"],
    False: ["--preset", "flickr"]
    + ["--set", "model.rerankers={}", "--set", 'stages={"train": {"epochs": 8}}']
    + ["--set", 'decoding={"decoder": "greedy"}', "--set", "data.mirrored=false"],
}


def main():
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--data-dir", help="where the files of the data are")
    parser.add_argument("--steps", type=int, default=100, help="updates to watch")
    parser.add_argument("--work", help="keep caches here (nowhere)")
    args = parser.parse_args()
    recipe = RECIPE[args.data == "scenes"]
    named = ["--data", args.data, *recipe]
    named += ["--data-dir", args.data_dir] if args.data_dir else []
    with tempfile.TemporaryDirectory() as passing:
        work = pathlib.Path(args.work or passing).absolute()
        command = ["train", *named, "--cache-dir", str(work / "cache")]
        filled = watch(command, work, 1)
        report = watch(command, work, args.steps)
    print(json.dumps({**report, "to_first_update_uncached_s": filled["first_s"]}))


def watch(command, work, steps):
    """What the watched process reports of `sat-tf` with these arguments."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.json")
        told = {REPORT: str(report), BEGUN: str(time.time()), STEPS: str(steps)}
        environment = {"TFDS_DATA_DIR": str(work / "tfds"), **os.environ, **told}
        out = ["--out", str(pathlib.Path(folder, "run"))]
        done = subprocess.run(
            [sys.executable, __file__, *command, *out],
            env=environment,
            capture_output=True,
            text=True,
        )
        if not report.exists():
            raise SystemExit(done.stderr or f"no update; {done.stdout}")
        return json.loads(report.read_text())


def watched():
    """`sat-tf` with the arguments of this process, until so many updates are made."""
    import keras
    import tensorflow as tf
    from tensorflow.python.data.ops.iterator_ops import OwnedIterator

    steps, begun = int(os.environ[STEPS]), float(os.environ[BEGUN])
    waited, ends = tf.Variable(0.0, dtype=tf.float64), []
    get_next = OwnedIterator.get_next

    def timed_get_next(self):
        if tf.executing_eagerly():
            return get_next(self)
        start = tf.timestamp()
        with tf.control_dependencies([start]):
            batch = get_next(self)
        with tf.control_dependencies(tf.nest.flatten(batch)):
            waited.assign_add(tf.timestamp() - start)
        return batch

    batch_end = keras.callbacks.CallbackList.on_train_batch_end

    def timed_batch_end(self, batch, logs=None):
        batch_end(self, batch, logs)
        ends.append((time.time(), waited.numpy()))
        if len(ends) == steps:
            report(begun, ends)

    keras.callbacks.CallbackList.on_train_batch_end = timed_batch_end
    OwnedIterator.get_next = timed_get_next
    from sat_tf.cli import main

    return main(sys.argv[1:])


def report(begun, ends):
    """Writes what was seen, and leaves: a run that is cut off needs no end."""
    (first, before), (last, after) = ends[0], ends[-1]
    found = {"first_s": first - begun, "updates": len(ends)}
    if len(ends) > 1:
        found["update_ms"] = 1e3 * (last - first) / (len(ends) - 1)
        found["waited"] = float(after - before) / (last - first)
    path = pathlib.Path(os.environ[REPORT])
    half = path.with_suffix(".half")
    half.write_text(json.dumps(found))
    half.rename(path)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(watched() if REPORT in os.environ else main())
