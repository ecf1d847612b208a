"""Compare gradients of attention."""

import json

from sat_tf.cli import arguments
from sat_tf.runtime.files import on_disk
from sat_tf.runtime.ranges import Positive, Size


def add_arguments(parser):
    """Of `sat-tf bench-estimators`."""
    arguments.add_data(parser)
    arguments.add_recipe(parser)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="for results; it resumes there"
    )
    parser.add_argument("--estimators", metavar="A,B,...", help="default: all")
    parser.add_argument(
        "--model",
        metavar="RUN|PRESET",
        help="what to start from (default: one trained by soft attention)",
    )
    parser.add_argument(
        "--keep-decoder",
        action="store_true",
        help="learn on from the model's attention and decoder, not from fresh ones",
    )
    parser.add_argument(
        "--draws",
        type=arguments.number(Size),
        default=200,
        help="gradients per estimator (default: %(default)s)",
    )
    parser.add_argument(
        "--seeds",
        type=arguments.number(Size),
        default=3,
        help="learning runs each (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=arguments.number(Positive),
        default=5.0,
        help="of a learning run (default: %(default)s)",
    )
    arguments.add_cache_dir(parser)
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Measures, and prints a summary."""
    from sat_tf.bench.run import bench
    from sat_tf.bench.start import Plan

    plan = Plan(
        out=on_disk(args.out, "a folder for results"),
        data=args.data,
        data_dir=args.data_dir,
        recipe=arguments.recipe_of(args),
        model=args.model,
        encoder_weights=args.encoder_weights,
        cache_dir=args.cache_dir,
        draws=args.draws,
        minutes=args.minutes,
        keep_decoder=args.keep_decoder,
    )
    names = args.estimators.split(",") if args.estimators else None
    summary = bench(plan, names, args.seeds, quiet=args.json)
    if args.json:
        print(json.dumps(summary, indent=1))
        return
    shown = ("ms", "attention_vs_paper", "final_score", "share_of_paper")
    print(f"{'':26}" + "".join(f"{name:>20}" for name in shown))
    for row in summary:
        values = (row.get(name) for name in shown)
        texts = ("" if v is None else f"{v:.3g}" for v in values)
        print(f"{row['estimator']:26}" + "".join(f"{text:>20}" for text in texts))
    print(f"Tables and figures: {args.out}")
