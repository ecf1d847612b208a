"""Where boxes lie on the grid that a captioner looks at.

A box is relative to its image: `(ymin, xmin, ymax, xmax)` in 0..1.
"""

import numpy as np

from sat_tf.images.graph import SHORTEST_SIDE

NONE = np.zeros([0, 4], np.float32)


def holds_middles(boxes, grid):
    """Whether the middle of each cell lies in one of the boxes, edges included.

    Args:
        boxes: `[n, 4]`.
        grid: (h, w), the rows and columns of the cells; (1, 1) asks for the middle of
            the image.

    Returns:
        bool `[h, w]`.
    """
    rows, columns = ((np.arange(cells) + 0.5) / cells for cells in grid)
    ymin, xmin, ymax, xmax = _edges(boxes)
    inside_y = (ymin <= rows[:, None]) & (rows[:, None] <= ymax)
    inside_x = (xmin <= columns[:, None]) & (columns[:, None] <= xmax)
    return (inside_y[:, None] & inside_x[None]).any(-1)


def coverage(boxes, grid):
    """Share of each cell's area that the boxes cover together.

    Where boxes overlap, the area counts once. The mean over the cells is the boxes'
    share of the image.

    Args:
        boxes, grid: as in `holds_middles`.

    Returns:
        float64 `[h, w]`, 0..1.
    """
    edges = [np.arange(cells + 1) / cells for cells in grid]
    ymin, xmin, ymax, xmax = _edges(boxes)
    # All edges together cut the image into pieces wholly in a box or out of it.
    ys = np.unique(np.concatenate([edges[0], ymin, ymax]))
    xs = np.unique(np.concatenate([edges[1], xmin, xmax]))
    inside_y = (ymin <= ys[:-1, None]) & (ys[1:, None] <= ymax)
    inside_x = (xmin <= xs[:-1, None]) & (xs[1:, None] <= xmax)
    covered = (inside_y[:, None] & inside_x[None]).any(-1)
    areas = covered * np.diff(ys)[:, None] * np.diff(xs)
    rows = np.add.reduceat(areas, np.searchsorted(ys, edges[0][:-1]), axis=0)
    cells = np.add.reduceat(rows, np.searchsorted(xs, edges[1][:-1]), axis=1)
    return cells * np.prod(grid)


def in_view(boxes, image_size, size, mode):
    """The boxes in what `images.resize` makes of their image.

    Args:
        boxes: `[n, 4]`, relative to the image.
        image_size: (height, width) of the image. size, mode: as in `images.resize`.

    Returns:
        float32 `[m, 4]`, relative to the resized image; m < n where `crop` cuts boxes
        away altogether.
    """
    if mode != "crop":  # the whole image, whatever its aspect
        return boxes
    scale = max(SHORTEST_SIDE * np.divide(size, image_size))
    scaled = np.round(scale * np.array(image_size))
    corner = (scaled - size) // 2
    corners = np.reshape(boxes, [-1, 2, 2]) * scaled - corner
    seen = np.clip(corners / size, 0, 1).astype(np.float32)
    return seen[(seen[:, 0] < seen[:, 1]).all(-1)].reshape(-1, 4)


def _edges(boxes):
    """Four float64 `[n]` of boxes `[n, 4]`."""
    return np.clip(np.asarray(boxes, np.float64).reshape(-1, 4), 0, 1).T
