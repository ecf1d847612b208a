"""The cache on disk: what is written is read, after kills and full disks too."""

import dataclasses
import errno
import functools
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pictures
import pytest
import tensorflow as tf

from sat_tf import cli
from sat_tf.datasets import cache, shards
from sat_tf.datasets.split import Split
from sat_tf.runtime import caches

SHAPE = (4, 8)
N = 50


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    """Eight float16 records per shard."""
    monkeypatch.setattr(shards, "_SHARD_BYTES", 8 * 4 * 8 * 2)


def records(n=N):
    rng = np.random.default_rng(17)
    return rng.normal(size=[n, *SHAPE]).astype(np.float16)


def batches(start, stop, size=3, calls=None):
    if calls is not None:
        calls.append(start)
    for i in range(start, stop, size):
        yield records()[i : min(i + size, stop)].astype(np.float32)


def write(cache_dir, produce=batches, **changes):
    options = {"n_records": N, "record_shape": SHAPE, "dtype": "float16"}
    options |= {"fingerprint": {"encoder": "a", "data": "b"}} | changes
    return cache.write(cache_dir, produce, **options)


def content(cache_dir):
    """Path -> bytes of all that is there."""
    files = (path for path in cache_dir.rglob("*") if path.is_file())
    return {path: path.read_bytes() for path in files}


def test_any_order_is_read_back(tmp_path):
    written = write(tmp_path / "new" / "folder")
    indices = np.random.default_rng(17).integers(0, N, 200)
    read = written.read(indices)
    np.testing.assert_array_equal(read, records()[indices])
    assert len(written) == N and read.dtype == np.float16
    assert written.read([]).shape == (0, *SHAPE)
    assert len(list((tmp_path / "new" / "folder").glob("*/shard-*"))) == 7


@pytest.mark.parametrize("indices", [[N], [-1]])
def test_outside_is_an_error(tmp_path, indices):
    with pytest.raises(IndexError, match="same split"):
        write(tmp_path).read(indices)


def test_complete_cache_is_not_computed_again(tmp_path):
    write(tmp_path)
    calls = []
    write(tmp_path, lambda *span: batches(*span, calls=calls))
    assert not calls


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": {"encoder": "c", "data": "b"}},
        {"record_shape": (8, 4)},
        {"dtype": "float32"},
    ],
)
def test_other_content_has_another_folder(tmp_path, change):
    write(tmp_path)
    before = content(tmp_path)
    shape = change.get("record_shape", SHAPE)
    other = write(tmp_path, lambda a, b: [records().reshape(N, *shape)[a:b]], **change)
    assert len(list(tmp_path.iterdir())) == 2
    assert before.items() <= content(tmp_path).items()
    np.testing.assert_array_equal(other.read(range(N)), records().reshape(N, *shape))
    calls = []
    write(tmp_path, lambda *span: batches(*span, calls=calls))
    assert not calls


def test_the_same_content_is_found_under_another_name(tmp_path):
    first = write(tmp_path, name="a/photos")
    calls = []
    again = write(
        tmp_path, lambda *span: batches(*span, calls=calls), name="b/" + "ü" * 300
    )
    assert not calls and again.directory == first.directory
    assert first.directory.name.startswith("a_photos-")
    write(tmp_path, name="b/" + "ü" * 300, fingerprint={})


def test_what_fails_at_once_leaves_nothing(tmp_path):
    def failing(start, stop):
        yield records(3)
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        write(tmp_path, failing)
    assert not list(tmp_path.iterdir())
    write(tmp_path)


def test_a_cache_that_may_only_be_read_is_read():
    with tempfile.TemporaryDirectory() as cache_dir:
        folder = write(cache_dir).directory
        for path in (pathlib.Path(cache_dir), folder):
            path.chmod(0o555)
        user = os.geteuid()
        try:
            if not user:  # whom nothing is forbidden
                os.seteuid(65534)
            with pytest.raises(PermissionError):
                (folder / "x").write_text("x")
            np.testing.assert_array_equal(write(cache_dir).read(range(N)), records())
        finally:
            os.seteuid(user)
            for path in (pathlib.Path(cache_dir), folder):
                path.chmod(0o755)


def test_incomplete_cache_is_not_opened(tmp_path):
    folder = write(tmp_path).directory
    caches.shard(folder, 2).unlink()
    with pytest.raises(ValueError, match="1 shards missing"):
        cache.ArrayCache(folder)
    with pytest.raises(ValueError, match="no manifest"):
        cache.ArrayCache(tmp_path / "elsewhere")


@pytest.mark.parametrize("torn", [b"", b'{"n_rec', b"[1]", b"\xff\xfe\xfd"])
def test_a_torn_manifest_is_written_again(torn, tmp_path):
    folder = write(tmp_path).directory
    (folder / caches.MANIFEST).write_bytes(torn)
    assert caches.find(tmp_path) == []
    with pytest.raises(ValueError, match="no manifest"):
        cache.ArrayCache(folder)
    np.testing.assert_array_equal(write(tmp_path).read(range(N)), records())


def test_lost_shards_are_written_again(tmp_path):
    caches.shard(write(tmp_path).directory, 2).unlink()
    calls = []
    again = write(tmp_path, lambda *span: batches(*span, calls=calls))
    assert calls == [16]
    np.testing.assert_array_equal(again.read(range(N)), records())


def test_truncated_shard_is_an_error_that_names_it(tmp_path):
    written = write(tmp_path)
    os.truncate(caches.shard(written.directory, 1), 100)
    with pytest.raises(OSError, match="shard-00001.bin"):
        written.read([12])


SLOWLY = """
import sys, time, test_cache
def slowly(*span):
    for batch in test_cache.batches(*span):
        time.sleep(float(sys.argv[2]))
        yield batch
test_cache.small()
test_cache.write(sys.argv[1], slowly)
"""


def small():
    """For other processes: small shards there, too."""
    shards._SHARD_BYTES = 8 * 4 * 8 * 2


def start(script, *arguments):
    """Another process that may import this file."""
    here = pathlib.Path(__file__).parent
    package = here.parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": f"{package}:{here.parent}:{here}"},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_shards(cache_dir, count, process):
    while len(list(cache_dir.glob("*/shard-*"))) < count and process.poll() is None:
        time.sleep(0.01)


def test_kill_loses_no_complete_shard(tmp_path):
    """A real process, really killed while it writes; another goes on behind it."""
    process = start(SLOWLY, tmp_path, 0.05)
    wait_for_shards(tmp_path, 3, process)
    process.send_signal(signal.SIGKILL)
    _, message = process.communicate()
    assert process.returncode == -signal.SIGKILL, message
    complete = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/shard-*")}
    assert 3 <= len(complete) < 7
    (folder,) = tmp_path.iterdir()
    (folder / ".shard-00003.bin.1.tmp").write_bytes(b"half")  # as a kill leaves it
    calls = []
    again = write(tmp_path, lambda *span: batches(*span, calls=calls))
    assert calls == list(range(8 * len(complete), N, 8))
    assert all(path.stat().st_mtime_ns == then for path, then in complete.items())
    np.testing.assert_array_equal(again.read(range(N)), records())
    assert not list(folder.glob(".*.tmp"))


def test_two_processes_write_one_cache(tmp_path):
    """The second leaves alone what the first has half written, and so does a third."""
    process = start(SLOWLY, tmp_path, 0.3)
    wait_for_shards(tmp_path, 2, process)
    (folder,) = tmp_path.iterdir()
    half = folder / ".shard-00006.bin.99999.tmp"  # the first's, on another computer
    half.write_bytes(b"half")
    for _ in range(2):
        np.testing.assert_array_equal(write(tmp_path).read(range(N)), records())
        assert half.is_file()
    with pytest.raises(ValueError, match="no process is writing"):
        caches.remove(tmp_path, folder.name)
    _, message = process.communicate()
    assert process.returncode == 0, message
    np.testing.assert_array_equal(write(tmp_path).read(range(N)), records())
    assert not half.is_file()


def test_full_disk_keeps_complete_shards(tmp_path, monkeypatch):
    """A limit on the size of files stands for the full disk."""
    quiet = functools.partial(cache.tqdm.tqdm, disable=True)  # pytest has it in a file
    monkeypatch.setattr(cache.tqdm, "tqdm", quiet)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fills_up(start, stop):
        if start == 24:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        return batches(start, stop)

    try:
        with pytest.raises(OSError, match="complete shards are kept") as caught:
            write(tmp_path, fills_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG and str(tmp_path) in str(caught.value)
    names = sorted(path.name for path in tmp_path.glob("*/*"))
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
        write(tmp_path, lambda *_: [batch])


def test_too_few_records_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Received: 2"):
        write(tmp_path, lambda *_: [records(2)])


@pytest.fixture
def of_images(monkeypatch):
    """Six images of 8 x 8 pixels per shard, so that eleven are in two."""
    monkeypatch.setattr(shards, "_SHARD_BYTES", 6 * 8 * 8 * 3)


def readable(files):
    """As `Split.read_files`, of these files."""
    names = [f"{20 * i}.png" for i in range(len(files))]

    def read(start=0, stop=None):
        chosen = {"image": files[start:stop], "file_name": names[start:stop]}
        return tf.data.Dataset.from_tensor_slices(chosen)

    return read


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
        read_files=readable(files),
        image_digests=np.arange(n),
        image_fingerprint="f",
    )


def test_pixels_of_a_split(of_images, tmp_path):
    pixels = cache.keep(split(), cache.pixels((8, 12), "crop"), tmp_path)
    assert pixels.record_shape == (8, 12, 3) and pixels.dtype == np.uint8
    means = pixels.read(range(11)).mean((1, 2, 3))
    np.testing.assert_array_equal(means, np.arange(11) * 20)
    assert len(list(pixels.directory.glob("shard-*"))) == 3
    assert pixels.directory.name.startswith("own_data-train_11_-pixels-8x12-crop-")


def test_pixels_are_cached_by_what_they_are(of_images, tmp_path):
    """Not by where they lie, what their split is called or what is said of them."""

    def folder(size=(8, 8), mode="squash", **changes):
        changed = dataclasses.replace(split(3), **changes)
        return cache.keep(changed, cache.pixels(size, mode), tmp_path).directory

    first = folder()
    same = {"name": "b", "split": "test", "fingerprint": "of captions"}
    assert folder(**same) == first
    others = [
        folder(size=(8, 12)),
        folder(mode="crop"),
        folder(image_fingerprint="of other images"),
    ]
    assert len({first, *others}) == 4


@pytest.mark.parametrize("start", [0, 9])
def test_the_image_that_spoils_a_cache_is_named(of_images, tmp_path, start):
    of_one = split()
    files = list(of_one.images.as_numpy_iterator())
    files[start] = pictures.encode(pictures.plain(200, 9, 8), "PNG")
    spoilt = dataclasses.replace(of_one, read_files=readable(files))
    name = of_one.file_names[start]
    with pytest.raises(ValueError, match=rf"\(8, 8\).*{name}' of size \(9, 8\)"):
        cache.keep(spoilt, cache.pixels((8, 8), "none"), tmp_path)
    options = dict(record_shape=(2, 5), size=(8, 8), mode="none", batch_size=4)
    features = cache.features(
        lambda x: tf.zeros([len(x), 2, 5]), made_by="zeros", **options
    )
    with pytest.raises(ValueError, match=rf"{name}' of size \(9, 8\)"):
        cache.keep(spoilt, features, tmp_path)
    files[start] = files[start][:-30]
    spoilt = dataclasses.replace(of_one, read_files=readable(files))
    with pytest.raises(ValueError, match=f"{name}', which breaks off"):
        cache.keep(spoilt, cache.pixels((8, 8), "squash"), tmp_path)
    # What failed leaves nothing in the way of a second attempt.
    cache.keep(of_one, cache.pixels((8, 8), "none"), tmp_path)


def test_features_of_a_split(tmp_path):
    calls = []

    def encode(images):
        calls.append(images.shape)
        return tf.reduce_mean(images, -1)[:, :2, :5] / 2

    options = dict(record_shape=(2, 5), size=(8, 8), mode="squash", batch_size=4)
    for _ in range(2):
        kind = cache.features(encode, made_by="mean", **options)
        features = cache.keep(split(), kind, tmp_path)
    assert calls == [(4, 8, 8, 3), (4, 8, 8, 3), (3, 8, 8, 3)]
    expected = np.broadcast_to(np.arange(11)[:, None, None] * 10, [11, 2, 5])
    np.testing.assert_array_equal(features.read(range(11)), expected)
    kind = cache.features(encode, made_by="other", **options)
    cache.keep(split(), kind, tmp_path)
    assert len(calls) == 6 and len(list(tmp_path.iterdir())) == 2
    manifest = json.loads((features.directory / "manifest.json").read_text())
    assert manifest["fingerprint"]["mode"] == "squash"


def test_caches_are_listed_and_removed(tmp_path, capsys):
    kept = write(tmp_path, name="photos-train-pixels")
    gone = write(tmp_path, name="photos-test-pixels", fingerprint={})
    caches.shard(gone.directory, 0).unlink()
    os.utime(gone.directory / "manifest.json", (1e9, 1e9))
    (tmp_path / "notes").mkdir()

    def said(*arguments):
        assert cli.main(["caches", "--cache-dir", str(tmp_path), *arguments]) == 0
        return capsys.readouterr().out

    first, second = json.loads(said("--json"))
    assert first["name"] == gone.directory.name and not first["complete"]
    assert second["name"] == kept.directory.name and second["complete"]
    assert second["images"] == N and second["bytes"] > N * 4 * 8 * 2
    assert first["last_used"].startswith("2001-09-") and "2 caches" in said()
    assert "photos-test-pixels" in said() and "(incomplete)" in said()

    for name in ("notes", "..", str(kept.directory), "photos"):
        options = ["--cache-dir", str(tmp_path), "--remove", name]
        assert cli.main(["caches", *options]) == 2
        assert f"Received: {name!r}" in capsys.readouterr().err
    assert f"Removed {first['name']}" in said("--remove", first["name"])
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "notes",
        kept.directory.name,
    ]
    assert (
        "0 caches"
        in subprocess.run(
            [sys.executable, "-c", WITHOUT_TENSORFLOW, tmp_path / "none"],
            env={
                **os.environ,
                "PYTHONPATH": str(pathlib.Path(cli.__file__).parents[2]),
            },
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )


WITHOUT_TENSORFLOW = """
import sys
sys.modules["tensorflow"] = None
from sat_tf.cli import main
sys.exit(main(["caches", "--cache-dir", sys.argv[1]]))
"""


def test_opening_a_cache_is_using_it(tmp_path):
    folder = write(tmp_path).directory
    os.utime(folder / "manifest.json", (1e9, 1e9))
    write(tmp_path)
    (found,) = caches.find(tmp_path)
    assert time.time() - found.last_used.timestamp() < 60


def test_reading_keeps_memory_flat(tmp_path, monkeypatch):
    """Reading 64 MB in random order leaves almost nothing resident."""
    monkeypatch.setattr(shards, "_SHARD_BYTES", 2**24)
    row = np.ones([1, 2**20], np.uint8)
    big = cache.write(
        tmp_path,
        lambda start, stop: (row for _ in range(start, stop)),
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
