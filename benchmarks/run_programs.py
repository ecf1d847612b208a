"""Runs on JAX's device the programs that benchmarks/accelerator.py --hlo wrote.

    python benchmarks/accelerator.py --hlo DIR      # where TensorFlow is
    python benchmarks/run_programs.py DIR           # where JAX and the GPU are

A machine with a GPU may have JAX and no TensorFlow. XLA compiles the same StableHLO for
it there. Milliseconds of the training step and of decoding, seconds to compile them,
what a word launches, and the share of this device's own product rate. Float32 programs
run twice on a GPU: with products in float32, and in TF32, which is XLA's default.

Each program is given the inputs with which it ran before, drawn anew, and what it
answers is compared with what TensorFlow answered on the processor.

JAX has no public way to run a program that it did not make; what is used of
`jax._src` here was there in 0.10 and 0.11.
"""

import argparse
import collections
import datetime
import json
import pathlib
import re
import sys
import tempfile
import time

import numpy as np

# What a compiled program has that computes nothing.
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota")


def described(array):
    """How an array is drawn again: constant, a few values, integers, or normal."""
    told = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if array.size and np.all(array == array.flat[0]):
        return {**told, "constant": array.flat[0].item()}
    if array.size <= 4:
        return {**told, "values": array.ravel().tolist()}
    if array.dtype.kind in "iu":
        return {**told, "between": [int(array.min()), int(array.max()) + 1]}
    return {**told, "deviation": float(array.std())}


def drawn(told, seed):
    """An array as it was `described`."""
    shape, dtype = tuple(told["shape"]), told["dtype"]
    generator = np.random.default_rng(seed)
    if "constant" in told:
        return np.full(shape, told["constant"], dtype)
    if "values" in told:
        return np.array(told["values"], dtype).reshape(shape)
    if "between" in told:
        return generator.integers(*told["between"], shape).astype(dtype)
    return (told["deviation"] * generator.standard_normal(shape)).astype(dtype)


def instructions(text):
    """Instructions that compute in the body of each loop of an optimised program.

    Some loops are of XLA's own making, to scatter say, and small.
    """
    parts = re.findall(r"^(?:ENTRY )?%?([\w.\-]+) .*?\{\n(.*?)^\}", text, re.M | re.S)
    bodies = re.findall(r"\bwhile\(.*?body=%?([\w.\-]+)", text)
    operation = re.compile(r"^ .*? = \S.*? ([a-z][\w\-]*)\(", re.M)
    found = {name: operation.findall(body) for name, body in parts}
    return [sum(x not in FREE for x in found[name]) for name in bodies]


def fastest(call, repeats):
    """Seconds of the fastest call, after two to warm up."""
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds[2:])


def product_rates(jax, size):
    """GFLOP/s of large products, in each precision."""
    key = jax.random.key(17)
    found = {}
    for name, dtype, precision in (
        ("float32", "float32", "highest"),
        ("tf32", "float32", "tensorfloat32"),
        ("bfloat16", "bfloat16", "default"),
    ):
        a = jax.random.normal(key, (size, size)).astype(dtype)
        product = jax.jit(lambda a, p=precision: jax.numpy.matmul(a, a, precision=p))
        seconds = fastest(lambda a=a, f=product: f(a).block_until_ready(), 10)
        found[name] = 2 * size**3 / seconds / 1e9
    return found


def compiled(jax, text):
    """A StableHLO program made for JAX's first device."""
    from jax._src.lib import _jax, xla_client

    # A copy belongs to a dialect that JAX's reader for GPUs does not know.
    as_reshape = r"stablehlo.reshape \1 : (\2) -> \2"
    text = re.sub(r"mhlo\.copy (%\w+) : (\S+)", as_reshape, text)
    device = jax.devices()[0]
    devices = _jax.DeviceList((device,))
    options = xla_client.CompileOptions()
    return device.client.compile_and_load(text.encode(), devices, options)


def kernels(jax, call, longest=6):
    """What one call has a GPU do: kernels launched, and milliseconds that they take."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            call()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        planes = list(jax.profiler.ProfileData.from_file(str(path)).planes)
    taken = collections.defaultdict(list)
    for plane in planes:
        for line in plane.lines:
            if "GPU" in plane.name and line.name.startswith("Stream"):
                for event in line.events:
                    taken[event.name].append(event.duration_ns / 1e6)
    order = sorted(taken, key=lambda name: -sum(taken[name]))
    return {
        "launches": sum(map(len, taken.values())),
        "busy_ms": sum(map(sum, taken.values())),
        "longest": {x: [len(taken[x]), sum(taken[x])] for x in order[:longest]},
    }


def run(jax, text, told, repeats):
    """Times of a program, what its words launch, and how far it is from TensorFlow."""
    start = time.perf_counter()
    program = compiled(jax, text)
    line = {"compiled_in_s": time.perf_counter() - start}
    given = [drawn(x, seed) for seed, x in enumerate(told["inputs"])]
    with jax.enable_x64(True):
        given = jax.device_put(given, jax.devices()[0])

    # A variable's new value takes the place of the old one, as in training.
    place = r"parameter_number = (\d+).*?output_index = array<i64: (\d+)>"
    kept = re.findall(place, text)

    def call():
        answers = program.execute(given)
        for answer in answers:
            answer.block_until_ready()
        for parameter, output in kept:
            given[int(parameter)] = answers[int(output)]
        return answers

    answer = np.asarray(call()[0], np.float64).ravel()
    expected = np.array(told["answer"])
    line["differs_by"] = float(np.max(np.abs(answer - expected) / np.abs(expected)))
    line["ms"] = 1e3 * fastest(call, repeats)
    if jax.devices()[0].platform == "gpu":
        line.update(kernels(jax, call))
    memory = program.get_compiled_memory_stats()
    line["temporaries_mb"] = memory.temp_size_in_bytes / 1e6
    loops = sorted(instructions(program.hlo_modules()[0].to_string()))
    line["instructions_a_word"] = loops[-len(told["operations_a_word"]) :]
    return line


def precisions(name, text, gpu):
    """The program in each precision of its products: name and text."""
    if gpu and "bfloat16" not in name:
        exact = text.replace("[DEFAULT, DEFAULT]", "[HIGHEST, HIGHEST]")
        return {"float32": exact, "tf32": text}
    return {"bfloat16" if "bfloat16" in name else "float32": text}


def main():
    """Prints one JSON object; each line of it at once, to standard error."""
    import jax

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", default="", help="programs whose names match this")
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    device = jax.devices()[0]
    gpu = device.platform == "gpu"
    report = {
        "date": datetime.date.today().isoformat(),
        "device": device.device_kind,
        "versions": {"jax": jax.__version__},
        "gflop_per_s": product_rates(jax, 8192 if gpu else 1024),
        "lines": [],
    }
    for path in sorted(args.folder.glob("*.inputs.json")):
        name = path.name.removesuffix(".inputs.json")
        if not re.search(args.only, name):
            continue
        told = json.loads(path.read_text())
        written = (args.folder / f"{name}.stablehlo.mlir").read_text()
        for precision, text in precisions(name, written, gpu).items():
            line = run(jax, text, told, args.repeats)
            if told["gflop"]:
                rate = 1e3 * told["gflop"] / line["ms"]
                line["share"] = rate / report["gflop_per_s"][precision]
            line = {"program": name, "precision": precision, **line}
            report["lines"].append(line)
            print(json.dumps(line), file=sys.stderr, flush=True)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
