"""Score a captioner on a split."""

import json

from sat_tf.cli import arguments


def add_arguments(parser):
    """Of `sat-tf evaluate`."""
    parser.add_argument("model", metavar="RUN|PRESET")
    arguments.add_data(parser)
    parser.add_argument("--split", default="test", help="default: %(default)s")
    parser.add_argument("--out", required=True, metavar="DIR")
    arguments.add_attention(parser)
    arguments.add_beam(parser)
    arguments.add_rerankers(parser)
    arguments.add_seed(parser)
    arguments.add_cache_dir(parser)
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Evaluates, and prints the scores."""
    from sat_tf.captioner import ShowAttendTell
    from sat_tf.datasets import load
    from sat_tf.evaluation.evaluate import evaluate

    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    scores = evaluate(
        captioner,
        load(
            args.data,
            args.split,
            data_dir=args.data_dir,
            cache_dir=args.cache_dir,
        ),
        captioner.options(**arguments.decoding_options(args)),
        args.out,
        cache_dir=args.cache_dir,
        seed=args.seed,
        progress=not args.json,
    )
    if args.json:
        print(json.dumps(scores, indent=1))
    else:
        for line in _lines(scores):
            print(line)


def _lines(scores, prefix=""):
    """Scores for people: a line each, `looks.given.pointing` for those in a dict."""
    for name, value in scores.items():
        if isinstance(value, dict):
            yield from _lines(value, f"{prefix}{name}.")
            continue
        values = value if isinstance(value, list) else [value]
        texts = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in values)
        yield f"{prefix + name:40}{' to '.join(texts)}"
