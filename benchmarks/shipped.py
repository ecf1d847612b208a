"""What the shipped captioner's own way to decode costs beside a plain search.

    python benchmarks/shipped.py [--model flickr8k_hard] [--data-dir DIR]

Milliseconds of an image, from its features: by default, with beam 3 alone, and
greedily, in turns, for one image and for 32 at once.
"""

import argparse
import json
import tempfile

import pictures
import tensorflow as tf
from decode import best

from sat_tf import ShowAttendTell
from sat_tf.runtime.memory import keep_freed_memory

BATCHES = (1, 32)


def main():
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="flickr8k_hard")
    parser.add_argument("--data-dir", help="photographs, *.jpg (drawn pictures)")
    parser.add_argument("--pictures", help="keep drawn pictures here (nowhere)")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    keep_freed_memory()
    captioner = ShowAttendTell.from_preset(args.model)
    off = {name: None for name, _ in captioner.options().rerank}
    ways = {
        "default": {},
        "beam_3": {"decoder": "beam", "beam": 3, "rerank": off},
        "greedy": {"decoder": "greedy", "rerank": off},
    }
    with tempfile.TemporaryDirectory() as passing:
        images = pictures.paths(args.data_dir, args.pictures or passing, max(BATCHES))
        features = features_of(captioner, images)
    report = {}
    for batch in BATCHES:
        data = tf.data.Dataset.from_tensors({"annotations": features[:batch]})
        calls = [lambda o=o, d=data: captioner.generate(d, **o) for o in ways.values()]
        seconds = best(args.repeats, *calls)
        ms = {f"{w}_ms": 1e3 * s / batch for w, s in zip(ways, seconds, strict=True)}
        ms["default_times_beam_3"] = ms["default_ms"] / ms["beam_3_ms"]
        report[f"batch_{batch}"] = ms
    print(json.dumps(report, indent=1))


def features_of(captioner, images):
    """Features `[B, L, D]` of image files."""
    encoder = captioner.encoder
    size = encoder.image_size
    pixels = [
        tf.image.resize(tf.image.decode_jpeg(path.read_bytes(), channels=3), size)
        for path in images
    ]
    return tf.constant(captioner.encode(tf.stack(pixels)))


if __name__ == "__main__":
    main()
