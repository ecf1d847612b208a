"""How many batches are at work at once, and on how many cores each."""

import os
import subprocess
import sys

import pytest

from sat_tf.runtime import cores

SAY = """
import tensorflow as tf
{before}
from sat_tf.runtime import cores
number = cores.one_core_each()
print(number, tf.config.threading.get_intra_op_parallelism_threads())
"""


@pytest.mark.parametrize(
    ("before", "asked", "threads"),
    [
        ("", {}, 1),
        ("", {"TF_NUM_INTRAOP_THREADS": "3"}, 0),  # 0: as the environment says
        ("tf.constant(1) + 1", {}, 0),
        ("tf.config.threading.set_intra_op_parallelism_threads(2)", {}, 2),
    ],
    ids=["alone", "asked", "begun", "set"],
)
def test_an_operation_keeps_to_one_core_unless_told_otherwise(before, asked, threads):
    answer = subprocess.run(
        [sys.executable, "-c", SAY.format(before=before)],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == [str(cores.number()), str(threads)]


def test_a_gpu_computes_one_batch_after_the_other(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    assert cores.one_core_each() == 1


def test_a_system_that_knows_no_affinity_says_how_many_cores_there_are(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert cores.number() == os.cpu_count()
