"""What this machine is, what runs on it, and how fast it multiplies and reads.

    python benchmarks/machine.py

The rate of a large float32 product is what the shares of the other benchmarks are of.
The rate of reading bounds what has few rows: of a product of one row with a matrix that
no cache holds, each weight is read for one multiplication.
"""

import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import time

# Of the instruction sets that products are made with.
SETS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_tile")
PACKAGES = ("tensorflow", "keras", "numpy")


def processor():
    """Its name and those of `SETS` that it has, as far as Linux tells."""
    lines = pathlib.Path("/proc/cpuinfo")
    text = lines.read_text() if lines.exists() else ""
    told = {
        key.strip(): value.strip()
        for key, _, value in (line.partition(":") for line in text.splitlines())
    }
    flags = told.get("flags", "").split()
    name = told.get("model name", platform.processor() or platform.machine())
    return name, [known for known in SETS if known in flags]


def describe():
    """Processor, cores, memory and instruction sets."""
    name, sets = processor()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": name,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**30, 1),
        "instruction_sets": sets,
    }


def versions():
    """Of Python and the packages that the figures depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **found}


def timed(function, repeats):
    """Seconds of each of `repeats` calls, after two to warm up."""
    import tensorflow as tf

    seconds = []
    for i in range(repeats + 2):
        start = time.perf_counter()
        for x in tf.nest.flatten(function()):
            x.numpy()
        if i >= 2:
            seconds.append(time.perf_counter() - start)
    return seconds


def product_rate(repeats=6, size=2048, dtype="float32"):
    """Best matrix-product rate, GFLOP/s."""
    import tensorflow as tf

    a = tf.cast(tf.random.normal([size, size]), dtype)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(a, a)))
    return 2 * size**3 / min(timed(product, repeats)) / 1e9


def read_rate(repeats=6, megabytes=512):
    """Best rate of reading an array that no cache holds, GB/s."""
    import tensorflow as tf

    a = tf.ones([megabytes * 2**20 // 4])
    total = tf.function(lambda: tf.reduce_sum(a))
    return 4 * a.shape[0] / min(timed(total, repeats)) / 1e9


def main():
    """Prints one JSON object."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    rates = {x: round(product_rate(dtype=x)) for x in ("float32", "bfloat16")}
    date = datetime.date.today().isoformat()
    machine = {**describe(), "product_gflop_per_s": rates}
    machine["read_gb_per_s"] = round(read_rate(), 1)
    print(json.dumps({"date": date, "machine": machine, "versions": versions()}))


if __name__ == "__main__":
    main()
