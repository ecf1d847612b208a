"""Two checkouts side by side: everything in `measurements.py`, in turns.

    python benchmarks/compare.py BEFORE AFTER --out FILE.json [--only NAME,...]

The scripts beside this one drive both checkouts, so take AFTER's. Each measurement is a
process with a checkout in PYTHONPATH, one of BEFORE, one of AFTER, the other way round
in the next round. `--out` is written after each, its key `compared`, so that the same
command goes on where it was stopped, with Ctrl-C say. A checkout that cannot run a
script has the last line of its error noted instead; that is tried once more when the
command is repeated.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from measurements import MEASUREMENTS

HERE = pathlib.Path(__file__).parent
SIDES = ("before", "after")
TIMEOUT = 3 * 3600


def main():
    """Measures what is not measured yet; 130 if it was stopped."""
    args = parse_arguments()
    checkouts = {"before": args.before.resolve(), "after": args.after.resolve()}
    asked = {
        "before": described(checkouts["before"]),
        "after": described(checkouts["after"]),
        "photographs": bool(args.data_dir),
        "quick": args.quick,
    }
    report = opened(args.out, asked)
    # What is running ends with this process, whichever way that is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if "machine" not in report:
            report |= run(checkouts["after"], ["machine.py"], args.work)
            write(args.out, report)
        for each in MEASUREMENTS:
            if args.only is None or each.name in args.only:
                measure(each, args, checkouts, report)
    except KeyboardInterrupt:
        print(f"Stopped; repeat the command to go on with {args.out}.", file=sys.stderr)
        return 130
    return 0


def parse_arguments():
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=pathlib.Path, metavar="BEFORE")
    parser.add_argument("after", type=pathlib.Path, metavar="AFTER")
    parser.add_argument("--out", type=pathlib.Path, required=True, metavar="FILE.json")
    names = [each.name for each in MEASUREMENTS]
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help=", ".join(names)
    )
    parser.add_argument("--rounds", type=int, help="(each measurement's own)")
    parser.add_argument("--data-dir", help="Flickr8k's folder (drawn pictures)")
    parser.add_argument("--quick", action="store_true", help="small sizes, as a try")
    parser.add_argument(
        "--work",
        type=pathlib.Path,
        default=pathlib.Path(tempfile.gettempdir(), "sat_tf_compare"),
        help="folder of caches and drawn pictures (%(default)s)",
    )
    args = parser.parse_args()
    if unknown := set(args.only or ()) - set(names):
        parser.error(f"Expected --only of {', '.join(names)}. Received: {unknown}.")
    for checkout in (args.before, args.after):
        if not (checkout / "sat_tf/__init__.py").is_file():
            parser.error(f"Expected a checkout with sat_tf/. Received: {checkout}.")
    if args.data_dir:
        args.data_dir = os.path.abspath(args.data_dir)
    args.work = args.work.absolute()
    return args


def described(checkout):
    """Its commit and that one's title, with a note if files were changed since."""

    def git(*arguments):
        command = ["git", "-C", str(checkout), *arguments]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()

    commit = git("describe", "--always", "--dirty", "--abbrev=7", "--exclude=*")
    return {"commit": commit or checkout.name, "title": git("log", "-1", "--format=%s")}


def opened(path, asked):
    """What is measured already, if that is what is asked for; else nothing yet."""
    report = read(path).get("compared")
    if report is None:
        return {**asked, "measurements": {}}
    there = {name: report.get(name) for name in asked}
    if there != asked:
        raise SystemExit(
            f"Expected {path} to be of the same commits and options: {asked}. "
            f"Received: {there}. Choose another --out."
        )
    for each in report["measurements"].values():
        each["runs"] = [one for one in each["runs"] if "error" not in one]
    return report


def measure(each, args, checkouts, report):
    """All rounds of one measurement that are not in the report yet."""
    kept = report["measurements"].setdefault(
        each.name, {"command": f"python benchmarks/{each.script}", "runs": []}
    )
    done = {(one["round"], one["side"]) for one in kept["runs"]}
    failed = set()
    for number in range(args.rounds or each.rounds):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            if (number, side) in done or side in failed:
                continue
            # A commit finds what it has cached in other comparisons.
            work = args.work / report[side]["commit"]
            command = arguments(each, args, work)
            start, load = time.perf_counter(), os.getloadavg()[0]
            try:
                found = {"prints": run(checkouts[side], command, work)}
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                found = {"error": str(error)}
                failed.add(side)
            seconds = round(time.perf_counter() - start, 1)
            told = {"round": number, "side": side, "seconds": seconds, "load": load}
            kept["runs"].append({**told, **found})
            kept["figures"] = [figure(one, kept["runs"]) for one in each.figures]
            write(args.out, report)
            outcome = found.get("error", f"{seconds:.0f} s")
            print(f"{each.name}, round {number}, {side}: {outcome}", flush=True)


def arguments(each, args, work):
    """The script of a measurement and what it is given."""
    data = f"--data-dir {shlex.quote(args.data_dir)}" if args.data_dir else ""
    text = each.script.format(
        data=data,
        flickr8k=data and f"--data flickr8k {data}",
        work=shlex.quote(str(work)),
        pictures=shlex.quote(str(args.work / "pictures")),
    )
    return shlex.split(f"{text} {each.quick if args.quick else ''}")


def run(checkout, command, work):
    """What a script prints that finds the package in a checkout.

    What it has started ends with it, and both with this process.

    Raises:
        RuntimeError: the last line of the script's error.
    """
    work.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "SAT_TF_CACHE": str(work / "cache"),
        "TFDS_DATA_DIR": str(work / "tfds"),
    }
    process = subprocess.Popen(
        [sys.executable, str(HERE / command[0]), *command[1:]],
        env=environment,
        cwd=work,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=TIMEOUT)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = (errors or printed).strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"status {process.returncode}")
    return json.loads(printed)


def figure(what, runs):
    """A figure of both sides and the ratio after / before, round by round."""
    values = {side: {} for side in SIDES}
    for one in runs:
        if "prints" in one:
            values[one["side"]][one["round"]] = find(one["prints"], what.key)
    both = values["before"].keys() & values["after"].keys()
    ratios = [
        values["after"][n] / values["before"][n] for n in both if values["before"][n]
    ]
    return {
        "says": what.says,
        "target": what.target,
        **{side: spread(list(values[side].values())) for side in SIDES},
        "ratio": spread(ratios),
    }


def find(printed, key):
    """The number at `lines.0.ms`."""
    for part in key.split("."):
        printed = printed[int(part) if part.isdecimal() else part]
    return printed


def spread(values):
    """Median, least and greatest; None of nothing."""
    if not values:
        return None
    middle = statistics.median(values)
    return {"median": middle, "min": min(values), "max": max(values)}


def read(path):
    """The JSON object in a file, which is empty where there is no file."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def write(path, report):
    """Replaces a JSON file as a whole, by one with this report."""
    half = path.with_name(f".{path.name}.half")
    content = {**read(path), "compared": report}
    half.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    half.replace(path)


if __name__ == "__main__":
    sys.exit(main())
