"""How long training takes to its first step on very many images, in how much memory.

Command: python benchmarks/start_up.py --directory DIR [--images 10000000]

Writes what TFDS would have prepared of as many images, each a few bytes with five
captions of 8 to 16 words, and starts to train on them, in processes of their own:
`first`, where nothing is kept yet; `resumed`, the same again; and `anew`, another run
on the same data. Features of 4 bytes an image stand in for real ones. Prints a line of
JSON for each: seconds of each part and of all together, by the clock and of processor
time; and gigabytes of memory after the first step, of this process alone (`own`) and of
mapped files, which all processes share (`mapped`), and the most that both have been
together (`peak`). What is in DIR stays and is used again; remove it when you are done.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

import numpy as np

CAPTIONS = 5
WORDS = 20_000
PATTERNS = 20_000  # images whose captions differ
PER_SHARD = 100_000
VALIDATION = 1000
NAME = b"%010d"
STARTS = {"first": "run", "resumed": "run", "anew": "other run"}


def patterns():
    """Encoded examples in which the name of the image is still to be filled in."""
    rng = np.random.default_rng(17)
    share = 1 / np.arange(2, WORDS + 2)
    words = np.array([f"word{i}" for i in range(WORDS)])
    for _ in range(PATTERNS):
        lengths = rng.integers(8, 17, CAPTIONS)
        said = rng.choice(words, (CAPTIONS, 16), p=share / share.sum())
        rows = zip(said, lengths, strict=True)
        yield _example([" ".join(row[:length]).encode() for row, length in rows])


def _example(texts):
    from tensorflow import train

    def of_bytes(*values):
        return train.Feature(bytes_list=train.BytesList(value=values))

    def of_numbers(*values):
        return train.Feature(int64_list=train.Int64List(value=values))

    name = NAME % 0
    feature = {
        "image": of_bytes(name),
        "file_name": of_bytes(name + b".jpg"),
        "captions/text": of_bytes(*texts),
        # No regions: of each caption a sequence of no words.
        "captions/regions/ragged_row_lengths_0": of_numbers(*[0] * len(texts)),
        "captions/regions/ragged_row_lengths_1": of_numbers(),
        "captions/regions/ragged_flat_values": train.Feature(
            float_list=train.FloatList()
        ),
    }
    example = train.Example(features=train.Features(feature=feature))
    return example.SerializeToString()


def prepare(folder, n_images):
    """Writes what a builder would have prepared: `train` and `validation`."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from sat_tf.datasets import schema

    folder.mkdir(parents=True)
    examples = list(patterns())
    infos = []
    for split, number in (("train", n_images), ("validation", VALIDATION)):
        starts = range(0, number, PER_SHARD)
        lengths = [min(PER_SHARD, number - start) for start in starts]
        files = [
            folder / f"many-{split}.tfrecord-{i:05d}-of-{len(starts):05d}"
            for i in range(len(starts))
        ]
        for file, start, length in zip(files, starts, lengths, strict=True):
            with tf.io.TFRecordWriter(str(file)) as writer:
                for i in range(start, start + length):
                    example = examples[i % PATTERNS]
                    writer.write(example.replace(NAME % 0, NAME % i))
        size = sum(file.stat().st_size for file in files)
        template = tfds.core.ShardedFileTemplate(
            data_dir=folder,
            dataset_name="many",
            split=split,
            filetype_suffix="tfrecord",
        )
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=lengths,
                num_bytes=size,
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=str(folder),
        features=schema.features(),
        split_infos=infos,
        check_data=False,  # which would decode an image
    )


class Done(Exception):
    """The first step has been made."""


class StandIn:
    """Features of 4 bytes an image, read from disk and repeated to a captioner's size.

    Args:
        cache: an `ArrayCache` of them.
        encoder: the captioner's.
    """

    def __init__(self, cache, encoder):
        self.cache, self.dtype = cache, cache.dtype
        self.record_shape = encoder.locations, encoder.size

    def __len__(self):
        return len(self.cache)

    def read(self, indices):
        """As `ArrayCache.read`."""
        records = self.cache.read(indices)[:, None, :]
        shape = len(records), self.record_shape[0], self.record_shape[1] // 2
        return np.tile(np.broadcast_to(records, (*shape[:2], 2)), shape[2])


def stand_in(captioner, split, cache_dir, **_):
    """In place of `cached_inputs`."""
    from sat_tf.datasets import cache

    def produce(at):
        rng = np.random.default_rng(at)
        while at < len(split):
            size = min(2**16, len(split) - at)
            yield rng.random((size, 2))
            at += size

    records = cache.write(
        cache_dir,
        produce,
        n_records=len(split),
        record_shape=(2,),
        dtype="float16",
        fingerprint="stand in",
        name="features",
    )
    return StandIn(records, captioner.encoder), "annotations"


def now():
    """Seconds, by the clock and of processor time."""
    return np.array([time.perf_counter(), time.process_time()])


def start(directory, out):
    """Trains for one step; the figures."""
    begun, parts = now(), {}
    from sat_tf import RECIPES
    from sat_tf.training import building, callbacks, loop, run

    def timed(part, owner, name):
        function = getattr(owner, name)

        def wrapped(*arguments, **options):
            start = now()
            result = function(*arguments, **options)
            parts[part] = parts.get(part, 0) + now() - start
            return result

        setattr(owner, name, wrapped)

    def stop(self, batch, logs, move=callbacks.CheckpointCallback.on_train_batch_end):
        move(self, batch, logs)
        raise Done

    parts["import"] = now() - begun
    loop.cached_inputs = stand_in
    timed("load", loop, "load")
    timed("vocabulary", building, "vocabulary_of")
    timed("origins", run.Run, "learn_from")
    timed("features", loop, "cached_inputs")
    timed("schedule", loop.pipeline, "Schedule")
    callbacks.CheckpointCallback.on_train_batch_end = stop
    callbacks.SAVE_EVERY = 1
    recipe = RECIPES["paper"].replace({"model.trunk": "efficientnet_lite1"})
    data, cache_dir = directory / "data" / "1.0.0", directory / "cache"
    try:
        loop.train(recipe, data, directory / out, cache_dir=cache_dir, verbose=0)
    except Done:
        parts["all"] = now() - begun
        return {part: each.round(1).tolist() for part, each in parts.items()}
    raise ValueError("Expected a step. Received: none. Choose more images.")


def memory():
    """Gigabytes of this process."""
    status = pathlib.Path("/proc/self/status").read_text()
    kilobytes = dict(re.findall(r"(\w+):\s+(\d+) kB", status))
    parts = {"own": "RssAnon", "mapped": "RssFile", "peak": "VmHWM"}
    return {part: round(int(kilobytes[k]) / 1e6, 2) for part, k in parts.items()}


def main():
    """Prepares, starts three times, and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--directory", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--start", choices=STARTS, help="of this process alone")
    args = parser.parse_args()
    if args.start:
        figures = start(args.directory, STARTS[args.start])
        told = {"start": args.start, "s": figures, "gb": memory()}
        print(json.dumps(told), flush=True)
        return
    if not (args.directory / "data").exists():
        begun = time.perf_counter()
        prepare(args.directory / "data" / "1.0.0", args.images)
        print(f"prepared in {time.perf_counter() - begun:.0f} s", flush=True)
    for each in STARTS:
        subprocess.run([sys.executable, *sys.argv, "--start", each], check=True)


if __name__ == "__main__":
    main()
