"""What runs without a graph, and what does not."""

import io

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from sat_tf.images import graph, headers
from sat_tf.runtime.tracing import FEW, untraced


@pytest.mark.parametrize("images, eager", [(0, 1), (FEW, 1), (FEW + 1, 0), (None, 0)])
def test_few_images_have_no_graph(images, eager):
    with pytest.raises(KeyboardInterrupt), untraced(images):
        assert tf.config.functions_run_eagerly() == bool(eager)
        raise KeyboardInterrupt
    assert not tf.config.functions_run_eagerly()


def test_inside_of_one_that_runs_eagerly_it_stays_so():
    with untraced(1):
        with untraced(None):
            assert tf.config.functions_run_eagerly()
        assert tf.config.functions_run_eagerly()


def test_the_blocks_of_a_gif_are_walked_through_in_a_graph(monkeypatch):
    pixels = np.random.default_rng(5).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "GIF")
    traced = graph.decode(file.getvalue())
    counted = []
    read = headers._bytes

    def counting(contents, at, count):
        counted.append(tf.executing_eagerly())
        return read(contents, at, count)

    monkeypatch.setattr(headers, "_bytes", counting)
    with untraced(1):
        assert np.array_equal(graph.decode(file.getvalue()), traced)
    assert 0 < sum(counted) < 50  # of the header; the frame has some 300 blocks
