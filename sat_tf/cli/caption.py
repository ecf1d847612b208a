"""Caption image files."""

import json

from sat_tf.cli import arguments


def add_arguments(parser):
    """Of `sat-tf caption`."""
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    parser.add_argument(
        "--model",
        default="flickr8k_hard",
        metavar="RUN|PRESET",
        help="who captions (%(default)s)",
    )
    parser.add_argument("--figure", metavar="OUT.png", help="where it looked")
    decoding = parser.add_argument_group("decoding")
    arguments.add_attention(decoding)
    decoding.add_argument("--decoder", choices=arguments.DECODERS)
    arguments.add_beam(decoding)
    decoding.add_argument("--temperature", type=float)
    decoding.add_argument("--top-p", type=float)
    decoding.add_argument("--max-length", type=int)
    arguments.add_rerankers(decoding)
    decoding.add_argument("--seed", type=int)
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Captions, prints and draws."""
    from sat_tf import images
    from sat_tf.captioner import ShowAttendTell

    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    encoder = captioner.encoder
    pixels = [
        images.load(path, encoder.image_size, encoder.resize_mode)
        for path in args.images
    ]
    options = arguments.decoding_options(args)
    captions = captioner.generate(pixels, seed=args.seed, **options)
    if args.json:
        rows = zip(args.images, captions, strict=True)
        print(json.dumps([_as_json(*row, captioner.grid) for row in rows], indent=1))
    else:
        for path, caption in zip(args.images, captions, strict=True):
            print(f"{path}: {caption.caption}")
    if args.figure:
        from sat_tf.evaluation.figures import captions_figure, save_figure

        save_figure(captions_figure(pixels, captions), args.figure)


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
