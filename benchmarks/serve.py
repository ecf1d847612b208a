"""Load on `sat-tf serve`: latency, throughput, memory, and a version swap.

    python benchmarks/serve.py --models saved_models --name scenes_hard
    python benchmarks/serve.py --preset flickr8k_hard --data-dir DIR

The server runs in a process of its own, on a copy of the model; the clients are
coroutines in this one and share the machine's cores with it. Closed loop: every client
sends its next photograph when the last caption is there. Real JPEGs over HTTP, kept-
alive connections, loopback only.

Printed: the floor, the same graph in a loop over 32 JPEGs at once, in a process of its
own before the server's; the first caption after the start beside the next thirty; p50,
p95, p99 (ms) and captions/s at concurrency 1, 8 and 32; the server's resident memory a
tenth of the way and at the end; a new version put beside the old one under load. With
--preset a captioner is exported first. Exits with 1 if a request failed or the new
version was not taken up.
"""

import argparse
import asyncio
import base64
import concurrent.futures
import contextlib
import json
import multiprocessing
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

import numpy as np
import pictures

HOST = "127.0.0.1"
FLOOR = 32  # JPEGs at once in the loop that the server is compared with
PHASES = {1: 0.05, 8: 0.15, 32: 0.8}  # concurrency: share of the requests
SERVER = "import sys, sat_tf.serving as s; s.serve(sys.argv[1], port=int(sys.argv[2]))"


def main():
    """Run the load and print what came of it."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.preset:
            arguments.name = arguments.preset
            arguments.models = pathlib.Path(folder, "exported")
            export(arguments.preset, arguments.models)
        model = pathlib.Path(folder) / "models" / arguments.name
        version = newest_version(arguments.models / arguments.name)
        shutil.copytree(version, model / version.name)
        photographs = jpegs(arguments.data_dir or version.parent / "examples", folder)
        bodies = [request_body(photograph) for photograph in photographs]
        in_loop = alone(floor, model / version.name, photographs)
        with serving(model.parent) as (port, process):
            address = f"/v1/models/{arguments.name}"
            requests = [http_request(address, body) for body in bodies]
            report = {"floor_captions_per_second": in_loop}
            report |= asyncio.run(first(port, requests))
            report |= asyncio.run(load(port, requests, arguments.requests, process))
            fastest = report["load"][-1]["captions_per_second"]
            report["share_of_floor"] = round(fastest / in_loop, 3)
            report["swap"] = asyncio.run(
                swap(port, requests, arguments.requests // 10, model, address)
            )
    print(json.dumps(report, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    errors = report["swap"]["errors"] + sum(p["errors"] for p in report["load"])
    return 1 if errors or not report["swap"]["swapped"] else 0


def parse_arguments():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=pathlib.Path, default="saved_models")
    parser.add_argument("--name", default="scenes_hard")
    parser.add_argument("--preset", help="a captioner to export, instead of a model")
    parser.add_argument(
        "--data-dir",
        type=pathlib.Path,
        help="folder of JPEGs to send (the model's examples, or drawn ones)",
    )
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--out", type=pathlib.Path, help="write the report here too")
    return parser.parse_args()


def newest_version(folder):
    """Find the version folder that a server would serve."""
    versions = [p for p in folder.iterdir() if p.name.isdecimal()]
    return max(versions, key=lambda path: int(path.name))


def export(preset, folder):
    """Export a captioner with `sat-tf export` into a folder of models."""
    command = [sys.executable, "-m", "sat_tf.cli", "export", preset]
    out = ["--out", str(folder / preset)]
    subprocess.run([*command, *out], check=True, stdout=subprocess.DEVNULL)


def jpegs(source, folder):
    """Read up to 64 JPEGs below a folder; drawn ones where there is no such folder."""
    found = sorted(source.rglob("*.jpg"))[:64] if source.is_dir() else []
    print(f"{len(found) or 16} JPEGs, {source if found else 'drawn'}", file=sys.stderr)
    return [path.read_bytes() for path in found or pictures.drawn(folder, 16)]


def request_body(photograph):
    """Make the `:predict` body of one JPEG."""
    encoded = base64.b64encode(photograph).decode("ascii")
    return json.dumps({"instances": [{"b64": encoded}]}).encode()


def alone(function, *arguments):
    """What a function returns in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def floor(version, photographs):
    """Captions/s of the default signature in a loop, the best of five batches."""
    import tensorflow as tf

    model = tf.saved_model.load(str(version))
    say = model.signatures["serving_default"]
    batch = tf.constant([photographs[i % len(photographs)] for i in range(FLOOR)])
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        say(image_bytes=batch)["caption"].numpy()
        seconds.append(time.perf_counter() - start)
    return round(FLOOR / min(seconds[1:]), 1)


@contextlib.contextmanager
def serving(root):
    """Start the server in a process of its own; yields (port, process)."""
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-c", SERVER, str(root), str(port)]
        process = subprocess.Popen(command, stderr=log)
        try:
            while process.poll() is None and not ready(port):
                time.sleep(0.1)
            if process.poll() is not None:
                log.seek(0)
                raise RuntimeError(log.read().decode())
            yield port, process
        finally:
            process.terminate()
            process.wait()


def ready(port):
    """Tell whether the server answers that it can answer."""
    try:
        return get(port, "/readyz") is not None
    except OSError:  # a version that loads may leave no time for an answer
        return False


def get(port, path):
    """Fetch JSON from the server."""
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as answer:
        return json.load(answer)


def http_request(address, body):
    """Write a whole HTTP request, so that the clients cost little."""
    head = (
        f"POST {address}:predict HTTP/1.1\r\nHost: {HOST}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


async def first(port, requests):
    """Time the first caption after the start, and the median of the next thirty."""
    seconds, errors = await ask_all(port, requests, 31, 1, lambda: None)
    if errors:
        raise RuntimeError(f"Expected captions. Received: {errors} errors of 31.")
    earliest, steady = 1000 * seconds[0], 1000 * float(np.median(seconds[1:]))
    return {
        "first_ms": round(earliest, 1),
        "steady_ms": round(steady, 1),
        "first_times_steady": round(earliest / steady, 2),
    }


async def load(port, requests, n_requests, process):
    """Run every phase; note the server's memory on the way."""
    memory, done, report = {}, 0, []

    def count():
        nonlocal done
        done += 1
        if done in (n_requests // 10, n_requests):
            memory[done] = resident_megabytes(process)

    # Warm up as wide as it will get: what a full batch takes is taken before counting.
    await ask_all(port, requests, 200, max(PHASES), lambda: None)
    for concurrency, share in PHASES.items():
        phase = round(share * n_requests)
        start = time.perf_counter()
        seconds, errors = await ask_all(port, requests, phase, concurrency, count)
        elapsed = time.perf_counter() - start
        percentiles = np.percentile(1000 * np.array(seconds), [50, 95, 99]).round(1)
        report.append(
            {
                "concurrency": concurrency,
                "requests": phase,
                "errors": errors,
                **dict(zip(("p50_ms", "p95_ms", "p99_ms"), percentiles, strict=True)),
                "captions_per_second": round(phase / elapsed, 1),
            }
        )
    first, last = (memory[n] for n in sorted(memory))
    return {
        "load": report,
        "speedup": round(
            report[-1]["captions_per_second"] / report[0]["captions_per_second"], 2
        ),
        "resident_megabytes": {str(n): memory[n] for n in sorted(memory)},
        "resident_last_mb": last,
        "resident_growth": round(last / first - 1, 4),
    }


async def swap(port, requests, n_requests, model, address):
    """Put a new version beside the old one while 8 clients ask on."""
    old = newest_version(model)
    new = old.with_name(str(int(old.name) + 1))
    # Copied under another name and renamed: a server must never see half a version.
    shutil.copytree(old, model / "next")
    (model / "next").rename(new)
    asked = errors = 0
    swapped, end = False, time.monotonic() + 120
    while not swapped and time.monotonic() < end or asked < n_requests:
        _, failed = await ask_all(port, requests, 100, 8, lambda: None)
        asked, errors = asked + 100, errors + failed
        listed = get(port, address)["model_version_status"]
        states = {one["version"]: one["state"] for one in listed}
        swapped = (states[old.name], states.get(new.name)) == ("END", "AVAILABLE")
    return {"requests": asked, "errors": errors, "swapped": swapped}


async def ask_all(port, requests, n_requests, concurrency, count):
    """Send requests from `concurrency` clients; returns (seconds, number of errors)."""
    turns, seconds, errors = iter(range(n_requests)), [], 0

    async def client():
        nonlocal errors
        reader, writer = await asyncio.open_connection(HOST, port)
        for turn in turns:
            start = time.perf_counter()
            writer.write(requests[turn % len(requests)])
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            size = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            body = await reader.readexactly(int(size))
            seconds.append(time.perf_counter() - start)
            if b" 200 " not in head[:13] or b'"caption":"' not in body:
                errors += 1
            count()
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return seconds, errors


def resident_megabytes(process):
    """Read a process's resident memory from /proc, in MB."""
    status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


if __name__ == "__main__":
    sys.exit(main())
