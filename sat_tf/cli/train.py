"""Train a captioner, or resume a run."""

import json

from sat_tf.cli import arguments
from sat_tf.runtime.ranges import Count

STOPPED = arguments.RESUMES


def add_arguments(parser):
    """Of `sat-tf train`."""
    arguments.add_data(parser)
    arguments.add_recipe(parser)
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument("--estimator", help="instead of the recipe's")
    parser.add_argument(
        "--epochs",
        type=arguments.number(Count),
        help="of all stages together, instead of the recipe's",
    )
    arguments.add_seed(parser)
    parser.add_argument(
        "--strategy",
        choices=("none", "mirrored", "multi_worker"),
        default="none",
        help="one device; or a share of every batch on each GPU of this machine; or on "
        "each GPU of the workers of TF_CONFIG, with one --out that all of them see. A "
        "run may be resumed with another (default: %(default)s)",
    )
    arguments.add_cache_dir(parser)
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Trains."""
    from sat_tf.training import strategies, train

    strategy = strategies.make(args.strategy)  # first: TensorFlow asks for it
    changes = {"estimator": args.estimator} if args.estimator else {}
    recipe = arguments.recipe_of(args, **changes)
    if args.epochs is not None:
        recipe = recipe.with_epochs(args.epochs)
    _, history = train(
        recipe,
        args.data,
        args.out,
        data_dir=args.data_dir,
        encoder_weights=args.encoder_weights,
        seed=args.seed,
        cache_dir=args.cache_dir,
        strategy=strategy,
        verbose=0 if args.json else "auto",
    )
    if not strategy.extended.should_checkpoint:
        return
    if args.json:
        print(json.dumps(history, indent=1))
    else:
        print(f"Best captioner: {args.out}/model. Caption a photograph with it:")
        print(f"  sat-tf caption photo.jpg --model {args.out} --figure look.png")
