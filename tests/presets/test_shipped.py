"""The captioners that come with the package do what their cards say."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import encode, picture

from sat_tf import ShowAttendTell, cli, images
from sat_tf.datasets import scenes, scenes_drawing

SAVED_MODELS = pathlib.Path(__file__).parents[2] / "saved_models"


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


def test_flickr8k_hard_captions_photographs_with_a_trunk_of_ones_own(tmp_path, capsys):
    """Its trunk stays with its owner: here one of random weights, and no sense."""
    trunk = keras.applications.MobileNet(weights=None, include_top=False)
    trunk.save_weights(tmp_path / "trunk.weights.h5")
    picture(300, 200).save(tmp_path / "photo.jpg")
    given = [str(tmp_path / "photo.jpg"), "--encoder-weights"]
    assert cli.main(["caption", *given, str(tmp_path / "trunk.weights.h5")]) == 0
    said = capsys.readouterr().out.removeprefix(f"{given[0]}: ").split()
    captioner = ShowAttendTell.from_preset(
        "flickr8k_hard", encoder_weights=tmp_path / "trunk.weights.h5"
    )
    assert said and set(said) <= set(captioner.vocabulary.words)
    assert captioner.grid == (7, 7) and captioner.options().attention == "argmax"
    # As the photographs it learned from were.
    assert captioner.encoder.resize_mode == "squash"


@pytest.mark.parametrize("size", [(112, 112), (300, 200), (48, 64)])
def test_the_exported_scenes_hard_takes_images_of_any_size(size):
    """As the README has it: the folder in saved_models, and a photograph."""
    contents = encode(picture(*size), "JPEG")
    model = tf.saved_model.load(str(SAVED_MODELS / "scenes_hard" / "1"))
    answer = model.signatures["serving_default"](image_bytes=tf.constant([contents]))
    (said,) = ShowAttendTell.from_preset("scenes_hard").generate([contents])
    assert answer["error"][0] == b""
    assert answer["caption"][0].numpy().decode() == said.caption != ""


def test_squashing_leaves_a_drawing_as_it_is():
    """So the scores of `scenes` are those of the days when it resized nothing."""
    drawing = scenes_drawing.jpeg(scenes.render(scenes.scene("test", 0)))
    pixels = {}
    for mode in ("none", "squash"):
        (pixels[mode],), (error,) = images.decode_batch([drawing], (112, 112), mode)
        assert error == b""
    np.testing.assert_array_equal(pixels["squash"], pixels["none"])
    np.testing.assert_array_equal(pixels["squash"], images.decode(drawing))
