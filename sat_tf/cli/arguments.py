"""Arguments that several commands share."""

import argparse

from sat_tf.engines import ENGINES
from sat_tf.recipes import RECIPES
from sat_tf.reranking import RERANKERS
from sat_tf.runtime.ranges import Seed, checked, described

ATTENTION = ("argmax", "sample", "expected")
DECODERS = ("greedy", "sample", "beam")
# What Ctrl-C leaves of a command that goes on where it was.
RESUMES = "What was saved is complete; repeat the command to resume."


def add_json(command):
    """`--json`."""
    command.add_argument("--json", action="store_true", help="print JSON only")


def add_seed(command, default=17):
    """`--seed`."""
    command.add_argument(
        "--seed",
        type=number(Seed),
        default=default,
        help="of all that is drawn at random (default: %(default)s)",
    )


def number(kind):
    """The type of an argument that is a number of one of the kinds of `ranges`."""

    def parsed(text):
        try:
            return checked("it", kind.__origin__(text), kind)
        except ValueError:
            wanted = f"expected {described(kind)}, received {text!r}"
            raise argparse.ArgumentTypeError(wanted) from None

    return parsed


def add_data(command):
    """`--data` and `--data-dir`."""
    command.add_argument(
        "--data", required=True, metavar="NAME|PATH", help="data set, or your folder"
    )
    command.add_argument("--data-dir", metavar="DIR", help="where its files are")


def add_cache_dir(command):
    """`--cache-dir`."""
    command.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="where features, pixels and captions are kept (default: $SAT_TF_CACHE, "
        "or ~/.cache/sat_tf)",
    )


def add_encoder_weights(command):
    """`--encoder-weights`."""
    command.add_argument(
        "--encoder-weights",
        metavar="PATH",
        help="weights of the trunk, for a captioner without its own",
    )


def add_engine(command):
    """`--engine`, whose own options are all that the command does not know."""
    command.add_argument(
        "--engine",
        choices=ENGINES,
        default="beam",
        help="what divides the work (default: %(default)s)",
    )
    command.epilog = (
        "All other options are Apache Beam's (--runner=DataflowRunner ...), or, of the "
        "engine spark, --master=URL and --conf=NAME=VALUE."
    )


def add_recipe(command):
    """`--preset` and `--set`."""
    command.add_argument(
        "--preset",
        required=True,
        metavar="NAME",
        help=f"a recipe: {', '.join(RECIPES)}",
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change any part of the recipe; may be given many times",
    )


def recipe_of(args, **changes):
    """The `Recipe` that `--preset` and `--set` ask for, with further changes."""
    from sat_tf.training.building import refuse_unheard

    changes = dict(_key_value(pair) for pair in args.set) | changes
    recipe = RECIPES[args.preset].replace(changes)
    refuse_unheard(recipe, changes)
    return recipe


def _key_value(pair):
    key, equals, value = pair.partition("=")
    if not equals:
        raise ValueError(
            f"Expected key=value. Received: --set {pair}. "
            "Write, for instance, --set optimizer.learning_rate=0.001."
        )
    return key, value


def add_attention(command):
    """`--attention`."""
    command.add_argument(
        "--attention",
        choices=ATTENTION,
        help="location rule (default: the model's own)",
    )


def add_beam(command):
    """`--beam` and `--length-penalty`."""
    command.add_argument(
        "--beam",
        type=int,
        metavar="K",
        help="beams; 1 is greedy (default: the model's own)",
    )
    command.add_argument(
        "--length-penalty",
        type=float,
        metavar="X",
        help="rank beams by log_p / length ** X (default: the model's own)",
    )


def add_rerankers(command):
    """One option for each reranker."""
    for name in RERANKERS:
        command.add_argument(
            f"--{name}",
            type=number_or_off,
            default=argparse.SUPPRESS,  # as `None` says something: off
            metavar="S|off",
            help=f"how much {name} counts in ranking beams; off: in nothing "
            "(default: the model's own)",
        )


def number_or_off(text):
    """A strength; `None` for "off"."""
    try:
        return None if text == "off" else float(text)
    except ValueError:
        wanted = f"expected a number or off, received {text!r}"
        raise argparse.ArgumentTypeError(wanted) from None


def decoding_options(args):
    """Decoding options that were given; `--beam` alone asks for a beam search.

    Raises:
        ValueError: a reranker is asked for that only ranks, where there is one beam.
    """
    names = (
        "decoder beam attention temperature top_p max_length length_penalty"
    ).split()
    options = {name: getattr(args, name, None) for name in names}
    options = {name: value for name, value in options.items() if value is not None}
    given = vars(args)
    rerank = {name: given[name] for name in RERANKERS if name in given}
    on = [name for name, s in rerank.items() if not RERANKERS[name].is_off(s)]
    if options.get("beam") == 1:
        options["decoder"] = "greedy"
    elif "beam" in options or on:
        options.setdefault("decoder", "beam")
    # A kind that may guide has a property there, one that only ranks has False.
    idle = [name for name in on if not RERANKERS[name].guides]
    if idle and options["decoder"] != "beam":
        one = "--beam 1" if options.get("beam") == 1 else f"--decoder {args.decoder}"
        raise ValueError(
            f"Expected several beams, for --{idle[0]} to rank. Received: {one}. "
            f"Give --beam 10, say, or leave --{idle[0]} out."
        )
    return {**options, "rerank": rerank} if rerank else options
