"""Batches cut into shares; `test_replicas.py` trains on them."""

import numpy as np
import pytest

from sat_tf.training_step.shares import cut


def captions_of(batch):
    """Of a batch: image, words and their bias, as a set."""
    tokens = np.asarray(batch["tokens"])
    rows = np.asarray(batch.get("rows", np.arange(len(tokens))))
    images = np.asarray(batch["annotations"])[rows][:, 0, 0]
    bias = np.asarray(batch["location_bias"])[:, 0, 0]
    spoken = tokens.any(axis=1)
    return set(
        zip(images[spoken], map(tuple, tokens[spoken]), bias[spoken], strict=True)
    )


def batch_of(rows, filling, seed=0):
    """A batch whose rows are about these images; every caption is another."""
    rng, size = np.random.default_rng(seed), len(rows) + filling
    tokens = rng.integers(3, 1000, (size, 3)).astype("int32")
    tokens[len(rows) :] = 0
    return {
        "annotations": rng.normal(size=(max(rows) + 1, 2, 2)).astype("float32"),
        "rows": np.array([*rows, *[rows[-1]] * filling], "int32"),
        "tokens": tokens,
        "location_bias": rng.normal(size=(size, 3, 2)).astype("float32"),
    }


@pytest.mark.parametrize("number", [2, 3, 4])
@pytest.mark.parametrize(
    "rows, filling",
    [
        ([0, 0, 0, 0, 1, 2], 2),
        ([2, 0, 1, 0, 2, 3, 3, 1, 4, 5, 5, 0], 0),
        ([0, 0, 0, 0], 0),  # one image for all replicas
        ([3, 1], 6),  # images that nobody speaks of
    ],
)
def test_no_caption_leaves_its_image(rows, filling, number):
    batch = batch_of(rows, filling)
    shares = cut(batch, number)
    found = [captions_of(share) for share in shares]
    assert set.union(*found) == captions_of(batch)
    assert sum(map(len, found)) == len(rows)
    images = [{image for image, *_ in captions} for captions in found]
    assert sum(map(len, images)) == len(set.union(*images)), "an image is read once"
    assert len({share["tokens"].shape for share in shares}) == 1
    assert {name: v.dtype for name, v in shares[0].items()} == {
        name: v.dtype for name, v in batch.items()
    }


def test_shares_of_real_batches_have_one_size():
    """So XLA compiles the update once, where an image has few captions of a batch."""
    rng = np.random.default_rng(17)
    sizes = set()
    for seed in range(20):
        rows = np.sort(rng.integers(0, 300, 60))
        rows = np.unique(rows, return_inverse=True)[1]
        shares = cut(batch_of(list(rows), 4, seed), 4)
        sizes |= {share["tokens"].shape[0] for share in shares}
    assert min(sizes) == 16 and max(sizes) <= 17


@pytest.mark.parametrize("size, wanted", [(6, [3, 3]), (5, [3, 2]), (1, [1, 1])])
def test_images_of_their_own_are_dealt_out_in_order(size, wanted):
    batch = batch_of(range(size), 0)
    del batch["rows"]
    shares = cut(batch, 2)
    assert [share["tokens"].shape[0] for share in shares] == wanted
    assert set.union(*map(captions_of, shares)) == captions_of(batch)
    spoken = np.concatenate([share["tokens"] for share in shares])[:size]
    np.testing.assert_array_equal(spoken, batch["tokens"])
