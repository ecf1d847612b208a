"""Add a captioner's captions to people's, to train another on."""

import json

from sat_tf.cli import arguments

STOPPED = arguments.RESUMES


def add_arguments(parser):
    """Of `sat-tf teach`."""
    parser.add_argument("teacher", metavar="RUN|PRESET", help="whose captions to add")
    arguments.add_data(parser)
    parser.add_argument(
        "--captions",
        type=int,
        default=5,
        metavar="N",
        help="of every training image (default: %(default)s)",
    )
    parser.add_argument(
        "--beam",
        type=int,
        metavar="K",
        help="its beams per image (default: the teacher's own)",
    )
    parser.add_argument(
        "--draws",
        type=int,
        default=0,
        metavar="N",
        help="captions drawn from it per image, beside beams (default: %(default)s)",
    )
    parser.add_argument(
        "--out", required=True, metavar="FILE.json", help="what train takes as --data"
    )
    arguments.add_cache_dir(parser)
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Writes the caption file."""
    from sat_tf.training.teaching import teach

    counts = teach(
        args.teacher,
        args.data,
        args.out,
        data_dir=args.data_dir,
        count=args.captions,
        beam=args.beam,
        draws=args.draws,
        cache_dir=args.cache_dir,
        encoder_weights=args.encoder_weights,
        progress=not args.json,
    )
    if args.json:
        print(json.dumps({"path": args.out, **counts}))
    else:
        print(f"{counts['captions']} captions of {counts['images']} images, in all.")
        print(f"  sat-tf train --data {args.out} --preset flickr_taught --out run")
