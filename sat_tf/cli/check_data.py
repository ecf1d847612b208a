"""Find what is wrong in data."""

import json
import sys

from sat_tf.cli import arguments


def add_arguments(parser):
    """Of `sat-tf check-data`."""
    arguments.add_data(parser)
    arguments.add_json(parser)


def run(args):
    """Prints the findings; 1 if the data cannot be trained on."""
    from sat_tf.datasets.check import check

    report = check(args.data, args.data_dir)
    if args.json:
        print(json.dumps(report.to_dict(), indent=1))
    else:
        print("\n".join(report.lines()))
    if not report.ok:
        print(f"sat-tf check-data: {args.data} cannot be trained on.", file=sys.stderr)
    return 0 if report.ok else 1
