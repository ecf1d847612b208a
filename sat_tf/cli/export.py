"""Write a SavedModel for servers."""

import json
import os

from sat_tf.cli import arguments


def add_arguments(parser):
    """Of `sat-tf export`."""
    parser.add_argument("model", metavar="RUN|PRESET")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="e.g. saved_models/NAME"
    )
    parser.add_argument(
        "--version",
        type=int,
        metavar="N",
        help="default: one more than the highest there",
    )
    parser.add_argument(
        "--float16", action="store_true", help="store weights in half the space"
    )
    parser.add_argument(
        "--examples",
        nargs="+",
        metavar="JPEG",
        help="pictures that the page offers (default: drawings, if it knows those)",
    )
    arguments.add_attention(parser)
    parser.add_argument("--decoder", choices=arguments.DECODERS)
    arguments.add_beam(parser)
    parser.add_argument("--max-length", type=int)
    arguments.add_rerankers(parser)
    arguments.add_encoder_weights(parser)
    arguments.add_json(parser)


def run(args):
    """Exports, and says how to serve it."""
    from sat_tf.captioner import ShowAttendTell
    from sat_tf.presets import storage

    captioner = ShowAttendTell.from_preset(
        args.model, encoder_weights=args.encoder_weights
    )
    folder = captioner.export(
        args.out,
        args.version,
        dtype="float16" if args.float16 else None,
        examples=args.examples,
        metadata=storage.read_metadata(storage.find(args.model)),
        **arguments.decoding_options(args),
    )
    if args.json:
        print(json.dumps({"path": str(folder)}))
    else:
        print(f"Exported to {folder}. Serve it:")
        print(f"  sat-tf serve {os.path.dirname(args.out.rstrip('/')) or '.'}")
