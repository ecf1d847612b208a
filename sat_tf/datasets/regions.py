"""Where boxes lie on the grid that a captioner looks at.

A box is relative to its image: `(ymin, xmin, ymax, xmax)` in 0..1.
"""

import numpy as np

from sat_tf.images.shrinking import SHORTEST_SIDE

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
    # In the numbers that boxes are kept in: an edge on a middle is one in both.
    rows, columns = (((np.arange(n) + 0.5) / n).astype(np.float32) for n in grid)
    ymin, xmin, ymax, xmax = _edges(boxes, np.float32)
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
    ymin, xmin, ymax, xmax = _edges(boxes, np.float64)
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


def in_crop(boxes, image_size, size):
    """The boxes in what mode `crop` of `images.resize` leaves of their image.

    Args:
        boxes: `[n, 4]`, relative to the image.
        image_size: (height, width) of the image. size: of what is cut out.

    Returns:
        float32 `[m, 4]`, relative to what is cut out; m < n where whole boxes are cut
        away.
    """
    scale = max(SHORTEST_SIDE * np.divide(size, image_size))
    scaled = np.round(scale * np.array(image_size))
    corner = (scaled - size) // 2
    corners = np.reshape(boxes, [-1, 2, 2]) * scaled - corner
    seen = np.clip(corners / size, 0, 1).astype(np.float32)
    return seen[(seen[:, 0] < seen[:, 1]).all(-1)].reshape(-1, 4)


def _edges(boxes, dtype):
    """Four arrays `[n]` of boxes `[n, 4]`."""
    return np.clip(np.asarray(boxes, dtype).reshape(-1, 4), 0, 1).T
