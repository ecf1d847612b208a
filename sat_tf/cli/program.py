"""The program `sat-tf`: its commands, and what it says when one fails."""

import argparse
import importlib
import os
import sys

from sat_tf.runtime.imports import Quietly
from sat_tf.runtime.memory import collect_seldom

COMMANDS = {
    "demo": "sat_tf.cli.demo",
    "train": "sat_tf.cli.train",
    "teach": "sat_tf.cli.teach",
    "tune-trunk": "sat_tf.cli.tune_trunk",
    "caption": "sat_tf.cli.caption",
    "caption-archive": "sat_tf.cli.caption_archive",
    "explain": "sat_tf.cli.explain",
    "evaluate": "sat_tf.cli.evaluate",
    "check-data": "sat_tf.cli.check_data",
    "cache-features": "sat_tf.cli.cache_features",
    "caches": "sat_tf.cli.caches",
    "export": "sat_tf.cli.export",
    "serve": "sat_tf.cli.serve",
    "bench-estimators": "sat_tf.cli.bench_estimators",
}

# What Ctrl-C leaves, where a command does not say otherwise by its own `STOPPED`.
STOPPED = "What was saved is complete; repeat the command."


def main(argv=None):
    """Runs one command; returns its exit status.

    0: done; 1: the data cannot be trained on, or an image could not be captioned; 2:
    refused or failed; 130: stopped.
    """
    _open_streams()
    args = parse(argv)
    collect_seldom()
    # Set before TensorFlow is imported, or it greets with a page of notices.
    if "TF_CPP_MIN_LOG_LEVEL" not in os.environ:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
        sys.meta_path.insert(0, Quietly("tensorflow"))
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        print(f"\nsat-tf: stopped. {args.stopped}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        said = _said(error)
        if said is None or os.environ.get("SAT_TF_TRACEBACK"):
            raise
        print(f"sat-tf {args.command}: {said}", file=sys.stderr)
        return 2


def _said(error):
    """What to say of an error; `None` if it is not one of the user's."""
    # TensorFlow's by its name, as most commands never import it.
    if type(error).__name__ in ("MemoryError", "ResourceExhaustedError"):
        reason = str(error).strip().partition("\n")[0] or "too little memory"
        return (
            f"Expected work that fits into memory. Received: {reason}. Lower the "
            "batch size (data.batch_size, --batch-size), estimator.samples or --beam, "
            "or leave more memory to it. What was saved is complete."
        )
    known = (ValueError, OSError, FloatingPointError, ImportError)
    return str(error) if isinstance(error, known) else None


def _open_streams():
    """Opens what a parent has closed, or the next file would get what is printed."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r+"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):  # what a locale cannot write is escaped
        if getattr(stream, "errors", None) == "strict":
            stream.reconfigure(errors="backslashreplace")


def parse(argv=None):
    """The arguments of a command; as `others` those that it hands on, if it does."""
    parser = _parser()
    args, args.others = parser.parse_known_args(argv)
    if args.others and not args.hands_on:
        parser.error(f"unrecognized arguments: {' '.join(args.others)}")
    return args


def _parser():
    parser = argparse.ArgumentParser(
        prog="sat-tf",
        description="Image captioning with attention you can trust.",
        epilog="Set SAT_TF_TRACEBACK=1 to see where an error came from.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        module = importlib.import_module(module)
        summary = module.__doc__.splitlines()[0].rstrip(".")
        command = commands.add_parser(name, help=summary, description=summary)
        stopped = getattr(module, "STOPPED", STOPPED)
        hands_on = getattr(module, "HANDS_ON", False)
        command.set_defaults(run=module.run, stopped=stopped, hands_on=hands_on)
        module.add_arguments(command)
    return parser
