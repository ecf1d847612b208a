"""Train on drawings, evaluate, caption, show."""

import json

from sat_tf.cli import arguments

STOPPED = arguments.RESUMES


def add_arguments(parser):
    """Of `sat-tf demo`."""
    parser.add_argument(
        "--out", default="sat-tf-demo", help="folder (default: %(default)s)"
    )
    arguments.add_seed(parser)
    arguments.add_json(parser)


def run(args):
    """Runs the demo."""
    from sat_tf.demo import demo

    report = demo(args.out, seed=args.seed, quiet=args.json)
    if args.json:
        print(json.dumps(report, indent=1))
