"""Is the attention needed? Captions when every word looks at a random place.

    python benchmarks/random_places.py MODEL --data flickr8k --data-dir DIR [--beam K]

Captions a split twice, as `sat-tf evaluate` does: with `argmax` attention, and with
each chosen place replaced by one drawn uniformly from all, the same for all beams of
an image: with a place each, a search over beams is a search over places. A decoder that
lives on the mean annotation of its initial state and on its own words loses nothing.
"""

import argparse
import json
import pathlib
import tempfile

import tensorflow as tf

from sat_tf import ShowAttendTell
from sat_tf.datasets import load
from sat_tf.decoding import LOCATION_RULES
from sat_tf.evaluation import evaluate
from sat_tf.training import default_cache


def uniform(logits, seed):
    """All weight on one location, whatever the logits say and the beam."""
    place = LOCATION_RULES["sample"](tf.zeros_like(logits[:1]), seed)
    return tf.repeat(place, tf.shape(logits)[0], axis=0)


def main():
    """Prints the scores of both as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--data-dir")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--encoder-weights")
    parser.add_argument("--beam", type=int, help="(the model's own)")
    args = parser.parse_args()
    LOCATION_RULES["uniform"] = uniform
    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    split = load(args.data, args.split, data_dir=args.data_dir)
    decoding = {"decoder": "beam", "beam": args.beam} if args.beam else {}
    with tempfile.TemporaryDirectory() as out:
        scores = {
            rule: evaluate(
                captioner,
                split,
                captioner.options(**decoding, attention=rule),
                pathlib.Path(out) / rule,
                cache_dir=default_cache(),
            )
            for rule in ("argmax", "uniform")
        }
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
