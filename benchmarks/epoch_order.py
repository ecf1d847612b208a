"""How long the order of an epoch of very many captions takes, and how much memory.

python benchmarks/epoch_order.py --captions 50000000
"""

import argparse
import json
import resource
import time

import numpy as np

from sat_tf.datasets.pipeline import Batches


def main():
    """Prints seconds and gigabytes as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=50_000_000)
    parser.add_argument("--batch-size", type=int, default=64)
    args = parser.parse_args()
    rng = np.random.default_rng(17)
    lengths = rng.integers(5, 25, args.captions).astype(np.int32)
    counts = np.ones(args.captions, np.int64)
    number = -(-args.captions // args.batch_size)
    start = time.perf_counter()
    batches = Batches(lengths, counts, number, 17)
    ready = time.perf_counter()
    epochs = []
    for epoch in range(3):
        begun = time.perf_counter()
        batches.of_epoch(epoch)
        epochs.append(round(time.perf_counter() - begun, 2))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    figures = {"captions": args.captions, "start_s": round(ready - start, 2)}
    print(json.dumps({**figures, "epoch_s": epochs, "peak_gb": round(peak, 2)}))


if __name__ == "__main__":
    main()
