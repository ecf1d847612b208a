"""The training step and decoding, at paper size, on whatever device TensorFlow sees.

    python benchmarks/accelerator.py [--batches 1,32,64] [--hlo DIR] [--small]

Milliseconds of the training step (hard attention, one sample) and of decoding (greedily
and with beam 3, 20 words), at several batch sizes, in float32, and the step in
mixed_bfloat16 too; and the share of this device's own product rate, measured in
float32, in TF32 on a GPU, and in bfloat16. Each program runs as the package runs
it, and compiled as a whole by XLA.

With --hlo nothing is measured: every program is written as StableHLO and as HLO, before
and after optimisation for this device, with what it reads and answers, for
benchmarks/run_programs.py to run where JAX is, and for others to read.

What a word launches: operations in the loop's body, as TensorFlow runs it one by one;
with --hlo, instructions left in the body that XLA makes of it, a fusion counted once.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import decode as decode_benchmark
import keras
import numpy as np
import tensorflow as tf
import train_step
from machine import describe, product_rate, timed, versions
from run_programs import described, drawn, instructions

from sat_tf import Encoder, ShowAttendTell
from sat_tf.decoding import DecodingOptions, decode
from sat_tf.runtime.memory import keep_freed_memory

STAGES = {"stablehlo": "mlir", "hlo": "txt", "optimized_hlo": "txt"}
DECODERS = {"greedy": 1, "beam_3": 3}
# D = A = n = m, grid, V, words of a caption that is learned, and of one that is said.
PAPER, SMALL = (512, 14, 10_000, 16, 20), (16, 7, 100, 4, 4)


def build(sizes, dtype="float32"):
    """A compiled captioner of random weights."""
    keras.utils.set_random_seed(17)
    size, grid, vocabulary, *_ = sizes
    model = ShowAttendTell(
        [f"w{i}" for i in range(vocabulary - 3)],
        encoder=Encoder("none", features_shape=(grid, grid, size), dtype=dtype),
        estimator="reinforce",
        embedding_size=size,
        hidden_size=size,
        attention_size=size,
        dtype=dtype,
    )
    model.compile(optimizer=keras.optimizers.Adam(4e-4))
    return model


def features(sizes, batch):
    """Random features `[B, L, D]`."""
    shape = (batch, sizes[1] ** 2, sizes[0])
    return tf.constant(np.random.default_rng(17).normal(size=shape), tf.float32)


def training(model, sizes, batch, whole=False):
    """The step as a function, and what it takes."""
    words = np.random.default_rng(17).integers(3, sizes[2], (batch, sizes[3]))
    data = {
        "annotations": features(sizes, batch),
        "tokens": tf.constant(words, tf.int32),
    }
    step = tf.function(
        lambda data: model.train_step(data)["loss"], jit_compile=whole, autograph=False
    )
    return step, data


def decoding(model, sizes, batch, beam, whole=False):
    """The decoder as a function, and what it takes."""
    options = DecodingOptions(
        decoder="beam" if beam > 1 else "greedy",
        beam=beam,
        max_length=sizes[4],
        min_length=sizes[4],
    )

    @tf.function(jit_compile=whole, autograph=False)
    def run(features):
        start = model.network.start(features)
        return decode(model.network.step, *start, options, seed=17).score

    return run, features(sizes, batch)


def measure(function, given, repeats):
    """Milliseconds of the fastest call, and seconds of the first, which traces."""
    start = time.perf_counter()
    tf.nest.map_structure(lambda x: x.numpy(), function(given))
    first = time.perf_counter() - start
    return {
        "ms": 1e3 * min(timed(lambda: function(given), repeats)),
        "first_call_s": first,
    }


def launches(function, given):
    """Operations in the body of each loop, as TensorFlow runs it."""
    graph = function.get_concrete_function(given).graph.as_graph_def()
    bodies = {f.signature.name: f.node_def for f in graph.library.function}
    nodes = [*graph.node, *(n for body in bodies.values() for n in body)]
    loops = [n for n in nodes if n.op in ("While", "StatelessWhile")]
    idle = ("Const", "Identity", "NoOp", "Placeholder")
    return [
        sum(n.op not in idle for n in bodies[loop.attr["body"].func.name])
        for loop in loops
    ]


def programs(sizes, batch):
    """Every program of a batch size: name, GFLOP if of paper size, what makes it.

    What makes it builds its captioner too: nothing is built for one not asked for.
    """
    step = sum(train_step.operations(1).values()) * batch / train_step.B / 1e9
    at_paper_size = sizes is PAPER
    for dtype in ("float32", "mixed_bfloat16"):

        def make(whole, dtype=dtype):
            return training(build(sizes, dtype), sizes, batch, whole)

        yield f"train_step_{dtype}_batch_{batch}", step if at_paper_size else None, make
    for decoder, beam in DECODERS.items():

        def make(whole, beam=beam):
            return decoding(build(sizes), sizes, batch, beam, whole)

        caption = (
            decode_benchmark.operations(sizes[1] ** 2, sizes[2], batch, beam) / 1e9
        )
        yield f"{decoder}_batch_{batch}", caption if at_paper_size else None, make


def rates():
    """GFLOP/s of large products on this device, in each precision that it has."""
    found = {}
    gpu = bool(tf.config.list_physical_devices("GPU"))
    tf.config.experimental.enable_tensor_float_32_execution(False)
    found["float32"] = product_rate(size=8192 if gpu else 2048)
    tf.config.experimental.enable_tensor_float_32_execution(True)
    if gpu:
        found["tf32"] = product_rate(size=8192)
    found["bfloat16"] = product_rate(size=8192 if gpu else 2048, dtype="bfloat16")
    return found


def drawn_inputs(function, given):
    """Draws all that a program reads anew, and says how: its `inputs`, then `given`.

    In the order of the compiled program: what is given, then what was captured.
    """
    program = function.get_concrete_function(given)
    told = [described(x.numpy()) for x in tf.nest.flatten(given)]
    given = tf.nest.pack_sequence_as(
        given, [tf.constant(drawn(x, seed)) for seed, x in enumerate(told)]
    )
    held = {id(v.handle): v for v in program.variables}
    for captured in program.captured_inputs:
        variable = held.get(id(captured))
        array = (captured if variable is None else variable).numpy()
        told.append(described(array))
        if variable is not None:
            variable.assign(drawn(told[-1], len(told) - 1))
    return told, given


def written(make, folder, name, gflop):
    """Writes a program, and what it reads and answers; what its words launch."""
    function, given = make(True)
    line = {"operations_a_word": launches(function, given)}
    folder.mkdir(parents=True, exist_ok=True)
    inputs, given = drawn_inputs(function, given)
    stage_of = function.experimental_get_compiler_ir(given)
    for stage, ending in STAGES.items():
        text = stage_of(stage=stage)
        (folder / f"{name}.{stage}.{ending}").write_text(text)
    answer = function(given).numpy().ravel().tolist()
    told = {"gflop": gflop, **line, "answer": answer, "inputs": inputs}
    (folder / f"{name}.inputs.json").write_text(json.dumps(told))
    left = sorted(instructions(text))[-len(line["operations_a_word"]) :]
    return {**line, "instructions_a_word": left}


def measured(make, repeats, gflop, known):
    """Times of a program as the package runs it and compiled, and what words launch."""
    line = {}
    for how, whole in (("as_run", False), ("compiled", True)):
        function, given = make(whole)
        line[how] = times = measure(function, given, repeats)
        if gflop is not None:
            rate = 1e3 * gflop / times["ms"]
            times["share_of"] = {name: rate / best for name, best in known.items()}
        line["operations_a_word"] = launches(function, given)
    return line


def main():
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batches", default="1,8,32,64", help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--hlo", type=pathlib.Path, help="write the programs here")
    parser.add_argument("--only", default="", help="programs whose names have this")
    parser.add_argument("--small", action="store_true", help="tiny sizes, as a try")
    args = parser.parse_args()
    keep_freed_memory()
    sizes = SMALL if args.small else PAPER
    devices = tf.config.list_physical_devices("GPU") or describe()["processor"]
    report = {"device": str(devices), "versions": versions(), "lines": []}
    if not args.hlo:
        report["gflop_per_s"] = rates()
    for batch in map(int, args.batches.split(",")):
        for name, gflop, make in programs(sizes, batch):
            if args.only not in name:
                continue
            if args.hlo:
                line = written(make, args.hlo, name, gflop)
            else:
                line = measured(make, args.repeats, gflop, report["gflop_per_s"])
            report["lines"].append({"program": name, "batch": batch, **line})
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
