"""Freed memory stays with the process that asked for it, and is not forgotten."""

import platform
import subprocess
import sys

import numpy as np
import pytest

from sat_tf.bench.gradients import _memory_growth

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
MEGABYTES = 200
SCRIPT = f"""
import pathlib
import numpy as np
from sat_tf.runtime.memory import keep_freed_memory

if {{keep}}:
    assert keep_freed_memory()
resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
for _ in range(2):
    np.ones({MEGABYTES} << 20, np.uint8)
print((resident() - before) >> 20)
"""


@glibc
@pytest.mark.parametrize("keep", [True, False])
def test_freed_memory_is_kept_only_when_asked_for(keep):
    script = SCRIPT.format(keep=keep)
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    kept = int(ran.stdout)
    assert kept >= MEGABYTES - 5 if keep else kept < 5


@glibc
def test_growth_counts_what_comes_out_of_freed_memory():
    def work():
        return [np.ones(64 << 10, np.uint8) for _ in range(16 * MEGABYTES)]

    blocks = work()
    last = blocks.pop()  # at the end of the heap, which cannot shrink by itself
    del blocks
    growth = _memory_growth(work)
    assert last.all()
    assert MEGABYTES - 10 < growth < MEGABYTES + 40
