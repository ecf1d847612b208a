"""The captioners that come with the package do what their cards say."""

import keras
import numpy as np
from pictures import picture

from sat_tf import ShowAttendTell, cli
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
    assert captioner.grid == (7, 7) and captioner.attention_rule == "argmax"
    assert captioner.encoder.resize_mode == "squash"  # as the photographs it learned from
