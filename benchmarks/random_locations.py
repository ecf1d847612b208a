"""Is the attention needed? Captions when every word looks at a random location.

    python benchmarks/random_locations.py MODEL --data flickr8k --data-dir DIR
        [--decoder greedy] [--alignment off] [--draws 5] [--scale 0.25]

Captions a split as `sat-tf evaluate` does: once with `argmax` attention, then, so many
times, with each chosen location replaced by one drawn uniformly from all, the same for
all beams of an image: with a location each, a search over beams would be a search over
locations. A decoder that lives on its initial state and on its own words loses nothing.

What is lost is a mean over draws: on 1,000 photographs single draws vary by about 0.3
BLEU-4.
"""

import argparse
import json
import tempfile

import numpy as np
import tensorflow as tf

from sat_tf import ShowAttendTell
from sat_tf.cli import arguments
from sat_tf.datasets import load
from sat_tf.decoding import DECODERS, LOCATION_RULES
from sat_tf.evaluation.evaluate import evaluate
from sat_tf.runtime.caches import default_cache

SCORES = ("bleu_4", "meteor", "cider_d", "caption_accuracy")


def uniform(logits, draw):
    """All weight on one location, whatever the logits say and the beam."""
    location = LOCATION_RULES["sample"](tf.zeros_like(logits[:1]), draw[:1])
    return tf.repeat(location, tf.shape(logits)[0], axis=0)


uniform.draws = True


def main():
    """Prints the scores of both, and what the random locations cost, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", default="scenes")
    parser.add_argument("--data-dir")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--encoder-weights")
    parser.add_argument("--decoder", choices=DECODERS, help="default: the model's own")
    arguments.add_rerankers(parser)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument(
        "--scale", type=float, help="of the initial state (default: the model's own)"
    )
    args = parser.parse_args()
    LOCATION_RULES["uniform"] = uniform
    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    initial_state = captioner.network.decoder.initial_state
    if args.scale is not None:
        if not initial_state.sees_image:
            parser.error("--scale: its initial state is not made from the image")
        initial_state.scale = args.scale
    split = load(args.data, args.split, data_dir=args.data_dir)
    decoding = arguments.decoding_options(args)

    def scores(rule, seed):
        options = captioner.options(**decoding, attention=rule)
        with tempfile.TemporaryDirectory() as out:
            found = evaluate(
                captioner,
                split,
                options,
                out,
                cache_dir=default_cache(),
                seed=seed,
                progress=False,
            )
        # Without Java there is no METEOR.
        return {name: found[name] for name in SCORES if found.get(name) is not None}

    chosen = scores("argmax", 0)
    draws = [scores("uniform", seed) for seed in range(args.draws)]
    report = {
        "model": args.model,
        "initial_state": initial_state.get_config(),
        "decoder": captioner.options(**decoding).decoder,
        "rerank": captioner.options(**decoding).rerank,
    }
    for name, value in chosen.items():
        random = [draw[name] for draw in draws]
        report[name] = {
            "chosen": value,
            "random": random,
            "cost": value - float(np.mean(random)),
        }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
