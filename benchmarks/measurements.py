"""What `compare.py` measures: one row each, with the figures to keep and their targets.

A row names a script of this folder that prints JSON. In its arguments `{data}` stands
for `--data-dir DIR`, or for nothing where there are no photographs; `{flickr8k}` for
the same with `--data flickr8k`; `{work}` is a folder of the checkout's own and
`{pictures}` one that both share. `--quick` puts `quick` behind the other arguments.
"""

from typing import NamedTuple


class Figure(NamedTuple):
    """A number of what a script prints: `load.2.p50_ms` is `["load"][2]["p50_ms"]`."""

    key: str
    says: str
    target: str = ""  # of AFTER: `<= 12`


class Measurement(NamedTuple):
    """A command and its figures."""

    name: str
    script: str
    figures: tuple
    quick: str = ""
    rounds: int = 5


def _step(estimator, least):
    return Measurement(
        f"step_{estimator}",
        f"train_step.py --estimator {estimator} --json",
        (
            Figure("best_ms", f"{estimator}, ms"),
            Figure("share_of_product_rate", f"{estimator}, share of the rate", least),
            Figure("peak_memory_gb", f"{estimator}, peak memory, GB"),
        ),
        quick="--repeats 3",
    )


def _clients(index, number):
    return (
        Figure(f"load.{index}.captions_per_second", f"captions/s, {number} clients"),
        Figure(f"load.{index}.p50_ms", f"p50, {number} clients, ms"),
    )


def _files(name, arguments, what, quick):
    return Measurement(
        name,
        f"files.py {arguments} --pictures {{pictures}}",
        (
            Figure("wall_s", f"{what}, s"),
            Figure("processor_s", f"{what}, processor time, s"),
            Figure("busy", f"{what}, processor busy", ">= 0.9"),
            Figure("busy_beside_start", f"{what}, busy beside the start"),
            Figure("peak_memory_gb", f"{what}, peak memory, GB"),
            Figure("cold_start_s", f"{what}, cold start, s", "<= 4"),
        ),
        quick=quick,
        rounds=3,
    )


MEASUREMENTS = (
    _step("reinforce", ">= 0.65"),
    _step("straight_through", ">= 0.55"),
    _step("soft", ">= 0.55"),
    Measurement(
        "step_mixed",
        "train_step.py --mixed --json",
        (
            Figure("mixed_bfloat16_ms", "reinforce, mixed_bfloat16, ms"),
            Figure("mixed_bfloat16_times", "float32 over mixed_bfloat16", ">= 1.6"),
        ),
        quick="--repeats 3",
    ),
    Measurement(
        "decode",
        "decode.py --quick --json",
        (
            Figure("lines.0.ms_per_image", "beam 3, 1 image, ms", "<= 12"),
            Figure("lines.1.ms_per_image", "greedy, 1 image, ms", "<= 6"),
            Figure("lines.2.ms_per_image", "beam 3, 32 images, ms each"),
            Figure("lines.2.share_of_floor", "beam 3, share of the floor", ">= 0.6"),
            Figure("lines.3.ms_per_image", "greedy, 32 images, ms each"),
            Figure("lines.3.share_of_floor", "greedy, share of the floor", ">= 0.6"),
        ),
        quick="--repeats 3",
    ),
    Measurement(
        "shipped",
        "shipped.py --pictures {pictures} {data}",
        tuple(
            Figure(f"batch_{n}.{key}", f"shipped, batch {n}, {says}", target)
            for n in (1, 32)
            for key, says, target in (
                ("default_ms", "by default, ms an image", ""),
                ("beam_3_ms", "beam 3, ms an image", ""),
                ("default_times_beam_3", "default over beam 3", "<= 2.5"),
            )
        ),
        quick="--repeats 3",
    ),
    _files("files", "--count 1000 {data}", "1,000 files", "--count 40"),
    _files(
        "files_12mp",
        "--count 1000 --megapixels 12",
        "1,000 files of 12 megapixels",
        "--count 40",
    ),
    Measurement(
        "serve",
        "serve.py --preset flickr8k_hard {data}",
        (
            *_clients(0, 1),
            *_clients(1, 8),
            *_clients(2, 32),
            Figure("floor_captions_per_second", "captions/s of the graph in a loop"),
            Figure("share_of_floor", "32 clients, share of that loop"),
            Figure("first_times_steady", "first caption over later ones", "<= 1.2"),
            Figure("resident_last_mb", "memory at the end, MB"),
            Figure("resident_growth", "memory, growth over nine tenths"),
        ),
        quick="--requests 300",
        rounds=3,
    ),
    Measurement(
        "start",
        "start.py --work {work} {flickr8k}",
        (
            Figure("first_s", "command to first update, s", "<= 10"),
            Figure("update_ms", "an update of that training, ms"),
            Figure("waited", "share of it that waits for input", "<= 0.02"),
        ),
        quick="--steps 20",
        rounds=3,
    ),
    Measurement(
        "replicas",
        "replicas.py --json",
        (
            Figure("two_replicas_ms", "two replicas, an update, ms"),
            Figure("ratio", "two replicas over one device"),
        ),
        quick="--rounds 1",
        rounds=3,
    ),
    Measurement(
        "epoch_order",
        "epoch_order.py",
        (
            Figure("start_s", "order of 50 million captions, start, s"),
            Figure("epoch_s.0", "order of 50 million captions, an epoch, s"),
            Figure("peak_gb", "order of 50 million captions, peak memory, GB"),
        ),
        quick="--captions 100000",
        rounds=3,
    ),
    Measurement(
        "cache_memory",
        "cache_memory.py --directory {work} --json",
        (
            Figure("megabytes_per_s", "batches from a cache of 6 GB, MB/s"),
            Figure("peak_gb", "batches from a cache of 6 GB, peak memory, GB"),
        ),
        quick="--gigabytes 0.2",
        rounds=3,
    ),
)
