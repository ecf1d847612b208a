"""What `sat-tf cache-features` writes is what `sat-tf train` reads."""

import functools
import importlib.util
import os
import pickle
import shutil
import signal
import time

import numpy as np
import own_run
import PIL.Image
import pytest
from quick_run import FINE_TUNED, loaded, own_recipe

from sat_tf import cli
from sat_tf.datasets import cache, shards
from sat_tf.engines import ENGINES
from sat_tf.runtime import caches
from sat_tf.training import caching

needs_beam = pytest.mark.skipif(
    not importlib.util.find_spec("apache_beam"), reason="needs apache-beam"
)
needs_spark = pytest.mark.skipif(
    not (importlib.util.find_spec("pyspark") and shutil.which("java")),
    reason="needs pyspark and Java",
)
MIRRORED = {**FINE_TUNED, "stages.fine_tune.epochs": 1, "data.mirrored": True}


class Backwards:
    """An engine that sends all about, and begins with the last."""

    def __init__(self, options):
        assert not list(options)

    def run(self, work, parts):
        work = pickle.loads(pickle.dumps(work))
        for part in sorted(parts, reverse=True):
            work(part)


@pytest.fixture
def backwards(monkeypatch):
    """The engine `backwards`, and five images in a shard of pixels."""
    monkeypatch.setitem(ENGINES._homes, "backwards", Backwards)
    monkeypatch.setattr(shards, "_SHARD_BYTES", 5 * 32 * 32 * 3)
    caching._encoder.cache_clear()
    caching._kinds_by_maker.cache_clear()


@pytest.fixture
def cache_inputs(quick, backwards, monkeypatch):
    """`caching.cache_inputs` of the own data."""
    monkeypatch.setattr(caching, "load", loaded)

    def cached(cache_dir, changes=(), **options):
        options = {"engine": "backwards", "cache_dir": cache_dir} | options
        return caching.cache_inputs(own_recipe(changes), "own", **options)

    return cached


def content(cache_dir):
    """Path below the folder -> bytes of all features and pixels that are there."""
    kept = [*cache_dir.glob("*-features-*/*"), *cache_dir.glob("*-pixels-*/*")]
    return {path.relative_to(cache_dir): path.read_bytes() for path in kept}


@pytest.mark.parametrize("changes", [{}, MIRRORED], ids=["pixels", "features"])
def test_training_extracts_nothing_more(
    changes, quick, cache_inputs, small_trunk, tmp_path, monkeypatch
):
    """The trunk's weights are those of the seed, so it is the same trunk."""
    found = cache_inputs(tmp_path / "ours", changes)
    assert all(each.complete for each in found)
    assert len(found) == (5 if changes else 2)
    quick.train(tmp_path / "plain", changes, cache_dir=tmp_path / "theirs")
    ours, theirs = content(tmp_path / "ours"), content(tmp_path / "theirs")
    # Only what the test's validation does not read may be ours alone.
    assert theirs.items() <= ours.items()
    assert all("validation-pixels" in str(p) for p in ours.keys() - theirs.keys())

    def extract(*_):
        raise AssertionError("this is cached")

    monkeypatch.setattr(cache.Kind, "records", extract)
    quick.train(tmp_path / "cached", changes, cache_dir=tmp_path / "ours")
    assert content(tmp_path / "ours") == ours


def test_what_is_there_is_left_alone(cache_inputs, tmp_path, monkeypatch):
    cache_inputs(tmp_path)
    whole = content(tmp_path)
    lost = sorted(tmp_path.glob("*/shard-*"))[1::2]
    for path in lost:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/shard-*")}
    made, make = [], shards.Draft.make

    def counted(draft, i, batches):
        made.append(caches.shard(draft.directory, i))
        make(draft, i, batches)

    monkeypatch.setattr(shards.Draft, "make", counted)
    cache_inputs(tmp_path)
    assert content(tmp_path) == whole and sorted(made) == lost
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())


def test_a_bad_image_costs_its_shard_alone(backwards, tmp_path, capsys, monkeypatch):
    """And the sentence is that of training."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    own_run.write_own(tmp_path / "own")
    image = np.zeros([30, 32, 3], np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / "own" / "images" / "train3.png")
    recipe = {**own_run.RECIPE, "model.resize_mode": "none"}
    named = ["--data", str(tmp_path / "own"), "--preset", "scenes"]
    named += [*own_run.setting(recipe), "--cache-dir"]

    def says(command, *options):
        assert cli.main([command, *named, *map(str, options)]) == 2
        return capsys.readouterr().err.splitlines()[-1].partition(": ")[2]

    ours = says("cache-features", tmp_path / "ours", "--engine", "backwards")
    theirs = says("train", tmp_path / "theirs", "--out", tmp_path / "run")
    assert "train3.png' of size (30, 32)" in ours and ours == theirs
    assert len(list(tmp_path.glob("ours/*-train-*/shard-*"))) == 2
    assert len(list(tmp_path.glob("ours/*-validation-*/shard-*"))) == 1
    assert not list(tmp_path.glob("ours/*/*.bad"))

    class Twice(Backwards):
        """As if the same command ran on another machine, from its start to its end."""

        def run(self, work, parts):
            super().run(work, parts)
            monkeypatch.setitem(ENGINES._homes, "twice", Backwards)
            assert says("cache-features", tmp_path / "both", *twice) == ours

    twice = ["--engine", "twice"]
    monkeypatch.setitem(ENGINES._homes, "twice", Twice)
    assert says("cache-features", tmp_path / "both", *twice) == ours


def test_another_trunk_on_another_machine_is_refused(
    cache_inputs, small_trunk, tmp_path, monkeypatch
):
    def elsewhere(self, work, parts):
        trunk, *others = work.args
        caching._kinds_by_maker.cache_clear()
        for part in parts:
            work.func(trunk._replace(seed=5), *others, part)

    monkeypatch.setattr(Backwards, "run", elsewhere)
    with pytest.raises(ValueError, match="Expected the trunk that this cache was"):
        cache_inputs(tmp_path, FINE_TUNED)
    assert not list(tmp_path.glob("*-features-*/shard-*"))


# ------------------------------------------------------------------------- the engines

FEATURES = {"model.trunk": "efficientnet_lite0", "model.image_size": "[64,64]"}
FEATURES |= {"data.mirrored": "true"}
# Two images in a shard of features, which takes its time.
SLOWLY = """
import sys, time
from sat_tf import cli
from sat_tf.datasets import shards
make = shards.Draft.make
def slowly(*arguments):
    time.sleep(0.5)
    make(*arguments)
shards.Draft.make = slowly
shards._SHARD_BYTES = 2 * 4 * 320 * 2
sys.exit(cli.main())
"""


@functools.cache
def by_one_process():
    """The content of the cache as it is without an engine."""
    folder, bytes_of_a_shard = own_run.workplace() / "whole", shards._SHARD_BYTES
    shards._SHARD_BYTES = 2 * 4 * 320 * 2
    try:
        recipe = own_recipe(FEATURES)
        for name in caching.SPLITS:
            split = loaded(str(own_run.workplace() / "own"), name)
            for kind in caching._kinds_read(recipe, caching._trunk(recipe), split):
                cache.keep(split, kind, folder)
    finally:
        shards._SHARD_BYTES = bytes_of_a_shard
    assert len(content(folder)) == 3 + 6 + 6 + 2
    return content(folder)


def start(cache_dir, *options, code=SLOWLY):
    """`sat-tf cache-features` of the own data, as a process."""
    named = ["--data", "own", "--preset", "scenes", "--cache-dir", cache_dir]
    recipe = own_run.setting({**own_run.RECIPE, **FEATURES})
    path = {**own_run.environment(), "PATH": os.environ["PATH"]}
    words = ["cache-features", *named, *recipe, "--json", *options]
    return own_run.sat_tf_process(*words, code=code, env=path)


def shards_in(cache_dir):
    """Path -> when it was written, of all shards."""
    return {path: path.stat().st_mtime_ns for path in cache_dir.glob("*/shard-*")}


@pytest.mark.slow
@needs_beam
def test_beam_goes_on_after_a_kill(tmp_path):
    killed = start(tmp_path)
    while len(shards_in(tmp_path)) < 3 and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    _, errors = killed.communicate()
    before = shards_in(tmp_path)
    assert 3 <= len(before) < 14, errors
    both = [start(tmp_path) for _ in range(2)]  # at once, as if on two machines
    for process in both:
        _, errors = process.communicate(timeout=own_run.TIMEOUT)
        assert process.returncode == 0, errors
    assert before.items() <= shards_in(tmp_path).items()
    assert content(tmp_path) == by_one_process()


@pytest.mark.slow
@needs_spark
def test_spark_makes_the_same_cache(tmp_path):
    """On two workers, each a process of its own with a Python process of its own."""
    process = start(
        tmp_path, "--engine", "spark", "--master", "local-cluster[2,1,1024]"
    )
    _, errors = process.communicate(timeout=own_run.TIMEOUT)
    assert process.returncode == 0, errors
    assert content(tmp_path) == by_one_process()
