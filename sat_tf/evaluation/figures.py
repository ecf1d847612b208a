"""Where the model looked: one panel per word. Knows arrays, not models."""

import math
import operator

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sat_tf.runtime.files import replacing
from sat_tf.vocabulary import detokenise

UPSCALE = 16  # the paper: a factor of 2^4, for 14x14 maps of 224x224 images
SIGMA = 20  # pixels of the upscaled map, as in the authors' notebook
CHOSEN = "#E69F00"  # orange: told from the rest by every kind of colour vision
BOX = "#56B4E9"  # light blue, beside it
_COLUMNS = 5
_DARK = 0.25  # brightness left where there is no attention
_WHITE = 0.3  # share of white where there is most


def attention_figure(image, words, alpha, locations=None, *, title=None, smooth=True):
    """The image, then for each word what the attention lit and which cell it chose.

    Each panel shows the image as bright as alpha is (relative to that word's
    largest value), the chosen cell outlined, and that cell's share of alpha (the
    largest share if `locations` is None).

    Args:
        image: [H, W, 3], 0 to 255, as the model saw it.
        words: T words.
        alpha: [T, h, w], a distribution over the grid for each word.
        locations: [T] chosen cells, `row * w + column`, or None.
        title: a line above the first panel, such as the file's name.
        smooth: upscale 16 times and blur, as the paper (a blur of more than a
            cell: many small shares side by side can outshine a larger one
            alone); else plain cells.

    Returns:
        A matplotlib Figure for `save_figure`; no global state is touched.
    """
    caption = _check(image, words, alpha, locations)
    columns, rows = _layout(len(words) + 1)
    figure = _figure(2.3 * columns, 2.85 * rows + 0.6)
    figure.suptitle(detokenise(words), fontsize=20, wrap=True, parse_math=False)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    _draw(panels, *caption, title, smooth)
    return figure


def grid_figure(captions, *, smooth=True):
    """Several captioned images, one in each row.

    Args:
        captions: list of `(image, words, alpha, locations)`, each as in
            `attention_figure`.
        smooth: as in `attention_figure`.
    """
    if not captions:
        raise ValueError(
            "Expected one or more captions to draw. Received: captions=[]. "
            "Caption an image first."
        )
    captions = [_check(*caption) for caption in captions]
    columns = 1 + max(len(words) for _, words, _, _ in captions)
    figure = _figure(1.8 * columns, 2.4 * len(captions))
    rows = figure.subplots(len(captions), columns, squeeze=False)
    for panels, caption in zip(rows, captions, strict=True):
        _draw(panels, *caption, None, smooth)
    return figure


def looks_figure(groups):
    """Words with their boxes and the cell that was chosen for each.

    Args:
        groups: title -> list of `(image, word, boxes, cell, grid, text)`: the image
            `[H, W, 3]` in 0..255, the word, its boxes `[n, 4]` (relative ymin, xmin,
            ymax, xmax), the chosen cell, row * w + column, of the grid (h, w), and a
            line below.
    """
    heights = [math.ceil(len(looks) / _COLUMNS) for looks in groups.values()]
    figure = _figure(2.5 * _COLUMNS, 3.3 * sum(heights) + 0.4 * len(groups))
    parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)
    for part, rows, (title, looks) in zip(
        parts.flat, heights, groups.items(), strict=True
    ):
        part.suptitle(title, fontsize=16, parse_math=False)
        panels = part.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for panel in panels:
            panel.set_axis_off()
        for panel, look in zip(panels, looks, strict=False):
            _draw_look(panel, *look)
    return figure


def _draw_look(panel, image, word, boxes, cell, grid, text):
    panel.imshow(np.clip(image, 0, 255).astype(np.uint8))
    panel.set_title(word, fontsize=min(16, 190 / max(len(word), 1)), parse_math=False)
    for box, colour in [*((b, BOX) for b in boxes), (_cell_box(cell, grid), CHOSEN)]:
        _frame(panel, np.shape(image)[:2], box, colour, width=1.5)
    below = {"transform": panel.transAxes, "ha": "center", "va": "top"}
    panel.text(0.5, -0.04, text, fontsize=10, color="0.3", **below)


def upsample(alpha, factor=UPSCALE, sigma=SIGMA):
    """A map [h, w] made `factor` times larger, linearly, and blurred.

    As scikit-image's `pyramid_expand(upscale=16, sigma=20)`, which the authors
    used: borders are mirrored, so that the mean is kept to the last digit and
    a uniform map stays uniform.
    """
    rows, columns = (_expansion(size, factor, sigma) for size in np.shape(alpha))
    return rows @ np.asarray(alpha, float) @ columns.T


def save_figure(figure, path, dpi=110):
    """Writes a PNG, whole or not at all."""
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=dpi)


def _expansion(size, factor, sigma):
    """Matrix [size * factor, size]: linear interpolation, then a Gaussian."""
    pixels = size * factor
    # Of each pixel's centre, the location among the cells' centres.
    location = np.clip((np.arange(pixels) + 0.5) / factor - 0.5, 0, size - 1)
    linear = np.maximum(0, 1 - np.abs(location[:, None] - np.arange(size)))
    reach = math.ceil(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    mirrored = np.pad(linear, ((reach, reach), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(mirrored, 2 * reach + 1, axis=0)
    return windows @ (kernel / kernel.sum())


def _check(image, words, alpha, locations):
    """The same four, as arrays whose shapes fit."""
    image, alpha = np.asarray(image), np.asarray(alpha, float)
    cells = [None] * len(words) if locations is None else list(locations)
    fits = (
        image.ndim == 3
        and image.shape[2] == 3
        and alpha.ndim == 3
        and len(words) == len(alpha) == len(cells)
    )
    if not fits:
        raise ValueError(
            "Expected image [H, W, 3], T words, alpha [T, h, w] and T locations. "
            f"Received: image={image.shape}, words={len(words)}, "
            f"alpha={alpha.shape}, locations={len(cells)}. "
            "Cut alpha and locations to the words drawn (no <eos>, no padding)."
        )
    last = alpha[0].size - 1 if len(alpha) else 0
    outside = [c for c in cells if c is not None and not 0 <= operator.index(c) <= last]
    if outside:
        raise ValueError(
            f"Expected locations from 0 to {last}, row * w + column. "
            f"Received: locations={outside}. Give the grid that alpha has."
        )
    return np.clip(image, 0, 255).astype(np.uint8), list(words), alpha, cells


def _layout(panels):
    """Columns and rows of a figure about as wide as a projector's 16:9."""
    rows = max(1, round(math.sqrt(panels * 9 / 16)))
    return math.ceil(panels / rows), rows


def _figure(width, height):
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(hspace=0.06)  # a share belongs to what is above
    return figure


def _draw(panels, image, words, alpha, cells, title, smooth):
    for panel in panels:
        panel.set_axis_off()
    panels[0].imshow(image)
    panels[0].set_title(title or "", fontsize=12, parse_math=False)
    for panel, word, share, cell in zip(panels[1:], words, alpha, cells, strict=False):
        _draw_word(panel, image, word, share, cell, smooth)


def _draw_word(panel, image, word, share, cell, smooth):
    """One panel: lit image, outlined cell, its share of alpha."""
    height, width = image.shape[:2]
    light = upsample(share) if smooth else share
    panel.imshow(_lit(image, light))
    size = min(18, 190 / max(len(word), 1))  # a long word stays over its panel
    panel.set_title(word, fontsize=size, parse_math=False)
    value = share.max() if cell is None else share.ravel()[cell]
    below = {"transform": panel.transAxes, "ha": "center", "va": "top"}
    panel.text(0.5, -0.02, f"{value:.2f}", fontsize=12, color="0.3", **below)
    if cell is not None:
        _frame(panel, (height, width), _cell_box(cell, share.shape), CHOSEN)


def _cell_box(cell, grid):
    """Relative `(ymin, xmin, ymax, xmax)` of a cell."""
    row, column = divmod(int(cell), grid[1])
    return row / grid[0], column / grid[1], (row + 1) / grid[0], (column + 1) / grid[1]


def _frame(panel, shape, box, colour, width=2.5):
    """Outlines a relative box in an image of `shape` (height, width)."""
    top, left, bottom, right = np.multiply(box, [*shape, *shape])
    panel.add_patch(
        Rectangle(
            # Pixel centres are whole numbers, hence the image starts at -0.5.
            (left - 0.5, top - 0.5),
            right - left,
            bottom - top,
            fill=False,
            edgecolor=colour,
            linewidth=width,
            clip_on=False,
            path_effects=[
                patheffects.withStroke(linewidth=2 * width, foreground="black")
            ],
        )
    )


def _lit(image, light):
    """The image, dark but where `light` is, relative to its largest value.

    A little white is mixed in: on a dark photograph light alone does not show.
    """
    height, width = image.shape[:2]
    rows = np.arange(height) * light.shape[0] // height
    columns = np.arange(width) * light.shape[1] // width
    light = light[np.ix_(rows, columns)][..., None] / max(light.max(), 1e-12)
    lit = image * (_DARK + (1 - _DARK) * light)
    return (lit + _WHITE * light * (255 - lit)).astype(np.uint8)


def captions_figure(images, captions):
    """The figure for one or several images and their `Caption` objects."""
    rows = [
        (image, caption.words, caption.alpha, caption.locations)
        for image, caption in zip(images, captions, strict=True)
    ]
    if len(rows) == 1:
        return attention_figure(*rows[0])
    return grid_figure(rows)
