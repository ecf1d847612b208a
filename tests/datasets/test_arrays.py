"""Arrays that are kept: whole or not there, and mapped."""

import json
import os
import time

import numpy as np
import pytest

from sat_tf.datasets import arrays
from sat_tf.runtime import caches

VALUES = np.arange(12, dtype=np.float32).reshape(6, 2)


def write(growing):
    """Two arrays in pieces, and where rows of the first end."""
    for start, stop in arrays.blocks(len(VALUES), 4):
        growing.append("values", VALUES[start:stop])
        growing.append_rows("starts", [1, stop - start - 1])
    growing.append("nothing", np.zeros([0, 4], np.float32))
    return {"n_records": len(VALUES), "more": "said"}


def keep(folder, fingerprint="a", write=write):
    return arrays.keep(folder, "own data", fingerprint, write)


def never(growing):
    raise AssertionError("it is there already")


def in_another_process(function):
    """Its number; it ends without a word to anybody, as when it is killed."""
    child = os.fork()
    if not child:
        try:
            function()
        finally:
            os._exit(0)
    return child


def check(kept):
    found, said = kept
    np.testing.assert_array_equal(found["values"], VALUES)
    np.testing.assert_array_equal(found["starts"], [0, 1, 4, 5, 6])
    assert found["nothing"].shape == (0, 4) and found["values"].dtype == np.float32
    assert said["more"] == "said"


def test_written_once_and_mapped(tmp_path):
    check(keep(tmp_path))
    found, _ = kept = keep(tmp_path, write=never)
    check(kept)
    with pytest.raises(ValueError, match="read-only"):
        found["values"][0] = 1
    keep(tmp_path, "of other content")
    first, second = caches.find(tmp_path)
    assert first.complete and first.images == second.images == len(VALUES)
    caches.remove(tmp_path, first.name)
    caches.remove(tmp_path, second.name)
    check(kept)  # whoever has it keeps it
    check(keep(tmp_path))


def test_in_memory_as_on_disk():
    growing = arrays.Growing()
    said = write(growing)
    check(({name: growing.read(name) for name in growing.kinds}, said))


def test_a_kill_leaves_nothing_that_is_taken_for_whole(tmp_path):
    """At any moment: while arrays are written, and before the manifest is."""

    def killed(growing):
        growing.append("values", VALUES[:4])
        os._exit(1)

    os.waitpid(in_another_process(lambda: keep(tmp_path, write=killed)), 0)
    assert caches.find(tmp_path) == []
    check(keep(tmp_path))
    (folder,) = tmp_path.iterdir()
    assert not list(folder.glob(".*"))
    manifest = folder / caches.MANIFEST
    manifest.unlink()
    check(keep(tmp_path))
    for torn in manifest, folder / "values.bin":  # where a disk lost its power
        torn.write_bytes(b"cut short")
        check(keep(tmp_path))
    assert json.loads(manifest.read_text())["fingerprint"] == "a"


def test_two_processes_at_once(tmp_path):
    """Both do the work, and neither is disturbed."""

    def slowly(growing):
        said = write(growing)
        time.sleep(0.5)
        return said

    other = in_another_process(lambda: keep(tmp_path, write=slowly))
    time.sleep(0.2)
    check(keep(tmp_path))
    _, status = os.waitpid(other, 0)
    assert status == 0
    check(keep(tmp_path, write=never))


def test_where_nothing_can_be_kept(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="SAT_TF_CACHE or --cache-dir"):
        keep(tmp_path / "file")
    with pytest.raises(ValueError, match="Received: 'gs://bucket/cache'.*mount"):
        keep("gs://bucket/cache")
