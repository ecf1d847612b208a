"""Stream batches from an annotation cache larger than memory should ever hold.

Command: python benchmarks/cache_memory.py --directory DIR [--gigabytes 6]
    [--train] [--json]

Writes random float16 records [196, 512] into DIR, streams an epoch of training batches
from them, with --train through `ShowAttendTell.fit`, and prints the peak resident
memory and the reading rate. DIR is emptied at the end.
"""

import argparse
import json
import pathlib
import resource
import shutil
import tempfile
import time

import numpy as np

from sat_tf.datasets import cache, pipeline
from sat_tf.vocabulary import Vocabulary

SHAPE = (196, 512)
CAPTIONS_PER_IMAGE = 5
WORDS = [f"word{i}" for i in range(2000)]


def peak_gigabytes():
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def write_records(directory, n_images):
    """A cache of random records; the same few blocks over and over."""
    rng = np.random.default_rng(17)
    block = rng.random((256, *SHAPE), np.float32).astype(np.float16)

    def produce(start, stop):
        for at in range(start, stop, len(block)):
            yield block[: stop - at]

    return cache.write(
        directory,
        produce,
        n_records=n_images,
        record_shape=SHAPE,
        dtype="float16",
        fingerprint={"encoder": "random"},
    )


def random_captions(n_images):
    """Five captions of 8 to 20 words per image."""
    rng = np.random.default_rng(17)
    return tuple(
        tuple(
            " ".join(rng.choice(WORDS, rng.integers(8, 21)))
            for _ in range(CAPTIONS_PER_IMAGE)
        )
        for _ in range(n_images)
    )


def stream(batches, n_steps):
    """Take `n_steps` batches; megabytes per second."""
    n_bytes, start = 0, time.perf_counter()
    for batch in batches.take(n_steps).as_numpy_iterator():
        n_bytes += batch["annotations"].nbytes
    return n_bytes / 1e6 / (time.perf_counter() - start)


def train(batches, vocabulary, n_steps):
    """Train the paper-size model on them."""
    import keras

    from sat_tf import ShowAttendTell
    from sat_tf.model.encoder import Encoder

    encoder = Encoder("none", features_shape=(14, 14, 512))
    captioner = ShowAttendTell(vocabulary, encoder=encoder)
    captioner.compile(optimizer=keras.optimizers.Adam(4e-4))
    captioner.fit(batches, steps_per_epoch=n_steps, shuffle=False)


def main():
    """Write, stream, report, clean up."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--gigabytes", type=float, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, help="default: one epoch of the images")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    n_images = round(options.gigabytes * 1e9 / (2 * np.prod(SHAPE)))
    n_steps = options.steps or n_images // options.batch_size
    options.directory.mkdir(parents=True, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="cache-", dir=options.directory)
    try:
        records = write_records(directory, n_images)
        written = peak_gigabytes()
        vocabulary = Vocabulary(WORDS)
        schedule = pipeline.Schedule(
            random_captions(n_images),
            vocabulary,
            batch_size=options.batch_size,
            seed=17,
        )
        batches = pipeline.training_batches(records, schedule, key="annotations")
        report = {
            "cache_gb": n_images * 2 * np.prod(SHAPE) / 1e9,
            "peak_after_writing_gb": written,
            "peak_before_streaming_gb": peak_gigabytes(),
        }
        if options.train:
            train(batches, vocabulary, n_steps)
        else:
            report["megabytes_per_s"] = stream(batches, n_steps)
        report["peak_gb"] = peak_gigabytes()
    finally:
        shutil.rmtree(directory)
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name:26}{value:.2f}")


if __name__ == "__main__":
    main()
