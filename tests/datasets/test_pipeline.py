"""Batches: every caption once, little padding, the same again after a restart."""

import os
import pathlib
import subprocess
import sys
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

import sat_tf
from sat_tf.datasets import cache, pipeline
from sat_tf.vocabulary import EOS, PAD, Vocabulary

WORDS = ["a", "red", "dog", "runs", "far", "away"]


def captions(n=30, seed=17):
    rng = np.random.default_rng(seed)
    return tuple(
        tuple(
            " ".join(WORDS[: rng.integers(1, len(WORDS) + 1)])
            for _ in range(rng.integers(1, 5))
        )
        for _ in range(n)
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """A cache whose record i is filled with i."""
    return cache.write(
        tmp_path_factory.mktemp("records"),
        lambda *span: (np.full([1, 2, 3], i) for i in range(*span)),
        n_records=30,
        record_shape=(2, 3),
        dtype="float16",
        fingerprint={},
    )


def schedule(texts=None, **changes):
    options = {"batch_size": 4, "seed": 17} | changes
    return pipeline.Schedule(texts or captions(), Vocabulary(WORDS), **options)


def batches(records, **changes):
    return pipeline.training_batches(
        records, schedule(), key="annotations", **changes
    ).as_numpy_iterator()


def test_mirrored_batches_are_half_of_mirror_images(records):
    """Here the mirror image of i is -i. The same batch is read the same way again."""
    mirrored = pipeline.Mirrored(records, lambda rows: -records.read(rows))
    assert len(mirrored) == 30 and mirrored.record_shape == (2, 3)
    turned = 0
    for rows in np.random.default_rng(17).integers(1, 30, (40, 8)):
        found = mirrored.read(rows)
        np.testing.assert_array_equal(np.abs(found), records.read(rows))
        np.testing.assert_array_equal(found, mirrored.read(rows))
        turned += np.sum(found[:, 0, 0] < 0)
    assert 130 < turned < 190  # of 320


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
@hypothesis.given(
    lengths=st.lists(
        st.lists(st.integers(1, 30), min_size=0, max_size=9), min_size=1, max_size=60
    ).filter(any),
    batch_size=st.integers(1, 70),
    together=st.booleans(),
)
def test_every_caption_once_in_batches_of_one_shape(lengths, batch_size, together):
    """Whatever the numbers of captions; no batch is empty, none much too large."""
    texts = [[" ".join(["red"] * (n - 1)) for n in image] for image in lengths]
    plan = schedule(texts, batch_size=batch_size, together=together)
    number = sum(map(len, lengths))
    most = min(max(map(len, lengths)), batch_size) if together else 1
    for epoch in range(2):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        chosen = [plan.captions(step) for step in steps]
        assert sorted(np.concatenate(chosen)) == list(range(number))
        assert all(1 <= len(each) <= plan.rows for each in chosen)
        for step, each in zip(steps, chosen, strict=True):
            images, tokens = plan.batch(step)
            assert len(images) == len(tokens) == plan.rows
            assert set(images) == set(plan.images[each])
            assert (tokens[len(each) :] == PAD).all()
            assert ((tokens == EOS).sum(1)[: len(each)] == 1).all()
    assert plan.rows <= number / plan.steps_per_epoch + most
    if not together:
        assert plan.steps_per_epoch == -(-number // batch_size)
        assert plan.rows <= batch_size


@pytest.mark.parametrize(("count", "rows"), [(1, 64), (5, 65), (6, 66), (50, 50)])
def test_photographs_with_equally_many_captions_are_filled_up_little(count, rows):
    """As many as come nearest to the batch asked for, and no row more."""
    plan = schedule([["red"] * count] * 640, batch_size=64, together=True)
    assert plan.rows == rows
    n_batches = plan.steps_per_epoch
    assert n_batches == -(-640 * count // rows)


def test_replicas_change_nothing_but_the_filling():
    """So that a run resumes on another number of them."""
    one, four = (
        schedule([["red"] * 5] * 13, batch_size=10, replicas=n) for n in (1, 4)
    )
    assert one.steps_per_epoch == four.steps_per_epoch
    assert one.rows % 4 and four.rows == -(-one.rows // 4) * 4
    for step in range(2 * one.steps_per_epoch):
        (ours, words), (theirs, same) = one.batch(step), four.batch(step)
        np.testing.assert_array_equal(theirs[: one.rows], ours)
        np.testing.assert_array_equal(same[: one.rows], words)
        assert not same[one.rows :].any()


def order(lengths, n_batches, seed=17, epoch=0):
    counts = np.ones(len(lengths), int)
    return pipeline.Batches(lengths, counts, n_batches, seed).of_epoch(epoch)


def test_near_equal_lengths():
    lengths = np.random.default_rng(17).integers(5, 20, 500)
    spans = sorted(
        (min(lengths[i] for i in batch), max(lengths[i] for i in batch))
        for batch in order(lengths, 16)
    )
    # Sorted by length, batches overlap at most in the length they share.
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_order_depends_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(17).integers(5, 20, 500)

    def listed(seed, epoch):
        return [batch.tolist() for batch in order(lengths, 16, seed, epoch)]

    assert listed(1, 2) == listed(1, 2)
    assert listed(1, 2) != listed(1, 3) and listed(1, 2) != listed(2, 2)


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
@hypothesis.given(
    counts=st.lists(st.integers(1, 5), min_size=1, max_size=60),
    equal=st.booleans(),
    share=st.floats(0, 1),
)
def test_batches_have_equal_shares_of_the_captions(counts, equal, share):
    """A unit goes to the share that its first caption lies in."""
    counts = [counts[0]] * len(counts) if equal else counts
    number = 1 + int(share * (sum(counts) // max(counts) - 1))
    lengths = list(range(len(counts)))  # so the order by length is known
    batches = sorted(pipeline.Batches(lengths, counts, number, 17).of_epoch(0), key=min)
    starts = np.cumsum(counts) - counts
    for i, batch in enumerate(batches):
        assert (starts[batch] * number // sum(counts) == i).all()
    assert sorted(np.concatenate(batches)) == lengths


def test_captions_of_a_length_meet_others_in_every_epoch():
    """Not the same batches in another order."""
    lengths = np.repeat([7, 9], 320)
    epochs = [
        {frozenset(batch.tolist()) for batch in order(lengths, 20, epoch=epoch)}
        for epoch in range(3)
    ]
    assert not (epochs[0] & epochs[1] or epochs[1] & epochs[2])
    neighbours = [len(batch & {i + 1 for i in batch}) for batch in epochs[0]]
    assert np.mean(neighbours) < 6  # 31 of 32 where nothing is shuffled; by chance 3


def test_lengths_come_in_random_order():
    lengths = np.repeat(np.arange(5, 25), 64)
    orders = [order(lengths, 20, epoch=epoch) for epoch in range(200)]
    first = [lengths[batches[0][0]] for batches in orders]
    assert set(first) == set(range(5, 25))


def test_near_equal_lengths_save_padding():
    sorted_by_length = schedule(captions(400), batch_size=16)
    assert sorted_by_length.padding_share() < 0.02
    lengths = np.array([len(tokens) for tokens in sorted_by_length.tokens])
    shuffled = np.random.default_rng(17).permutation(lengths)[: len(lengths) // 16 * 16]
    shuffled = shuffled.reshape(-1, 16)
    assert 1 - shuffled.sum() / (16 * shuffled.max(1).sum()) > 0.2


def test_padding_share_counts_the_batches():
    plan = schedule(batch_size=5)
    tokens = [plan.batch(step)[1] for step in range(plan.steps_per_epoch)]
    n_padding = sum((batch == PAD).sum() for batch in tokens)
    share = n_padding / sum(batch.size for batch in tokens)
    np.testing.assert_allclose(plan.padding_share(), share)


@pytest.mark.parametrize("together", [False, True])
def test_records_go_with_their_captions(records, together):
    texts, words = captions(), Vocabulary(WORDS)
    plan = schedule(texts, together=together)
    stream = pipeline.training_batches(records, plan, key="annotations")
    stream, seen, n_records = stream.as_numpy_iterator(), [], 0
    for step in range(plan.steps_per_epoch):
        batch = next(stream)
        assert batch["tokens"].dtype == batch["rows"].dtype == np.int32
        assert batch["annotations"].dtype == np.float16
        n_records += len(batch["annotations"])
        image_indices, tokens = plan.batch(step)
        np.testing.assert_array_equal(batch["tokens"], tokens)
        named = batch["annotations"][batch["rows"], 0, 0]
        np.testing.assert_array_equal(named, image_indices)
        for image, ids in zip(image_indices, tokens, strict=True):
            if ids.any():
                seen.append((image, words.decode(ids)))
    expected = [(i, text) for i, group in enumerate(texts) for text in group]
    assert sorted(seen) == sorted(expected)
    assert n_records == len(texts) if together else n_records > len(texts)


def test_restart_goes_on_where_it_was(records):
    stream = batches(records)
    whole = [next(stream) for _ in range(40)]  # over the end of an epoch or two
    resumed = batches(records, start_step=25)
    for expected in whole[25:]:
        batch = next(resumed)
        assert batch.keys() == expected.keys() == {"annotations", "rows", "tokens"}
        for name in batch:
            np.testing.assert_array_equal(batch[name], expected[name])


def test_shapes_are_known_to_the_model(records):
    spec = pipeline.training_batches(records, schedule(), key="image").element_spec
    assert spec["image"].shape.as_list() == [None, 2, 3]
    assert spec["tokens"].shape.as_list() == [None, None]


def test_step_does_not_wait(records, monkeypatch):
    """Reads of 20 ms hide behind steps of 30 ms."""
    read = records.read

    def slowly(indices):
        time.sleep(0.02)
        return read(indices)

    monkeypatch.setattr(records, "read", slowly)
    stream = batches(records)
    next(stream)
    waited = 0
    for _ in range(20):
        time.sleep(0.03)
        start = time.perf_counter()
        next(stream)
        waited += time.perf_counter() - start
    assert waited < 20 * 0.02 / 2


def test_evaluation_passes_once_in_order(records):
    words = Vocabulary(WORDS)
    options = {"batch_size": 7, "key": "annotations"}
    plain = list(pipeline.evaluation_batches(records, None, words, **options))
    assert [set(batch) for batch in plain] == [{"annotations"}] * 5
    images = np.concatenate([batch["annotations"][:, 0, 0] for batch in plain])
    np.testing.assert_array_equal(images, np.arange(30))
    texts = captions()
    seen = [
        (int(batch["annotations"][row, 0, 0]), words.decode(ids))
        for batch in pipeline.evaluation_batches(records, texts, words, **options)
        for row, ids in zip(batch["rows"], batch["tokens"].numpy(), strict=True)
    ]
    assert seen == [(i, text) for i, group in enumerate(texts) for text in group]


def test_captions_of_another_split_are_refused(records):
    message = r"len\(cache\)=30, captions of 29 images"
    with pytest.raises(ValueError, match=message):
        pipeline.training_batches(records, schedule(captions()[1:]), key="image")
    with pytest.raises(ValueError, match=message):
        pipeline.evaluation_batches(
            records, captions()[1:], Vocabulary(WORDS), batch_size=4, key="image"
        )


def test_no_captions_are_refused():
    with pytest.raises(ValueError, match="Received: none for 3 images"):
        schedule([(), (), ()])


LEFT_IN_A_CYCLE = """
import time
import numpy as np
from sat_tf.datasets import pipeline
from sat_tf.vocabulary import Vocabulary

class Slow:
    record_shape, dtype, read_so_far = (), np.dtype("float32"), 0
    def __len__(self):
        return 8
    def read(self, indices):
        self.read_so_far += 1
        time.sleep(0 if self.read_so_far < 3 else 2)
        return np.zeros(len(indices), np.float32)

captions = [["a dog"]] * 8
schedule = pipeline.Schedule(captions, Vocabulary(["a", "dog"]), batch_size=2, seed=17)
batches = iter(pipeline.training_batches(Slow(), schedule, key="image"))
next(batches)
cycle = [batches]
cycle.append(cycle)
del batches, cycle
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_process_ends_while_a_batch_is_being_read():
    """Whatever keeps an iterator of it: the traceback of an error often does."""
    process = subprocess.run(
        [sys.executable, "-c", LEFT_IN_A_CYCLE],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(sat_tf.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (process.returncode, process.stdout) == (0, "done\n"), process.stderr
