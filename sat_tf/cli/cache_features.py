"""Cache what training reads of the images, on this machine or on a cluster."""

import json

from sat_tf.cli import arguments, caches

STOPPED = "What was written is complete; repeat the command to make the rest."
# Options that this command does not know are the engine's.
HANDS_ON = True


def add_arguments(parser):
    """Of `sat-tf cache-features`."""
    arguments.add_data(parser)
    arguments.add_recipe(parser)
    parser.add_argument(
        "--split",
        default="train,validation",
        metavar="NAMES",
        help="whose images, with commas (default: %(default)s)",
    )
    arguments.add_seed(parser)
    arguments.add_cache_dir(parser)
    arguments.add_encoder_weights(parser)
    arguments.add_engine(parser)
    arguments.add_json(parser)


def run(args):
    """Writes what is missing of the caches."""
    from sat_tf.training.caching import cache_inputs

    found = cache_inputs(
        arguments.recipe_of(args),
        args.data,
        [name.strip() for name in args.split.split(",")],
        data_dir=args.data_dir,
        encoder_weights=args.encoder_weights,
        seed=args.seed,
        cache_dir=args.cache_dir,
        engine=args.engine,
        engine_options=args.others,
    )
    if args.json:
        print(json.dumps([cache.to_dict() for cache in found], indent=1))
    else:
        print("\n".join(map(caches.line, found)))
