"""Figures: the right cell is outlined and the right place is lit."""

import os

import numpy as np
import PIL.Image
import pytest
from matplotlib.patches import Rectangle

from sat_tf.evaluation import figures as visualisation

IMAGE = np.full((56, 112, 3), 200, np.uint8)  # not square: rows and columns differ
WORDS = ["a", "red", "circle"]


@pytest.fixture
def alpha():
    values = np.random.default_rng(17).random((3, 7, 14)) ** 8
    return values / values.sum((1, 2), keepdims=True)


def one_hot(cell, shape):
    return np.eye(shape[0] * shape[1])[cell].reshape(shape)


def outlines(figure):
    """The rectangle's (x, y, width, height) of each panel that has one."""
    return [
        (*patch.get_xy(), patch.get_width(), patch.get_height())
        for panel in figure.axes
        for patch in panel.patches
        if isinstance(patch, Rectangle)
    ]


def shown(panel):
    return np.asarray(panel.images[0].get_array())


@pytest.mark.parametrize("draw", ["attention", "grid"])
def test_the_chosen_cell_is_outlined(alpha, draw):
    cells = [0, 14 * 6 + 13, 14 * 2 + 5]  # first, last, row 2 column 5
    if draw == "attention":
        figure = visualisation.attention_figure(IMAGE, WORDS, alpha, cells)
    else:
        figure = visualisation.grid_figure([(IMAGE, WORDS, alpha, cells)])
    # 8 x 8 pixels a cell; a pixel's centre is a whole number
    assert outlines(figure) == [
        (-0.5, -0.5, 8, 8),
        (13 * 8 - 0.5, 6 * 8 - 0.5, 8, 8),
        (5 * 8 - 0.5, 2 * 8 - 0.5, 8, 8),
    ]


def test_without_locations_no_cell_is_outlined(alpha):
    figure = visualisation.attention_figure(IMAGE, WORDS, alpha)
    assert outlines(figure) == []
    texts = [t.get_text() for panel in figure.axes for t in panel.texts]
    assert texts == [f"{a.max():.2f}" for a in alpha]


def test_words_caption_title_and_share(alpha):
    words = ["a", "$5", "red_$6"]  # no mathematics, whatever the caption
    figure = visualisation.attention_figure(
        IMAGE, words, alpha, [3, 4, 5], title="photo_$1_$.jpg"
    )
    assert figure.get_suptitle() == "a $5 red_$6"
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["photo_$1_$.jpg", *words]
    shares = [t.get_text() for panel in figure.axes for t in panel.texts]
    assert shares == [
        f"{a.ravel()[c]:.2f}" for a, c in zip(alpha, [3, 4, 5], strict=True)
    ]
    figure.canvas.draw()


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("cell", [0, 13, 14 * 3 + 6, 14 * 6, 14 * 6 + 13])
def test_light_is_in_the_cell_attended(cell, smooth):
    figure = visualisation.attention_figure(
        IMAGE, ["x"], one_hot(cell, (7, 14))[None], smooth=smooth
    )
    assert (shown(figure.axes[0]) == IMAGE).all()
    light = shown(figure.axes[1]).sum(-1)
    row, column = divmod(cell, 14)
    brightest = np.argwhere(light == light.max()) // 8
    assert (brightest == [row, column]).all()


def test_uniform_attention_lights_everything_alike():
    figure = visualisation.attention_figure(IMAGE, ["x"], np.full((1, 7, 14), 1 / 98))
    assert np.ptp(shown(figure.axes[1]).astype(int)) <= 1  # rounding
    assert shown(figure.axes[1]).min() >= IMAGE.min()


def test_upsampling_keeps_the_mean_and_the_uniform_map(alpha):
    for a in alpha:
        large = visualisation.upsample(a)
        assert large.shape == (7 * 16, 14 * 16)
        assert large.min() >= 0
        assert large.mean() == pytest.approx(a.mean(), rel=1e-12)
    flat = visualisation.upsample(np.full((7, 14), 0.25))
    np.testing.assert_allclose(flat, 0.25, rtol=1e-12)


def test_upsampling_keeps_the_order_of_two_peaks():
    a = 0.6 * one_hot(14 * 1 + 2, (7, 14)) + 0.4 * one_hot(14 * 5 + 11, (7, 14))
    large = visualisation.upsample(a)
    first, second = large[16 : 2 * 16, 32 : 3 * 16], large[80:96, 176:192]
    assert first.max() == large.max()
    assert second.max() / first.max() == pytest.approx(0.4 / 0.6, rel=0.01)


def test_upsampling_is_a_gaussian_of_sigma_pixels():
    large = visualisation.upsample(one_hot(15 * 31 // 2, (15, 31)), sigma=20)
    across = large.sum(0) / large.sum()
    pixels = np.arange(len(across))
    mean = across @ pixels
    # a hat of 16 pixels' half-width has variance 16^2 / 6
    assert across @ (pixels - mean) ** 2 == pytest.approx(400 + 256 / 6, rel=0.01)


def test_grid_has_a_row_for_each_image(alpha):
    cells = [1, 2, 3]
    figure = visualisation.grid_figure(
        [(IMAGE, WORDS, alpha, cells), (IMAGE, WORDS[:1], alpha[:1], cells[:1])]
    )
    drawn = [bool(panel.images) for panel in figure.axes]
    assert drawn == [True] * 4 + [True] * 2 + [False] * 2


def test_float_images_and_many_words_are_drawn(tmp_path):
    alpha = np.full((20, 14, 14), 1 / 196, np.float32)
    figure = visualisation.attention_figure(
        np.full((224, 224, 3), 300.0), ["playhouse"] * 20, alpha, np.arange(20)
    )
    path = tmp_path / "new" / "figure.png"
    visualisation.save_figure(figure, path)
    with PIL.Image.open(path) as written:
        width, height = written.size
    assert 1.2 < width / height < 2.2
    assert os.listdir(path.parent) == ["figure.png"]


def test_a_failed_write_leaves_the_old_figure(tmp_path, monkeypatch, alpha):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure = visualisation.attention_figure(IMAGE, WORDS, alpha)

    def full_disk(beside, **_):
        beside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full_disk)
    with pytest.raises(OSError, match="No space"):
        visualisation.save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["figure.png"]


def test_what_does_not_fit_is_refused_in_three_parts(alpha):
    parts = r"Expected [\s\S]*Received: [\s\S]*{}"
    with pytest.raises(ValueError, match=parts.format(r"words=2, alpha=\(3, 7, 14\)")):
        visualisation.attention_figure(IMAGE, WORDS[:2], alpha)
    with pytest.raises(ValueError, match=parts.format(r"image=\(56, 112\)")):
        visualisation.attention_figure(IMAGE[..., 0], WORDS, alpha)
    with pytest.raises(ValueError, match=parts.format(r"locations=\[98\]")):
        visualisation.grid_figure([(IMAGE, WORDS, alpha, [0, 98, 1])])
    with pytest.raises(ValueError, match=parts.format(r"captions=\[\]")):
        visualisation.grid_figure([])


def test_looks_show_boxes_and_the_chosen_cell(tmp_path):
    look = (IMAGE, "dog", [(0, 0, 0.5, 0.25)], 14 * 2 + 5, (7, 14), "all of it")
    figure = visualisation.looks_figure({"Best": [look] * 6, "Worst": [look]})
    drawn = [panel for panel in figure.axes if panel.patches]
    assert len(drawn) == 7 and {p.get_title() for p in drawn} == {"dog"}
    box, cell = outlines(figure)[:2]
    assert box == (-0.5, -0.5, 28, 28) and cell == (5 * 8 - 0.5, 2 * 8 - 0.5, 8, 8)
    assert drawn[0].texts[0].get_text() == "all of it"
    visualisation.save_figure(figure, tmp_path / "looks.png")
    assert (tmp_path / "looks.png").stat().st_size > 1000
