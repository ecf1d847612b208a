"""Looks: whose words count, what lies in their boxes, and what chance would reach."""

import json
import types

import numpy as np
import pictures
import PIL.Image
import pytest
import tensorflow as tf
from small_captioner import WORDS, small_captioner

from sat_tf import cli
from sat_tf.datasets import Split, regions, scenes
from sat_tf.evaluation import looks
from sat_tf.evaluation.evaluate import cached_inputs, evaluate, predict
from sat_tf.vocabulary import tokenise

LEFT, TOP_LEFT = (0.0, 0.0, 1.0, 0.5), (0.0, 0.0, 0.5, 0.25)
UNIFORM = np.full((2, 2), 0.25)


def boxes(*each):
    return np.array(each, np.float32).reshape(-1, 4)


def look(*own, alpha=UNIFORM, location=0, image=0):
    return looks.Look(image, "dog", boxes(*own), np.asarray(alpha), location)


def made_split(captions=None, known=True, n=5, shape=(64, 64)):
    """Plain images; in every caption each word has a box, but for the last."""
    captions = captions or [(f"{WORDS[i]} {WORDS[i + 1]}", WORDS[0]) for i in range(n)]

    def words(text):
        return (boxes(LEFT),) * (len(tokenise(text)) - 1) + (regions.NONE,)

    def picture(i):
        pixels = np.tile(np.uint8(i * 40), (*shape, 3))
        pixels[: 10 + 5 * i, 20:] = 200
        return pictures.encode(PIL.Image.fromarray(pixels), "PNG")

    return Split(
        name="made",
        split="test",
        file_names=tuple(f"{i}.png" for i in range(n)),
        captions=tuple(captions),
        regions=tuple(
            tuple(words(text) if known else None for text in texts)
            for texts in captions
        ),
        read_files=lambda start=0, stop=n: tf.data.Dataset.from_tensor_slices(
            {
                "image": [picture(i) for i in range(start, stop)],
                "file_name": [f"{i}.png" for i in range(start, stop)],
            }
        ),
        image_digests=np.arange(n),
        image_fingerprint=f"made {shape}",
    )


def test_figures_by_hand():
    alpha = [[0.7, 0.1], [0.0, 0.2]]
    hits, misses = look(LEFT, alpha=alpha), look(TOP_LEFT, alpha=alpha, location=3)
    found = looks.summary([hits, misses])
    assert found["n"] == 2 and found["small"]["n"] == 1
    assert found["pointing"] == 0.5 and found["small"]["pointing"] == 0.0
    # The left half holds two cells; the quarter by an eighth half of the first.
    np.testing.assert_allclose(found["correctness"], (0.7 + 0.35) / 2)
    np.testing.assert_allclose(found["area"], (0.5 + 0.125) / 2)
    # The middle lies on the edge of the left half; the cell's on that of the quarter.
    assert found["middle"] == 0.5 and found["small"]["middle"] == 0.0
    assert found["random"] == (0.5 + 0.25) / 2
    entropy = -sum(p * np.log(p) for p in (0.7, 0.1, 0.2))
    np.testing.assert_allclose(found["entropy"], entropy)
    np.testing.assert_allclose(found["entropy_share"], entropy / np.log(4))
    assert json.dumps(found, allow_nan=False)
    assert looks.summary([]) == {"n": 0, "small": {"n": 0}}


def test_a_uniform_alpha_has_the_share_of_the_image():
    rng = np.random.default_rng(17)
    corners = np.sort(rng.random((200, 2, 2)), axis=1).reshape(200, 4)
    each = [look(*c, alpha=np.full((7, 7), 1 / 49)) for c in np.split(corners, 50)]
    found = looks.summary(each)
    np.testing.assert_allclose(found["correctness"], found["area"])
    np.testing.assert_allclose(found["entropy_share"], 1)


def test_the_interval_resamples_images():
    apart = [look(LEFT, location=i % 2, image=i) for i in range(100)]
    together = [look(LEFT, location=i % 2, image=i // 50) for i in range(100)]
    low, high = looks.summary(apart)["pointing_interval"]
    assert 0.38 < low < 0.42 and 0.58 < high < 0.62
    assert looks.summary(apart)["pointing_interval"] == [low, high]
    assert looks.summary(together)["pointing_interval"] == [0.5, 0.5]


def test_a_said_word_has_the_boxes_of_all_phrases_it_heads():
    text = "dog and dog"
    known = [
        looks.Known(0, text, (boxes(LEFT), regions.NONE, boxes(TOP_LEFT))),
        looks.Known(0, "a dog", (regions.NONE, boxes(LEFT, TOP_LEFT))),
        looks.Known(1, "a cat", (regions.NONE, boxes(LEFT))),
    ]
    said = [
        types.SimpleNamespace(
            words=("a", "dog", "cat"),
            alpha=np.stack([UNIFORM] * 3),
            locations=np.array([0, 1, 2]),
        )
    ] * 2
    first, second = looks.spoken(said, known)
    assert (first.image, first.word, first.location) == (0, "dog", 1)
    assert first.boxes.tolist() == boxes(LEFT, TOP_LEFT, LEFT, TOP_LEFT).tolist()
    assert (second.image, second.word, second.location) == (1, "cat", 2)


def test_words_of_given_captions():
    alphas = [np.eye(4)[[1, 2]].reshape(2, 2, 2)]
    known = [looks.Known(3, "A dog", (regions.NONE, boxes(LEFT)))]
    (found,) = looks.given(known, alphas)
    assert (found.image, found.word, found.location) == (3, "dog", 2)
    assert found.alpha.tolist() == [[0, 0], [1, 0]]
    (found,) = looks.given(known, alphas, [[0, 3]])
    assert found.location == 3


def test_drawings_are_judged_by_the_same_rule():
    """Of captions of `scenes`, what `pointing_accuracy` says."""
    rng, captions, places, names, each = np.random.default_rng(17), [], [], [], []
    for i in range(20):
        scene = scenes.scene("test", i)
        for text, words in scenes.captions_of(scene):
            captions.append(text)
            names.append(scene.file_name)
            places.append(rng.integers(49, size=len(words)))
            each.append(looks.Known(i, text, tuple(boxes(*b) for b in words)))
    alphas = [np.full((len(p), 7, 7), 1 / 49) for p in places]
    found = looks.summary(looks.given(each, alphas, places))
    right = scenes.pointing_accuracy(captions, places, (7, 7), names)
    assert 0 < right == pytest.approx(found["pointing"])
    assert found["n"] > found["small"]["n"] > 300


@pytest.mark.parametrize("rule", ["argmax", "expected"])
def test_own_captions_are_gone_over_as_they_were_made(rule, tmp_path):
    captioner, split = small_captioner(), made_split()
    inputs, key = cached_inputs(captioner, split, tmp_path)
    options = captioner.options(decoder="greedy", attention=rule, max_length=6)
    made = predict(captioner, inputs, key, options)
    known = [
        looks.Known(i, c.caption, (regions.NONE,) * len(c.words))
        for i, c in enumerate(made)
        if c.words
    ]
    alphas, locations = looks.go_over(captioner, inputs, key, known, rule, batch_size=2)
    assert len(alphas) == len(known) > 2
    for (i, *_), alpha, chosen in zip(known, alphas, locations, strict=True):
        np.testing.assert_allclose(alpha, made[i].alpha, atol=1e-5)
        np.testing.assert_array_equal(chosen, made[i].locations)


def test_evaluate_reports_and_draws_them(tmp_path):
    captioner, split = small_captioner(), made_split()
    scores = evaluate(
        captioner,
        split,
        captioner.options(decoder="greedy", max_length=6),
        tmp_path / "out",
        cache_dir=tmp_path,
        meteor=False,
        progress=False,
    )
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written["looks"] == scores["looks"]
    assert scores["looks"].keys() == {"generated", "given", "explained"}
    given = scores["looks"]["given"]
    assert given["n"] == 5  # one word has a box in the first caption of each image
    # The captioner sees the middle 7 of 8 parts of the images, and half is left.
    assert given["area"] == pytest.approx(0.5, abs=0.01)
    assert given["small"] == {"n": 0}
    assert 0 <= given["correctness"] <= 1
    with PIL.Image.open(tmp_path / "out" / "looks.png") as figure:
        assert min(figure.size) > 100


def test_without_regions_nothing_is_said(tmp_path):
    captioner = small_captioner()
    options = captioner.options(decoder="greedy", max_length=6)
    scores = evaluate(
        captioner,
        made_split(known=False),
        options,
        tmp_path / "out",
        cache_dir=tmp_path,
        meteor=False,
        progress=False,
    )
    assert "looks" not in scores and not (tmp_path / "out" / "looks.png").exists()


def test_boxes_are_those_of_what_the_captioner_sees():
    """Of a wide image the crop is all left half, or has none of it."""
    split = made_split(shape=(64, 640))
    cropped = looks.known_captions(split, (64, 64), "crop")
    whole = looks.known_captions(split, (64, 64), "squash")
    assert [k.text for k in cropped] == [k.text for k in whole]
    assert whole[0].boxes[0].tolist() == [list(LEFT)]
    np.testing.assert_allclose(cropped[0].boxes[0], [LEFT], atol=0.01)
    assert not len(cropped[0].boxes[1])


def test_the_best_and_the_worst_of_each_image():
    alpha = np.eye(4)[0].reshape(2, 2)
    hit, miss = look(TOP_LEFT, alpha=alpha), look((0.5, 0.5, 1, 1), alpha=alpha)
    other = look(LEFT, alpha=alpha, image=1)
    best, worst = looks.best_and_worst([miss, other, hit])
    assert [pair[0] is x for pair, x in zip(best, [other, hit], strict=True)]
    assert best[0][1]["correctness"] - best[0][1]["area"] >= 0.5 - 1e-9
    assert worst[0][0] is miss and worst[1][0] is other
    assert len(looks.best_and_worst([hit, other], 1)[0]) == 1


def test_the_command_reports_them_where_boxes_lie_beside(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    split, folder = made_split(n=3), tmp_path / "photographs"
    folder.mkdir()
    for name, contents in zip(split.file_names, split.images, strict=True):
        (folder / name).write_bytes(contents.numpy())
    lines = [
        f"{name}#{k}\t{text}"
        for name, texts in zip(split.file_names, split.captions, strict=True)
        for k, text in enumerate(texts)
    ]
    (folder / "Flickr8k.token.txt").write_text("\n".join(lines))
    (folder / "Flickr_8k.devImages.txt").write_text("\n".join(split.file_names))
    captioner = small_captioner(resize_mode="squash")
    captioner.save_to_preset(tmp_path / "model")
    out = tmp_path / "out"
    command = ["evaluate", str(tmp_path / "model"), "--data", "flickr8k", "--data-dir"]
    command += [str(folder), "--split", "validation", "--out", str(out)]
    command += ["--cache-dir", str(tmp_path / "cache")]
    assert cli.main(command) == 0
    assert "looks" not in capsys.readouterr().out
    phrase = {"first": 0, "length": 1, "ambiguous": False, "boxes": [[0, 0, 0.5, 1]]}
    tokens = split.captions[0][0].split()
    caption = {"index": 0, "tokens": tokens, "phrases": [phrase]}
    entry = {"size_confidence": 1.0, "captions": [caption]}
    (folder / "entities_dev.json").write_text(json.dumps({split.file_names[0]: entry}))
    assert cli.main(command) == 0
    said = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    given = json.loads((out / "scores.json").read_text())["looks"]["given"]
    assert given["n"] == 1 and given["area"] == 0.5
    assert said["looks.given.n"] == "1" and said["looks.given.area"] == "0.500"
    low, high = given["pointing_interval"]
    assert said["looks.given.pointing_interval"] == f"{low:.3f} to {high:.3f}"
