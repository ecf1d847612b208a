"""Boxes on a grid: which middles they hold, how much of each cell, what is in view."""

import numpy as np
import pytest

from sat_tf import images
from sat_tf.datasets import regions

OVERLAPPING = [(0.0, 0.0, 0.5, 0.5), (0.25, 0.25, 0.75, 1.0)]


def test_middles_of_cells_edges_included():
    held = regions.holds_middles([(0.25, 0.0, 0.5, 0.5)], (2, 2))
    assert held.tolist() == [[True, False], [False, False]]
    assert regions.holds_middles(OVERLAPPING, (1, 1)).all()
    assert not regions.holds_middles(regions.NONE, (3, 4)).any()


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (7, 5), (14, 14)])
def test_coverage_is_the_area_of_the_union(grid):
    covered = regions.coverage(np.array(OVERLAPPING, np.float32), grid)
    assert covered.shape == grid
    # Two boxes of a quarter and three eighths, with a sixteenth in common.
    np.testing.assert_allclose(covered.mean(), 0.25 + 0.375 - 0.0625)
    assert 0 <= covered.min() and covered.max() <= 1 + 1e-12
    fine = regions.holds_middles(OVERLAPPING, (1400, 1400))
    counted = fine.reshape(grid[0], 1400 // grid[0], grid[1], -1).mean((1, 3))
    np.testing.assert_allclose(covered, counted, atol=2 / 100)


@pytest.mark.parametrize("shape", [(100, 240), (240, 100), (60, 60)])
def test_a_box_stays_on_what_it_is_about(shape):
    """Painted into an image, its box is where the paint is in the crop."""
    image = np.zeros((*shape, 3), np.float32)
    box = (0.3, 0.4, 0.55, 0.65)
    (top, left), (bottom, right) = (
        np.array(ends) * shape for ends in (box[:2], box[2:])
    )
    image[int(top) : int(bottom), int(left) : int(right)] = 255
    seen = images.resize(image, (64, 64), "crop").numpy()[..., 0] > 127
    (found,) = regions.in_crop(np.array([box]), shape, (64, 64))
    rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
    painted = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    np.testing.assert_allclose(found * 64, painted, atol=1.6)


def test_what_the_crop_cuts_away_is_no_region():
    boxes = np.array([(0.0, 0.0, 1.0, 0.1), (0.0, 0.0, 1.0, 1.0)])
    seen = regions.in_crop(boxes, (100, 300), (64, 64))
    assert seen.tolist() == [[0, 0, 1, 1]]
