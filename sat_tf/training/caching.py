"""What training reads of images, cached beforehand: in any order, on any machine."""

import contextlib
import functools
import os
import random
import uuid
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from sat_tf.datasets import cache, load, shards
from sat_tf.engines import running
from sat_tf.evaluation.evaluate import kinds_of
from sat_tf.model.encoder import Encoder
from sat_tf.runtime import caches, files
from sat_tf.runtime.memory import keep_freed_memory
from sat_tf.training import building
from sat_tf.training.stages import Plan

SPLITS = ("train", "validation")


class Trunk(NamedTuple):
    """How a worker makes the encoder."""

    options: tuple
    """Names and values of the arguments of `Encoder`."""
    seed: int
    """Of weights that come from nowhere else."""


class Source(NamedTuple):
    """A cache, and what it is made of. Small: engines send it about."""

    draft: shards.Draft
    read_files: Callable
    """See `Split`."""


class Counts(NamedTuple):
    """What became of a shard."""

    images: int
    bad: int


def cache_inputs(
    recipe,
    data,
    splits=SPLITS,
    *,
    data_dir=None,
    encoder_weights=None,
    seed=17,
    cache_dir=None,
    engine="beam",
    engine_options=(),
):
    """Writes what is missing of the caches that `train` reads, shard by shard.

    They are those of the trunk's features, or of the pixels where the trunk is trained.
    Several processes may do so at once, and share the work if they see one `cache_dir`.

    Args:
        recipe, data, data_dir, encoder_weights, seed: as `train` takes them.
        splits: names of those whose images are cached.
        cache_dir: by default `default_cache()`.
        engine, engine_options: see `running.open_engine`.

    Returns:
        list of `caches.Found`, one for each cache.

    Raises:
        ValueError: an option is wrong, or there are images that cannot be read, whose
            shards are left out.
        OSError: the cache cannot be written, or the engine gave up.
    """
    keep_freed_memory()
    building.check(recipe)
    runs = running.open_engine(engine, engine_options)
    trunk = _trunk(recipe, encoder_weights, seed)
    cache_dir = files.on_disk(
        cache_dir or caches.default_cache(), "a folder for caches"
    ).absolute()
    found = load(data, tuple(splits), data_dir=data_dir, cache_dir=cache_dir)
    sources = [
        Source(kind.draft(split, cache_dir), split.read_files)
        for split in found
        for kind in _kinds_read(recipe, trunk, split)
    ]
    with contextlib.ExitStack() as inside:
        for draft, _ in sources:
            inside.enter_context(draft.writing())
        drafts = [draft for draft, _ in sources]
        shards.check_room(drafts)
        command = uuid.uuid4().hex
        running.finish(_job(trunk, sources, command, cache_dir), runs, engine)
        if complaints := _complaints(drafts, command):
            raise ValueError("\n".join(complaints))
        for draft in drafts:
            draft.write_manifest()
    names = [draft.directory.name for draft in drafts]
    return [found for found in caches.find(cache_dir) if found.name in names]


def _trunk(recipe, encoder_weights=None, seed=17):
    options = building.encoder_options(recipe, encoder_weights)
    if options["weights"] not in (None, "imagenet"):
        options["weights"] = os.path.abspath(options["weights"])
    return Trunk(tuple(options.items()), seed)


def _kinds_read(recipe, trunk, split):
    """Each `cache.Kind` that training reads of a split."""
    mirrored = recipe.data.mirrored and split.split == "train"
    kinds = kinds_of(*_encoder(trunk), mirrored=mirrored)
    if Plan(recipe.stages).trains_the_trunk:
        kinds.append(_pixels(trunk))
    return kinds


# Once in a process: a worker makes many shards with one trunk.
@functools.lru_cache(maxsize=1)
def _encoder(trunk):
    keras.utils.set_random_seed(trunk.seed)
    encoder = Encoder(**dict(trunk.options))
    return encoder, tf.function(
        encoder.features, autograph=False, reduce_retracing=True
    )


def _pixels(trunk):
    encoder, _ = _encoder(trunk)
    return cache.pixels(encoder.image_size, encoder.resize_mode)


@functools.lru_cache(maxsize=1)
def _kinds_by_maker(trunk):
    kinds = [*kinds_of(*_encoder(trunk), mirrored=True), _pixels(trunk)]
    return {kind.made_by: kind for kind in kinds}


def _job(trunk, sources, command, cache_dir):
    """The `running.Job` that fills the caches."""

    def missing():
        shards_left = [
            (number, i)
            for number, (draft, _) in enumerate(sources)
            for i in draft.missing
            if not caches.complaint(draft.directory, i, command).is_file()
        ]
        # Commands that run at once begin with different shards.
        random.SystemRandom().shuffle(shards_left)
        return shards_left

    work = functools.partial(make_shard, trunk, sources, command)
    total = sum(len(draft) for draft, _ in sources)
    return running.Job(work, missing, total, "shard", str(cache_dir))


def make_shard(trunk, sources, command, which):
    """Makes one shard of a cache: what every engine does on its workers.

    What is wrong with its images is written beside, and costs no other shard.

    Args:
        trunk: a `Trunk`. sources: list of `Source`.
        command: name of the one that is told what is wrong.
        which: numbers of the source and of the shard.

    Returns:
        the `Counts` of this shard.
    """
    number, i = which
    draft, read_files = sources[number]
    start, stop = draft.span(i)
    try:
        records = _kind(trunk, draft).records(read_files, start, stop)
        draft.make(i, records)
    except ValueError as error:
        with files.replacing(caches.complaint(draft.directory, i, command)) as path:
            path.write_text(str(error), "utf-8")
        return Counts(0, stop - start)
    return Counts(stop - start, 0)


def _kind(trunk, draft):
    """What a cache is made by; a `ValueError` if the trunk is another one here."""
    made_by = draft.manifest["fingerprint"].get("encoder")
    kinds = _kinds_by_maker(trunk)
    if made_by not in kinds:
        raise ValueError(
            "Expected the trunk that this cache was begun with, on every machine. "
            f"Received: encoder={made_by!r}, and here {next(iter(kinds))!r}. Give "
            "--encoder-weights a file that all of them see."
        )
    return kinds[made_by]


def _complaints(drafts, command):
    """What kept a command's workers from making shards; each is told once."""
    found = []
    for draft in drafts:
        for i in draft.missing:
            path = caches.complaint(draft.directory, i, command)
            if path.is_file():
                found.append(path.read_text("utf-8"))
                path.unlink(missing_ok=True)
    return found
