"""Caption a whole archive of images, on this machine or on a cluster."""

import json

from sat_tf.cli import arguments
from sat_tf.runtime.ranges import Size

STOPPED = arguments.RESUMES
# Options that this command does not know are the engine's.
HANDS_ON = True


def add_arguments(parser):
    """Of `sat-tf caption-archive`."""
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        help="of image files, or of files of TFRecords (*.tfrecord*); quote it. "
        "** stands for any folders; gs:// and s3:// are read too",
    )
    parser.add_argument(
        "--model",
        default="flickr8k_hard",
        metavar="SAVEDMODEL|PRESET",
        help="who captions (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="PREFIX",
        help="what the names of all files of the output begin with",
    )
    arguments.add_engine(parser)
    parser.add_argument(
        "--batch-size",
        type=arguments.number(Size),
        default=32,
        metavar="N",
        help="images captioned at once (default: %(default)s)",
    )
    parser.add_argument(
        "--part-size",
        type=arguments.number(Size),
        default=256,
        metavar="N",
        help="images in a file of the output (default: %(default)s)",
    )
    arguments.add_json(parser)


def run(args):
    """Captions what is missing; 1 if any image of the archive failed."""
    from sat_tf.archive import plan
    from sat_tf.archive.job import caption_archive

    summary = caption_archive(
        args.pattern,
        args.model,
        args.out,
        engine=args.engine,
        engine_options=args.others,
        batch_size=args.batch_size,
        part_size=args.part_size,
    )
    if args.json:
        print(json.dumps(summary._asdict()))
        return 1 if summary.bad else 0
    print(
        f"Captions, {summary.captions} in all: "
        f"{plan.all_captions(args.out, summary.parts)}"
    )
    if summary.bad:
        print(
            f"Images that could not be captioned, {summary.bad} in all, and why: "
            f"{args.out}-bad-*.jsonl"
        )
    return 1 if summary.bad else 0
