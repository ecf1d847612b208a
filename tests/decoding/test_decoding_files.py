"""Files captioned in batches, several of which are at work at once."""

import concurrent.futures
import threading

import numpy as np
import pytest
from small_captioner import small_captioner

from sat_tf.decoding import files, generate


def outcomes_of(paths, monkeypatch, work, at_once=2):
    """What comes of paths whose batches are `work`ed on, and of nothing else."""
    monkeypatch.setattr(files, "_captioned", work)
    return files.caption_files(None, paths, None, seed=17, at_once=at_once)


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_one_batch_more_than_can_be_computed_is_at_work_and_all_come_in_order(
    monkeypatch, at_once
):
    together = threading.Barrier(at_once + 1, timeout=60)

    def work(captioner, options, seed, paths, first):
        if paths:
            together.wait()
        return [(path, first + i) for i, path in enumerate(paths)]

    number = 2 * (at_once + 1) * files._BATCH_SIZE
    outcomes = list(outcomes_of(range(number), monkeypatch, work, at_once))
    assert outcomes == [(i, i) for i in range(number)]


def test_what_comes_before_a_pause_is_done_before_the_next_path_is_asked_for(
    monkeypatch,
):
    done = []

    def paths():
        yield from ("a", "b", None)
        assert done == ["a", "b"]
        yield "c"

    def work(captioner, options, seed, paths, first):
        return paths

    for outcome in outcomes_of(paths(), monkeypatch, work):
        done.append(outcome)
    assert done == ["a", "b", "c"]


def test_threads_that_come_together_trace_one_graph():
    captioner = small_captioner()
    options = captioner.options(decoder="greedy")
    together = threading.Barrier(3, timeout=60)
    images = np.zeros([2, *captioner.encoder.image_size, 3], "float32")

    def caption(_):
        together.wait()
        features = generate.encode(captioner, images)
        return generate.caption_features(captioner, features, options)[0].caption

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(caption, range(3)))) == 1
    counts = [x.experimental_get_tracing_count() for x in captioner.graphs.values()]
    assert counts == [1, 1]
