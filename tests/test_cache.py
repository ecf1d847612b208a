"""The cache on disk: what is written is read, after kills and full disks too."""

import errno
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pictures
import pytest
import tensorflow as tf

from sat_tf.datasets import cache
from sat_tf.datasets.split import Split

SHAPE = (4, 8)
N = 50


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Eight float16 records per shard."""
    monkeypatch.setattr(cache, "_SHARD_BYTES", 8 * 4 * 8 * 2)


def records(n=N):
    rng = np.random.default_rng(17)
    return rng.normal(size=[n, *SHAPE]).astype(np.float16)


def batches(start, size=3, calls=None):
    if calls is not None:
        calls.append(start)
    for i in range(start, N, size):
        yield records()[i : i + size].astype(np.float32)


def write(directory, produce=batches, **changes):
    options = {"n_records": N, "record_shape": SHAPE, "dtype": "float16"}
    options |= {"fingerprint": {"encoder": "a", "data": "b"}} | changes
    return cache.write(directory, produce, **options)


def test_any_order_is_read_back(tmp_path):
    written = write(tmp_path / "new" / "folder")
    indices = np.random.default_rng(17).integers(0, N, 200)
    read = written.read(indices)
    np.testing.assert_array_equal(read, records()[indices])
    assert len(written) == N and read.dtype == np.float16
    assert written.read([]).shape == (0, *SHAPE)
    assert len(list((tmp_path / "new" / "folder").glob("shard-*"))) == 7


@pytest.mark.parametrize("indices", [[N], [-1]])
def test_outside_is_an_error(tmp_path, indices):
    with pytest.raises(IndexError, match="same split"):
        write(tmp_path).read(indices)


def test_complete_cache_is_not_computed_again(tmp_path):
    write(tmp_path)
    calls = []
    write(tmp_path, lambda start: batches(start, calls=calls))
    assert not calls


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fingerprint": {"encoder": "c", "data": "b"}}, "encoder was 'a', is 'c'"),
        ({"record_shape": (8, 4)}, r"record_shape was \[4, 8\], is \[8, 4\]"),
        ({"dtype": "float32"}, "dtype was 'float16'"),
    ],
)
def test_stale_cache_is_refused_with_the_reason(tmp_path, change, reason):
    write(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=reason):
        write(tmp_path, **change)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_incomplete_cache_is_not_opened(tmp_path):
    write(tmp_path)
    (tmp_path / "shard-00002.bin").unlink()
    with pytest.raises(ValueError, match="1 shards missing"):
        cache.ArrayCache(tmp_path)
    with pytest.raises(ValueError, match="no manifest"):
        cache.ArrayCache(tmp_path / "elsewhere")


def test_lost_shards_are_written_again(tmp_path):
    write(tmp_path)
    (tmp_path / "shard-00002.bin").unlink()
    calls = []
    again = write(tmp_path, lambda start: batches(start, calls=calls))
    assert calls == [16]
    np.testing.assert_array_equal(again.read(range(N)), records())


def test_truncated_shard_is_an_error_that_names_it(tmp_path):
    written = write(tmp_path)
    os.truncate(tmp_path / "shard-00001.bin", 100)
    with pytest.raises(OSError, match="shard-00001.bin"):
        written.read([12])


def test_kill_loses_no_complete_shard(tmp_path):
    """A real process, really killed while it writes; another goes on behind it."""
    script = textwrap.dedent("""
        import sys, time
        from sat_tf.datasets import cache
        import test_cache
        cache._SHARD_BYTES = 8 * 4 * 8 * 2
        def slowly(start):
            for batch in test_cache.batches(start):
                time.sleep(0.05)
                yield batch
        test_cache.write(sys.argv[1], slowly)
    """)
    here = pathlib.Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here.parent)},
        stderr=subprocess.PIPE,
    )
    while len(list(tmp_path.glob("shard-*"))) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    _, message = process.communicate()
    assert process.returncode == -signal.SIGKILL, message
    complete = {path: path.stat().st_mtime_ns for path in tmp_path.glob("shard-*")}
    assert 3 <= len(complete) < 7
    (tmp_path / ".shard-00003.bin.1.tmp").write_bytes(b"half")  # as a kill leaves it
    calls = []
    again = write(tmp_path, lambda start: batches(start, calls=calls))
    assert calls == [8 * len(complete)]
    assert all(path.stat().st_mtime_ns == then for path, then in complete.items())
    np.testing.assert_array_equal(again.read(range(N)), records())
    assert not list(tmp_path.glob(".*.tmp"))


def test_full_disk_keeps_complete_shards(tmp_path):
    """A limit on the size of files stands for the full disk: the last shard is big."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(start):
        for i, batch in enumerate(batches(start)):
            if i == 9:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            yield batch

    try:
        with pytest.raises(OSError, match="complete shards are kept") as caught:
            write(tmp_path, fills_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and str(tmp_path) in str(caught.value)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["manifest.json", *(f"shard-0000{i}.bin" for i in range(3))]
    np.testing.assert_array_equal(write(tmp_path).read(range(N)), records())


def test_too_small_a_disk_is_said_before_the_work(tmp_path):
    with pytest.raises(OSError, match="choose another cache directory") as caught:
        write(tmp_path, record_shape=(2**42,))
    assert caught.value.errno == errno.ENOSPC


def test_unwritable_directory_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="choose another cache directory"):
        write(tmp_path / "file" / "cache")


@pytest.mark.parametrize(
    ("batch", "received"),
    [
        (np.zeros([2, 8, 4]), r"shape=\(8, 4\)"),
        (np.full([2, *SHAPE], 1e9), "finite=False"),
        (np.full([2, *SHAPE], np.nan), "finite=False"),
    ],
)
def test_wrong_records_are_refused(tmp_path, batch, received):
    with pytest.raises(ValueError, match=received):
        write(tmp_path, lambda start: [batch])


def test_too_few_records_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Received: 2"):
        write(tmp_path, lambda start: [records(2)])


def split(n=11):
    """A split of tiny PNG files, every image of one value."""
    values = np.arange(n) * 20
    files = [pictures.encode(pictures.plain(value), "PNG") for value in values]
    return Split(
        name="path/to/own data",
        split="train[:11]",
        file_names=tuple(f"{value}.png" for value in values),
        captions=(("a word",),) * n,
        regions=((None,),) * n,
        images=tf.data.Dataset.from_tensor_slices(files),
        fingerprint="f",
    )


def test_pixels_of_a_split(tmp_path):
    pixels = cache.cache_pixels(split(), (8, 12), "crop", tmp_path)
    assert pixels.record_shape == (8, 12, 3) and pixels.dtype == np.uint8
    means = pixels.read(range(11)).mean((1, 2, 3))
    np.testing.assert_array_equal(means, np.arange(11) * 20)
    assert [path.name for path in tmp_path.iterdir()] == ["own_data-train_11_-pixels"]


def test_features_of_a_split(tmp_path):
    calls = []

    def encode(images):
        calls.append(images.shape)
        return tf.reduce_mean(images, -1)[:, :2, :5] / 2

    options = dict(record_shape=(2, 5), size=(8, 8), mode="squash", batch_size=4)
    for _ in range(2):
        features = cache.cache_features(
            split(), encode, fingerprint="mean", cache_dir=tmp_path, **options
        )
    assert calls == [(4, 8, 8, 3), (4, 8, 8, 3), (3, 8, 8, 3)]
    expected = np.broadcast_to(np.arange(11)[:, None, None] * 10, [11, 2, 5])
    np.testing.assert_array_equal(features.read(range(11)), expected)
    with pytest.raises(ValueError, match="encoder was 'mean', is 'other'"):
        cache.cache_features(
            split(), encode, fingerprint="other", cache_dir=tmp_path, **options
        )
    manifest = json.loads(next(tmp_path.glob("*/manifest.json")).read_text())
    assert manifest["fingerprint"]["images"] == "squash (8, 8)"


def test_reading_keeps_memory_flat(tmp_path, monkeypatch):
    """Reading 64 MB in random order leaves almost nothing resident."""
    monkeypatch.setattr(cache, "_SHARD_BYTES", 2**24)
    row = np.ones([1, 2**20], np.uint8)
    big = cache.write(
        tmp_path,
        lambda start: (row for _ in range(start, 64)),
        n_records=64,
        record_shape=(2**20,),
        dtype="uint8",
        fingerprint={},
    )
    rng = np.random.default_rng(17)
    big.read(rng.integers(0, 64, 4))
    before = resident_bytes()
    for _ in range(32):
        big.read(rng.integers(0, 64, 4))
    assert resident_bytes() - before < 16 * 2**20


def resident_bytes():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
