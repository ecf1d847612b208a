"""The paper-size update of two replicas against that of one device, by `fit`.

    python benchmarks/replicas.py [--estimator soft|reinforce] [--rounds R] [--json]

One global batch of the sizes of `train_step.py`, with `rows`: 64 captions of 48 images.
Two logical CPUs divide it and share the cores that the one device has for itself. The
two take turns, so that a noisy machine slows both down; the ratio is of the medians.
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from train_step import A, B, D, L, M, N, T, V

from sat_tf import Encoder, ShowAttendTell
from sat_tf.runtime.memory import keep_freed_memory
from sat_tf.training import strategies

IMAGES, WARM, STEPS = 48, 2, 4


class Clock(keras.callbacks.Callback):
    """Seconds of each update of a `fit` but the first, which fetch and trace."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_train_batch_begin(self, batch, logs=None):
        """Starts."""
        self.start = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        """Stops."""
        if batch >= WARM:
            self.seconds.append(time.perf_counter() - self.start)


def captioner(strategy, estimator):
    """Of paper size, compiled."""
    with strategy.scope():
        model = ShowAttendTell(
            [f"w{i}" for i in range(V - 3)],
            encoder=Encoder("none", features_shape=(14, 14, D)),
            estimator=estimator,
            embedding_size=M,
            hidden_size=N,
            attention_size=A,
        )
        model.compile(optimizer=keras.optimizers.Adam(4e-4, global_clipnorm=5.0))
    return model


def batches():
    """One batch, time and again."""
    rng = np.random.default_rng(17)
    batch = {
        "annotations": rng.normal(size=(IMAGES, L, D)).astype("float32"),
        "rows": np.sort(rng.integers(0, IMAGES, B)).astype("int32"),
        "tokens": rng.integers(3, V, (B, T)).astype("int32"),
    }
    return tf.data.Dataset.from_tensors(batch).repeat()


def main():
    """Prints the seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--estimator", default="reinforce")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    keep_freed_memory()
    places = {
        "one_device": tf.distribute.get_strategy(),
        "two_replicas": strategies.make("mirrored"),
    }
    models = {name: captioner(s, args.estimator) for name, s in places.items()}
    clocks, data = {name: Clock() for name in models}, batches()
    for _ in range(args.rounds):
        for name, model in models.items():
            options = dict(shuffle=False, verbose=0, callbacks=[clocks[name]])
            model.fit(data, steps_per_epoch=WARM + STEPS, **options)
    medians = {name: statistics.median(c.seconds) for name, c in clocks.items()}
    result = {
        **{f"{name}_ms": 1e3 * seconds for name, seconds in medians.items()},
        "ratio": medians["two_replicas"] / medians["one_device"],
    }
    if args.json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        print(f"{name:16}{value:.3g}")


if __name__ == "__main__":
    main()
