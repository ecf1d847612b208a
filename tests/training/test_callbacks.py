"""What `fit` calls: checkpoints, and an end to what has no numbers."""

import numpy as np
import pytest
from quick_run import HARD, arrays_of


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), "nan after"])
def test_no_number_in_the_loss_stops_and_says_where(loss, quick, tmp_path):
    """And if only the update was none, it never reaches a checkpoint."""
    quick.losses = {1: loss}
    with pytest.raises(FloatingPointError, match="at step 1, in a batch of") as error:
        quick.train(tmp_path, HARD)
    said = str(error.value)
    assert "nan" in said or "inf" in said or "weights" in said
    assert said.count(".png") == 4 and "train" in said  # the images of that batch
    checkpoint = tmp_path / "checkpoint.npz"
    assert str(checkpoint) in said
    assert all(np.isfinite(array).all() for array in arrays_of(checkpoint).values())
