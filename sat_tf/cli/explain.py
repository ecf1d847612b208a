"""Say where the words of a sentence are found in an image."""

import json

from sat_tf.cli import arguments
from sat_tf.runtime import files, imports
from sat_tf.runtime.tracing import untraced

STOPPED = "Nothing was kept; repeat the command."
SUPPORTED = 0.7  # nats: twice as probable with this image as with others
AGAINST = -0.7


def add_arguments(parser):
    """Of `sat-tf explain`."""
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--caption", required=True, metavar="TEXT", help="any sentence")
    parser.add_argument(
        "--model",
        default="flickr8k_hard",
        metavar="RUN|PRESET",
        help="who explains (default: %(default)s)",
    )
    parser.add_argument("--figure", metavar="OUT.png", help="where each word is found")
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Explains, prints and draws."""
    if args.figure:
        files.file_on_disk(args.figure, "the figure")
    imports.import_keras()
    from sat_tf import images
    from sat_tf.captioner import ShowAttendTell

    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    encoder = captioner.encoder
    with untraced(images=1):
        pixels = images.load(args.image, encoder.image_size, encoder.resize_mode)
        (explanation,) = captioner.explain(pixels, args.caption)
    if args.json:
        print(json.dumps(_as_json(args.image, explanation, captioner.grid), indent=1))
    else:
        _print(explanation, captioner.grid)
    if args.figure:
        from sat_tf.evaluation.figures import attention_figure, save_figure

        figure = attention_figure(
            pixels,
            explanation.words,
            explanation.evidence,
            explanation.locations,
            title=args.image,
        )
        save_figure(figure, args.figure)


def _print(explanation, grid):
    """A line for each word: where it is found, and how far the image supports it."""
    width = max(map(len, explanation.words))
    rows = zip(
        explanation.words,
        explanation.known,
        explanation.locations,
        explanation.support,
        strict=True,
    )
    for word, known, location, support in rows:
        row, column = divmod(int(location), grid[1])
        place = f"row {row + 1}, column {column + 1} of {grid[0]} x {grid[1]}"
        print(f"{word:{width}}  {place}  {_verdict(known, support)}")


def _verdict(known, support):
    if not known:
        return "unknown to the vocabulary"
    how = "says nothing of it"
    if support > SUPPORTED:
        how = "supports it"
    elif support < AGAINST:
        how = "speaks against it"
    return f"the image {how} ({round(support, 1) + 0.0:+.1f} nats)"


def _as_json(path, explanation, grid):
    return {
        "image": path,
        "caption": explanation.caption,
        "words": list(explanation.words),
        "known": explanation.known.tolist(),
        "locations": explanation.locations.tolist(),
        "alpha": explanation.alpha.tolist(),
        "evidence": explanation.evidence.tolist(),
        "support": explanation.support.tolist(),
        "log_p_word": explanation.log_p_word.tolist(),
        "grid": list(grid),
    }
