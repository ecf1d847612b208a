"""Freed memory stays with the process that asked for it."""

import platform
import subprocess
import sys

import pytest

MEGABYTES = 200
SCRIPT = f"""
import pathlib
import numpy as np
from sat_tf.memory import keep_freed_memory

if {{keep}}:
    assert keep_freed_memory()
resident = lambda: int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096
before = resident()
for _ in range(2):
    np.ones({MEGABYTES} << 20, np.uint8)
print((resident() - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
@pytest.mark.parametrize("keep", [True, False])
def test_freed_memory_is_kept_only_when_asked_for(keep):
    script = SCRIPT.format(keep=keep)
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    kept = int(ran.stdout)
    assert kept >= MEGABYTES - 5 if keep else kept < 5
