"""Teach a recipe's trunk the words of captions, before training."""

import json

from sat_tf.cli import arguments

STOPPED = arguments.RESUMES


def add_arguments(parser):
    """Of `sat-tf tune-trunk`."""
    arguments.add_data(parser)
    arguments.add_recipe(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE.weights.h5",
        help="what train takes as --encoder-weights",
    )
    arguments.add_seed(parser)
    arguments.add_cache_dir(parser)
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Writes the file of weights."""
    from sat_tf.training.tuning import tune_trunk

    loss = tune_trunk(
        arguments.recipe_of(args),
        args.data,
        args.out,
        data_dir=args.data_dir,
        encoder_weights=args.encoder_weights,
        seed=args.seed,
        cache_dir=args.cache_dir,
        verbose=0 if args.json else "auto",
    )
    if args.json:
        print(json.dumps({"path": args.out, "loss": loss}))
    else:
        print(f"The trunk: {args.out}. Train a captioner on it:")
        print(f"  sat-tf train ... --encoder-weights {args.out}")
