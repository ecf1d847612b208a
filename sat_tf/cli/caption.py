"""Caption image files."""

import contextlib
import json
import os
import signal
import sys
import textwrap

from sat_tf.cli import arguments, paths
from sat_tf.runtime import cores, files, imports, interrupts
from sat_tf.runtime.tracing import untraced

STOPPED = "What was printed is complete; repeat the command with the images left."
MAX_DRAWN = 50  # images in a figure, one below the other


def add_arguments(parser):
    """Of `sat-tf caption`."""
    parser.add_argument(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="an image file; a folder of images; a file LIST.txt of paths, one a line; "
        "or - for such paths from standard input",
    )
    parser.add_argument(
        "--model",
        default="flickr8k_hard",
        metavar="RUN|PRESET",
        help="who captions (default: %(default)s)",
    )
    parser.add_argument(
        "--figure",
        metavar="OUT.png",
        help=f"draw where it looked in the first {MAX_DRAWN} images",
    )
    decoding = parser.add_argument_group("decoding")
    arguments.add_attention(decoding)
    decoding.add_argument("--decoder", choices=arguments.DECODERS)
    arguments.add_beam(decoding)
    decoding.add_argument("--temperature", type=float)
    decoding.add_argument("--top-p", type=float)
    decoding.add_argument("--max-length", type=int)
    arguments.add_rerankers(decoding)
    arguments.add_seed(decoding, default=None)
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Prints each caption as soon as it is there, and draws; 1 if any image failed."""
    paths.check(args.images)
    if args.figure:
        files.file_on_disk(args.figure, "the figure")
    imports.import_keras()
    from tqdm import tqdm

    from sat_tf.captioner import ShowAttendTell
    from sat_tf.decoding.files import caption_files

    at_once = cores.one_core_each()
    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    options = captioner.options(**arguments.decoding_options(args))
    images = paths.read(args.images)
    outcomes = caption_files(
        captioner, images, options, seed=args.seed, at_once=at_once
    )
    printing = _json_array(captioner.grid) if args.json else _lines()
    total = paths.count(args.images)
    count, failed, drawn = 0, 0, []
    with (
        untraced(total),
        contextlib.closing(outcomes),
        printing as print_next,
        tqdm(**_bar(total)) as bar,
    ):
        for outcome in outcomes:
            count += 1
            if outcome.error:
                failed += 1
                tqdm.write(f"sat-tf caption: {outcome.error}", file=sys.stderr)
            else:
                with _uninterrupted():
                    print_next(outcome)
                if args.figure and len(drawn) < MAX_DRAWN:
                    drawn.append(outcome)
            bar.update()
    if drawn:
        _draw(drawn, args.figure)
        if count - failed > MAX_DRAWN:
            _say(f"{args.figure} shows the first {MAX_DRAWN} images.")
    if failed:
        _say(f"{failed} of {count} images could not be captioned, as said above.")
    return 1 if failed else 0


def _bar(total):
    """Options of a bar of progress, shown for many where the captions are not seen."""
    shown = sys.stderr.isatty() and not sys.stdout.isatty()
    few = total is not None and total < 10
    return {"total": total, "unit": "image", "disable": few or not shown}


@contextlib.contextmanager
def _uninterrupted():
    """Ctrl-C waits until what is inside is done: a row is printed as a whole."""
    if not interrupts.are_ours():
        yield
        return
    stopped = []
    handler = signal.signal(signal.SIGINT, lambda *_: stopped.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if stopped:
        raise KeyboardInterrupt


@contextlib.contextmanager
def _lines():
    """Yields what prints one outcome as a line for people."""

    def print_next(outcome):
        print(f"{_printable(outcome.path)}: {outcome.caption.caption}", flush=True)

    yield print_next


@contextlib.contextmanager
def _json_array(grid):
    """Yields what prints one outcome as the next element of an array."""
    before = "["

    def print_next(outcome):
        nonlocal before
        row = json.dumps(_as_json(outcome.path, outcome.caption, grid), indent=1)
        print(before, textwrap.indent(row, " "), sep="\n", end="", flush=True)
        before = ","

    try:
        yield print_next
    finally:
        print("[]" if before == "[" else "\n]", flush=True)


def _printable(path):
    """The path; a byte that is not UTF-8, which no stream would take, as `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _draw(outcomes, path):
    from sat_tf.evaluation.figures import captions_figure, save_figure

    images, captions = zip(*((o.pixels, o.caption) for o in outcomes), strict=True)
    save_figure(captions_figure(images, captions), path)


def _say(sentence):
    print(f"sat-tf caption: {sentence}", file=sys.stderr)


def _as_json(path, caption, grid):
    return {
        "image": path,
        "caption": caption.caption,
        "score": caption.score,
        "log_p": caption.log_p,
        "words": list(caption.words),
        "log_p_word": caption.log_p_word.tolist(),
        "locations": caption.locations.tolist(),
        "grid": list(grid),
        "beams": [{"caption": b.caption, "score": b.score} for b in caption.beams],
    }
