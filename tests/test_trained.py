"""The captioners that come with the package do what their cards say."""

import numpy as np

from sat_tf import ShowAttendTell
from sat_tf.datasets import scenes


def test_scenes_hard_looks_where_it_speaks():
    """Its card says 98 % and 95 % of 500; two standard errors of 100 are allowed."""
    captioner = ShowAttendTell.from_preset("scenes_hard")
    drawn = [scenes.scene("test", index) for index in range(100)]
    pixels = np.stack([scenes.render(scene) for scene in drawn])
    captions = captioner.generate(pixels, decoder="beam", beam=3)
    names = [scene.file_name for scene in drawn]
    texts = [caption.caption for caption in captions]
    looks = [caption.locations for caption in captions]
    pointing = scenes.pointing_accuracy(texts, looks, captioner.grid, names)
    assert pointing > 0.95
    assert scenes.caption_accuracy(texts, names) > 0.90
