"""The captioners that come with the package do what their cards say."""

import json
import pathlib
import re
import socket

import numpy as np
import pytest
import tensorflow as tf
from pictures import encode, picture

import sat_tf
from sat_tf import ShowAttendTell, cli, images
from sat_tf.datasets import scenes, scenes_drawing

SAVED_MODELS = pathlib.Path(__file__).parents[2] / "saved_models"


@pytest.fixture(scope="module")
def scenes_hard():
    return ShowAttendTell.from_preset("scenes_hard")


@pytest.fixture(scope="module")
def exported():
    return tf.saved_model.load(str(SAVED_MODELS / "scenes_hard" / "1"))


def test_scenes_hard_looks_where_it_speaks(scenes_hard):
    """Its card says 98 % and 95 % of 500; two standard errors of 100 are allowed."""
    drawn = [scenes.scene("test", index) for index in range(100)]
    pixels = np.stack([scenes.render(scene) for scene in drawn])
    captions = scenes_hard.generate(pixels, decoder="beam", beam=3)
    names = [scene.file_name for scene in drawn]
    texts = [caption.caption for caption in captions]
    looks = [caption.locations for caption in captions]
    pointing = scenes.pointing_accuracy(texts, looks, scenes_hard.grid, names)
    assert pointing > 0.95
    assert scenes.caption_accuracy(texts, names) > 0.90


def test_flickr8k_hard_needs_no_download(tmp_path, capsys, monkeypatch):
    """Its trunk comes with the package; it captions, and explains what it said."""

    def refused(*args, **kwargs):
        raise AssertionError(f"a connection was asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", refused)
    photo = str(tmp_path / "photo.jpg")
    picture(300, 200).save(photo)
    assert cli.main(["caption", photo]) == 0
    said = capsys.readouterr().out.removeprefix(f"{photo}: ").strip()
    captioner = ShowAttendTell.from_preset("flickr8k_hard")
    assert said and set(said.split()) <= set(captioner.vocabulary.words)
    assert captioner.grid == (9, 9) and captioner.options().attention == "argmax"
    # All that it says it has to look for.
    assert not captioner.network.decoder.initial_state.sees_image
    # As the photographs it learned from were.
    assert captioner.encoder.resize_mode == "squash"
    assert cli.main(["explain", photo, "--caption", f"{said} zyzzyva", "--json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["words"][-1] == "zyzzyva" and not explained["known"][-1]
    np.testing.assert_allclose(np.sum(explained["evidence"], axis=(1, 2)), 1, rtol=1e-5)


def test_flickr8k_hard_and_its_trunk_are_small():
    folder = pathlib.Path(sat_tf.__file__).parent
    files = [*(folder / "presets" / "flickr8k_hard").iterdir()]
    assert sum(file.stat().st_size for file in files) < 25e6


@pytest.mark.parametrize("name", ["flickr8k_hard", "scenes_hard"])
def test_nothing_that_is_shipped_names_a_place_on_the_machine_it_was_made_on(name):
    folder = pathlib.Path(sat_tf.__file__).parent / "presets" / name
    for file in folder.glob("*.json"):
        texts = re.findall(r'"(?:[^"\\]|\\.)*"', file.read_text("utf-8"))
        assert texts
        assert not [text for text in texts if re.match(r'"(/|~|[A-Za-z]:\\\\)', text)]


@pytest.mark.parametrize("size", [(112, 112), (300, 200), (48, 64)])
def test_the_exported_scenes_hard_takes_images_of_any_size(size, exported, scenes_hard):
    """As the README has it: the folder in saved_models, and a photograph."""
    contents = encode(picture(*size), "JPEG")
    answer = exported.signatures["serving_default"](image_bytes=tf.constant([contents]))
    (said,) = scenes_hard.generate([contents])
    assert answer["error"][0] == b""
    assert answer["caption"][0].numpy().decode() == said.caption != ""


def test_the_exported_scenes_hard_names_what_is_no_number(exported):
    """As what is exported today does."""
    pixels = tf.fill([1, 8, 8, 3], float("nan"))
    answer = exported.signatures["images"](images=pixels)
    assert answer["error"][0].numpy().startswith(b"Expected finite numbers")


def test_the_exported_scenes_hard_explains(exported, scenes_hard):
    """So it is not older than the signatures that the documents tell of."""
    contents = encode(picture(112, 112), "JPEG")
    caption = "a red square left of a zyzzyva"
    answer = exported.signatures["explain"](
        image_bytes=tf.constant([contents]), caption=tf.constant([caption])
    )
    (explained,) = scenes_hard.explain([contents], [caption])
    for name in ("known", "locations", "evidence", "support"):
        ours, told = getattr(explained, name), answer[name][0].numpy()
        np.testing.assert_allclose(told, ours, atol=1e-4, err_msg=name)


def test_squashing_leaves_a_drawing_as_it_is():
    """So the scores of `scenes` are those of the days when it resized nothing."""
    drawing = scenes_drawing.jpeg(scenes.render(scenes.scene("test", 0)))
    pixels = {}
    for mode in ("none", "squash"):
        (pixels[mode],), (error,) = images.decode_batch([drawing], (112, 112), mode)
        assert error == b""
    np.testing.assert_array_equal(pixels["squash"], pixels["none"])
    np.testing.assert_array_equal(pixels["squash"], images.decode(drawing))
