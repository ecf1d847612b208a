"""The paper-size training step against this machine's own matrix-product rate.

    python benchmarks/train_step.py [--estimator soft|reinforce] [--samples S]
        [--mixed] [--json]

B = 64 captions of 16 words, L = 196 places of D = 512 features, attention 512,
n = m = 512, V = 10,000: forward, backward and Adam. The share is counted operations
over time, divided by the best float32 product measured in the same run, before and
after, so that a noisy machine cancels. Freed memory is kept, as `train` does
(`sat_tf.keep_freed_memory`); the time before that is shown beside it. With --mixed the
same step in mixed_bfloat16 takes turns with it.
"""

import argparse
import json
import os
import resource
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from machine import product_rate, timed

from sat_tf import Encoder, ShowAttendTell
from sat_tf.estimators import ESTIMATORS
from sat_tf.runtime.memory import keep_freed_memory

B, L, D, A, N, M, V, T = 64, 196, 512, 512, 512, 512, 10_000, 16


def operations(samples):
    """Floating-point operations of the matrix products of one step, per part.

    Each weight product costs 2 x rows x in x out forward and twice that backward; the
    annotations take no gradient, so their projection costs once that backward.
    """
    words, rows = B * T, B * T * samples
    return {
        "project annotations": 2 * 2 * B * L * D * A,
        "initial state": 3 * 2 * B * D * 2 * N,
        "gates": 3 * 2 * (words * M + rows * (N + D)) * 4 * N,
        "query and beta": 3 * 2 * rows * N * (A + 1),
        "scores": 3 * 2 * rows * L * A,
        "deep output": 3 * 2 * rows * (N + D) * M,
        "words": 3 * 2 * rows * M * V,
    }


def build(estimator, samples, dtype="float32"):
    """The step of a paper-size captioner: a function of nothing that gives the loss."""
    kind = ESTIMATORS[estimator]
    options = {} if estimator == "soft" else {"samples": samples}
    encoder = Encoder("none", features_shape=(14, 14, D), dtype=dtype)
    model = ShowAttendTell(
        [f"w{i}" for i in range(V - 3)],
        encoder=encoder,
        estimator=kind(**options),
        embedding_size=M,
        hidden_size=N,
        attention_size=A,
        dtype=dtype,
    )
    model.compile(optimizer=keras.optimizers.Adam(4e-4))
    rng = np.random.default_rng(17)
    batch = {
        "annotations": tf.constant(rng.normal(size=(B, L, D)), tf.float32),
        "tokens": tf.constant(rng.integers(3, V, (B, T)), tf.int32),
    }
    return tf.function(lambda: model.train_step(batch)["loss"])


def mixed(step, args):
    """The step beside the same in mixed_bfloat16, one of each in turn."""
    other = build(args.estimator, args.samples, "mixed_bfloat16")
    turns = [[min(timed(f, 1)) for f in (step, other)] for _ in range(args.repeats)]
    float32, bfloat16 = (1e3 * min(each) for each in zip(*turns, strict=True))
    return {"mixed_bfloat16_ms": bfloat16, "mixed_bfloat16_times": float32 / bfloat16}


def main():
    """Prints the table, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--estimator", default="reinforce", choices=ESTIMATORS)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--mixed", action="store_true", help="mixed_bfloat16 beside it")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    step = build(args.estimator, args.samples)
    giving_back = min(timed(step, args.repeats))
    keep_freed_memory()
    before = product_rate()
    seconds = timed(step, args.repeats)
    rate = max(before, product_rate())
    parts = operations(args.samples)
    flops, best = sum(parts.values()), min(seconds)
    result = {
        "estimator": args.estimator,
        "samples": args.samples,
        "best_ms": 1e3 * best,
        "median_ms": 1e3 * statistics.median(seconds),
        "best_ms_giving_memory_back": 1e3 * giving_back,
        "captions_per_s": B / best,
        "gflop": flops / 1e9,
        "product_gflop_per_s": rate,
        "share_of_product_rate": flops / best / rate / 1e9,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }
    if args.mixed:
        result |= mixed(step, args)
    if args.json:
        print(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        print(f"{name:28}{value:.3g}" if not isinstance(value, str) else value)
    for name, value in parts.items():
        print(f"  {name:22}{value / 1e9:.3g} GFLOP")


if __name__ == "__main__":
    main()
