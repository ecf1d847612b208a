"""Load on `sat-tf serve`: latency, throughput, memory, and a version swap.

    python benchmarks/serve.py --models saved_models --name scenes_hard

The server runs in a process of its own, on a copy of the model; the clients are
coroutines in this one and share the machine's cores with it. Closed loop: every client
sends its next photograph when the last caption is there. Real JPEGs over HTTP, kept-
alive connections, loopback only.

Printed: p50, p95, p99 (ms) and captions/s at concurrency 1, 8 and 32; the server's
resident memory a tenth of the way and at the end; a new version put beside the old one
under load. Exits with 1 if a request failed or the new version was not taken up.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
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
from PIL import Image

HOST = "127.0.0.1"
PHASES = {1: 0.05, 8: 0.15, 32: 0.8}  # concurrency: share of the requests
SERVER = "import sys, sat_tf.serving as s; s.serve(sys.argv[1], port=int(sys.argv[2]))"


def main():
    """Run the load and print what came of it."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / "models" / arguments.name
        version = newest_version(arguments.models / arguments.name)
        shutil.copytree(version, model / version.name)
        bodies = request_bodies(arguments.images or version.parent / "examples")
        with serving(model.parent) as (port, process):
            address = f"/v1/models/{arguments.name}"
            requests = [http_request(address, body) for body in bodies]
            report = asyncio.run(load(port, requests, arguments.requests, process))
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
    parser.add_argument("--images", type=pathlib.Path, help="folder of JPEGs to send")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--out", type=pathlib.Path, help="write the report here too")
    return parser.parse_args()


def newest_version(folder):
    """Find the version folder that a server would serve."""
    versions = [p for p in folder.iterdir() if p.name.isdecimal()]
    return max(versions, key=lambda path: int(path.name))


def request_bodies(folder):
    """Make `:predict` bodies from the JPEGs in a folder, or from noise."""
    files = sorted(folder.glob("*.jpg"))[:64] if folder.is_dir() else []
    photographs = [path.read_bytes() for path in files] or list(noise(8))
    print(f"{len(photographs)} JPEGs, {'from ' + str(folder) if files else 'of noise'}")
    encoded = (base64.b64encode(p).decode("ascii") for p in photographs)
    return [json.dumps({"instances": [{"b64": b64}]}).encode() for b64 in encoded]


def noise(count):
    """Draw JPEGs of 320 x 240."""
    random = np.random.default_rng(17)
    for _ in range(count):
        blocks = random.integers(0, 256, [12, 16, 3], np.uint8)
        file = io.BytesIO()
        Image.fromarray(blocks).resize((320, 240)).save(file, "JPEG", quality=85)
        yield file.getvalue()


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
