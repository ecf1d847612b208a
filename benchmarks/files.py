"""What `sat-tf caption` takes for many files, and for its start.

    python benchmarks/files.py [--count 1000] [--megapixels 12] [--data-dir DIR]

Photographs of `--data-dir`, or drawn ones; with --megapixels drawn ones of that size. A
process of its own captions them all, and others one file each: the fastest of these is
the cold start. Busy is processor time over wall time and cores; beside the start both
are also shown of the images alone.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import pictures

STARTS = 3


def caption(images, options):
    """Wall and processor seconds, and peak memory, of `sat-tf caption` of images."""
    with tempfile.TemporaryDirectory() as folder:
        listed = pathlib.Path(folder, "list.txt")
        listed.write_text("".join(f"{path}\n" for path in images))
        given = [str(images[0])] if len(images) == 1 else [str(listed)]
        command = [sys.executable, "-m", "sat_tf.cli", "caption", *given, *options]
        with tempfile.TemporaryFile() as errors:
            start = time.perf_counter()
            process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=errors
            )
            _, status, used = os.wait4(process.pid, 0)
            wall = time.perf_counter() - start
            if status:
                errors.seek(0)
                raise SystemExit(errors.read().decode())
    return {
        "wall_s": wall,
        "processor_s": used.ru_utime + used.ru_stime,
        "peak_memory_gb": used.ru_maxrss / 2**20,
    }


def main():
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--megapixels", type=float, help="drawn, of 4 : 3")
    parser.add_argument("--data-dir", help="photographs, *.jpg (drawn pictures)")
    parser.add_argument("--pictures", help="keep drawn pictures here (nowhere)")
    parser.add_argument("--model", default="flickr8k_hard")
    parser.add_argument("--decoder", help="(the model's own)")
    args = parser.parse_args()
    options = ["--model", args.model, "--json"]
    options += ["--decoder", args.decoder] if args.decoder else []
    if args.count < 2:
        parser.error("Expected --count >= 2, as the start is measured with one.")
    with tempfile.TemporaryDirectory() as passing:
        folder = args.pictures or passing
        if args.megapixels:
            height = round((args.megapixels * 1e6 * 3 / 4) ** 0.5)
            size = (round(height * 4 / 3), height)
            images = pictures.drawn(folder, args.count, size)
        else:
            images = pictures.paths(args.data_dir, folder, args.count)
        starts = [caption(images[:1], options) for _ in range(STARTS)]
        cold = min(starts, key=lambda each: each["wall_s"])
        found = caption(images, options)
    cores = len(os.sched_getaffinity(0))
    beside = {x: found[x] - cold[x] for x in ("wall_s", "processor_s")}
    report = {
        "count": args.count,
        "cold_start_s": cold["wall_s"],
        "cold_start_processor_s": cold["processor_s"],
        **found,
        "busy": found["processor_s"] / found["wall_s"] / cores,
        "busy_beside_start": beside["processor_s"] / beside["wall_s"] / cores,
        "wall_ms_per_image": 1e3 * beside["wall_s"] / (args.count - 1),
        "processor_ms_per_image": 1e3 * beside["processor_s"] / (args.count - 1),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
