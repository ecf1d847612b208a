"""What a caption costs: batched in-graph decoding against a per-image Python loop.

    python benchmarks/decode.py [--json] [--quick] [--repeats 10]

Sizes of the paper: L=196, D=512, attention 512, n=512, V=10,000; random weights and
annotations; every caption is 20 words (<eos> is held back), argmax attention.

- usual: beam 3 as it is usually written: one image at a time, a Python loop a word,
  features expanded per beam and projected anew at every word. Same weights: its
  captions are compared with the batched ones.
- floor: counted operations (a multiply-add is two, a tanh one) over the float32
  matrix-product rate, measured in turns with what is compared with it.
- Each figure is the best of `--repeats`: the machine may have other work.
- Freed memory is kept (`sat_tf.keep_freed_memory`), as `sat-tf evaluate` keeps it.
"""

import argparse
import functools
import json
import time

import keras
import numpy as np
import tensorflow as tf

from sat_tf.captioner import ShowAttendTell
from sat_tf.decoding import DecodingOptions, decode
from sat_tf.model.encoder import Encoder
from sat_tf.runtime.memory import keep_freed_memory
from sat_tf.vocabulary import SPECIAL

WORDS, SIZE = 20, 512  # words a caption; D = A = n = m
BEAMS, BATCHES = (1, 3, 5, 10), (1, 8, 32, 64)
VOCABULARIES, GRIDS = (1_000, 10_000, 30_000), ((7, 7), (14, 14), (20, 20))


@functools.cache
def build(vocabulary=10_000, grid=(14, 14)):
    """A paper-size captioner with random weights."""
    keras.utils.set_random_seed(17)
    return ShowAttendTell(
        [f"w{i}" for i in range(vocabulary - len(SPECIAL))],
        encoder=Encoder("none", features_shape=(*grid, SIZE)),
        embedding_size=SIZE,
        hidden_size=SIZE,
        attention_size=SIZE,
    )


def annotations(captioner, batch):
    """Random annotations `[B, L, D]`."""
    shape = (batch, captioner.encoder.locations, SIZE)
    return tf.constant(np.random.default_rng(17).normal(size=shape), tf.float32)


def batched(captioner, decoder, beam):
    """The product: annotations `[B, L, D]` to `Decoded`, one compiled function."""
    options = DecodingOptions(
        decoder=decoder, beam=beam, max_length=WORDS, min_length=WORDS
    )

    @tf.function(input_signature=[tf.TensorSpec([None, None, SIZE])], autograph=False)
    def run(features):
        start = captioner.network.start(features)
        return decode(captioner.network.step, *start, options, seed=17)

    return run


def usual(captioner, features, beam):
    """Beam search for one image, `features [1, L, D]`, as tutorials write it."""
    decoder, attention = captioner.network.decoder, captioner.network.attention
    annotations = captioner.encoder(features)
    annotations = tf.repeat(annotations, beam, axis=0)  # [K, L, D]
    hidden, cell = (x[0] for x in decoder.initial_state(annotations))  # [K, n]
    words = tf.zeros([beam], tf.int32)
    scores = tf.constant([[0.0]] + [[-np.inf]] * (beam - 1))
    captions = np.zeros([beam, 0], np.int32)
    for _ in range(WORDS):
        projected = attention.project(annotations)
        joint = tf.tanh(projected + attention.query(hidden)[:, None])
        logits = tf.linalg.matvec(joint, attention.vector)
        place = tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1])
        context = tf.reduce_sum(place[..., None] * annotations, axis=1)
        context = decoder.beta(hidden) * context
        embedded = decoder.embed(words)
        for_gates, for_word = decoder.read(context)
        hidden, cell = decoder.recur(embedded, for_gates, hidden, cell)
        log_p = tf.nn.log_softmax(decoder.logits(embedded, hidden, for_word))
        never = tf.range(log_p.shape[-1]) < len(SPECIAL)  # also <eos>: 20 words
        log_p = scores + tf.where(never, -np.inf, log_p)
        scores, best = tf.math.top_k(tf.reshape(log_p, [-1]), beam)
        parents, words = best // log_p.shape[-1], best % log_p.shape[-1]
        captions = np.concatenate([captions[parents], words[:, None]], axis=1)
        annotations = tf.gather(annotations, parents)
        hidden, cell = tf.gather(hidden, parents), tf.gather(cell, parents)
        scores = scores[:, None]
    return captions[0]


def operations(places, vocabulary, batch, beam):
    """Floating-point operations to decode a batch, at L places and of V words."""
    d = a = n = m = SIZE
    start = 2 * places * d * a + 2 * 2 * d * n
    attend = 2 * n * a + 4 * places * a + 2 * places * d + 2 * n
    recur = 2 * 4 * n * (n + d + m)
    output = 2 * m * (n + d + vocabulary)
    # The first word has one beam.
    return batch * (start + (attend + recur + output) * (1 + (WORDS - 1) * beam))


def best(repeats, *calls):
    """Seconds of each call's fastest turn of `repeats`, after one that compiles."""
    seconds = [[] for _ in calls]
    for _ in range(repeats + 1):
        for call, taken in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [min(taken[1:]) for taken in seconds]


@functools.cache
def product(size=2048):
    """A float32 matrix product to call, and its operations."""
    a = tf.random.normal([size, size])
    compiled = tf.function(tf.matmul, autograph=False)
    return lambda: compiled(a, a).numpy(), 2 * size**3


def measure(captioner, decoder, beam, batch, repeats):
    """One line of the report."""
    run, features = batched(captioner, decoder, beam), annotations(captioner, batch)
    multiply, multiplied = product()
    seconds, product_seconds = best(
        repeats, lambda: run(features).score.numpy(), multiply
    )
    places, vocabulary = captioner.encoder.locations, len(captioner.vocabulary)
    counted = operations(places, vocabulary, batch, beam)
    return {
        "decoder": decoder,
        "beam": beam,
        "batch": batch,
        "locations": captioner.encoder.locations,
        "vocabulary": len(captioner.vocabulary),
        "ms_per_image": 1e3 * seconds / batch,
        "gflop": counted / 1e9,
        "matrix_gflop_per_s": multiplied / product_seconds / 1e9,
        "share_of_floor": counted / multiplied * product_seconds / seconds,
    }


def sweep(captioner):
    """Every decoder and beam at batch 32; beam 3 over batch, V and L."""
    yield captioner, "greedy", 1, 32
    yield captioner, "sample", 1, 32
    for beam in BEAMS:
        yield captioner, "beam", beam, 32
    for batch in BATCHES:
        yield captioner, "beam", 3, batch
    for vocabulary in VOCABULARIES:
        yield build(vocabulary=vocabulary), "beam", 3, 32
    for grid in GRIDS:
        yield build(grid=grid), "beam", 3, 32


def main():
    """Measures and prints; with --json one object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="beam 3 and greedy, 1 and 32 images"
    )
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()

    keep_freed_memory()
    captioner = build()
    features = annotations(captioner, 32)
    captions = batched(captioner, "beam", 3)(features).tokens[0].numpy()
    checked = range(2 if options.quick else 4)
    same = all(
        (usual(captioner, features[i : i + 1], 3) == captions[i]).all() for i in checked
    )
    (slow,) = best(options.repeats, lambda: usual(captioner, features[:1], 3))
    few = (("beam", 3, 1), ("greedy", 1, 1), ("beam", 3, 32), ("greedy", 1, 32))
    cases = [(captioner, *case) for case in few]
    if not options.quick:
        cases = list(dict.fromkeys(sweep(captioner)))
    lines = [measure(*case, options.repeats) for case in cases]
    # The machine may have been busy: the baseline gets a second chance.
    slow = min(slow, *best(options.repeats, lambda: usual(captioner, features[:1], 3)))
    for line in lines:
        line["times_usual"] = 1e3 * slow / line["ms_per_image"]
    report = {
        "matrix_gflop_per_s": max(line["matrix_gflop_per_s"] for line in lines),
        "usual_ms_per_image": 1e3 * slow,
        "same_captions_as_usual": bool(same),
        "lines": lines,
    }
    print(json.dumps(report, indent=1) if options.json else as_text(report))


def as_text(report):
    """The report as a table."""
    rows = [
        f"matrix product {report['matrix_gflop_per_s']:.0f} GFLOP/s; beam 3, usual way "
        f"{report['usual_ms_per_image']:.0f} ms an image; "
        f"same captions: {report['same_captions_as_usual']}",
        "decoder beam batch   L      V  ms/image  GFLOP  of floor  times usual",
    ]
    for x in report["lines"]:
        rows.append(
            f"{x['decoder']:7} {x['beam']:4} {x['batch']:5} {x['locations']:3} "
            f"{x['vocabulary']:6} {x['ms_per_image']:9.2f} {x['gflop']:6.1f} "
            f"{x['share_of_floor']:9.2f} {x['times_usual']:12.1f}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
