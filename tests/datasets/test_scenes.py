"""`scenes`: deterministic, held out, true captions, regions where the pixels are."""

import io

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from sat_tf.datasets import regions, scenes
from sat_tf.datasets.scenes import Object
from sat_tf.datasets.scenes_drawing import RGB, jpeg
from sat_tf.datasets.scenes_grammar import (
    CONTENT,
    RELATIONS,
    bindings,
    is_true,
    parse,
    pointing_regions,
)
from sat_tf.vocabulary import tokenise

MANY = [scenes.scene(split, i) for split in scenes.SPLITS for i in range(60)]
#  red ring on the left, blue square on the right, both small; a large one below left
THREE = (
    Object("small", "red", "ring", top=20, left=10, side=20),
    Object("small", "blue", "square", top=20, left=70, side=20),
    Object("large", "red", "ring", top=70, left=10, side=34),
)


def test_an_image_is_a_function_of_split_and_index():
    one, again = scenes.scene("test", 7), scenes.scene("test", 7)
    assert one == again
    assert scenes.captions_of(one) == scenes.captions_of(again)
    np.testing.assert_array_equal(scenes.render(one), scenes.render(again))
    assert scenes.render(one).shape == (112, 112, 3)
    assert scenes.objects_of("test_00007.jpg") == one.objects
    assert len({scene.objects for scene in MANY}) == len(MANY)


def test_a_foreign_file_name_is_refused():
    with pytest.raises(ValueError, match="Received: file_name='dog.jpg'"):
        scenes.objects_of("dog.jpg")


@pytest.mark.parametrize("scene", MANY[::4], ids=lambda scene: scene.file_name)
def test_regions_lie_where_the_pixels_are(scene):
    image = scenes.render(scene).astype(float)
    names = list(RGB)
    for thing in scene.objects:
        top, left, bottom, right = np.rint(np.multiply(thing.box, 112)).astype(int)
        y = top + thing.side // 2  # well inside the shape, or the rim of a ring
        x = left + thing.side // (8 if thing.shape == "ring" else 2)
        inside = image[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))
        distance = np.subtract(list(RGB.values()), inside)
        assert names[np.linalg.norm(distance, axis=1).argmin()] == thing.colour
        # The shape touches all four sides of its box.
        box = image[top:bottom, left:right]
        near = np.linalg.norm(box - inside, axis=-1) < 70
        rows, columns = near.any(1), near.any(0)
        assert rows[:3].any() and rows[-3:].any()
        assert columns[:3].any() and columns[-3:].any()


def test_objects_are_apart_and_distinct():
    for scene in MANY:
        covered = np.zeros((112, 112), int)
        for o in scene.objects:
            covered[o.top : o.top + o.side, o.left : o.left + o.side] += 1
        assert covered.max() == 1
        assert covered.sum() == sum(o.side**2 for o in scene.objects)
        kinds = {(o.size, o.colour, o.shape) for o in scene.objects}
        assert 2 <= len(kinds) == len(scene.objects) <= 3


def test_held_out_combinations_are_in_unseen_only_and_in_all_its_captions():
    for scene in MANY:
        kinds = {(o.size, o.colour, o.shape): o for o in scene.objects}
        held_out = {kinds[kind] for kind in scenes.HELD_OUT if kind in kinds}
        assert bool(held_out) == (scene.split == "unseen")
        for text, _ in scenes.captions_of(scene):
            (meant,) = bindings(parse(text), scene.objects)
            assert bool(held_out & set(meant)) == (scene.split == "unseen")


def test_captions_are_true_and_each_content_word_has_its_region():
    for scene in MANY:
        captions = scenes.captions_of(scene)
        assert len({text for text, _ in captions}) == 5
        for text, boxes in captions:
            words = tokenise(text)
            assert 4 <= len(words) == len(boxes) <= 16
            assert is_true(text, scene.objects), text
            accepted = pointing_regions(words, scene.objects)
            for word, own, right in zip(words, boxes, accepted, strict=True):
                if word in CONTENT:
                    # A phrase fits one object of its scene, so one region is right.
                    assert right == own and len(own) == 1
                else:
                    assert right is None and own == []


def test_a_wrong_colour_or_a_turned_relation_makes_a_caption_false():
    opposite = dict(zip(RELATIONS, ("right", "left", "below", "above"), strict=True))
    turned = 0
    for scene in MANY:
        absent = set(RGB) - {o.colour for o in scene.objects}
        for text, _ in scenes.captions_of(scene):
            meaning = parse(text)
            wrong = text.replace(meaning.phrases[0].colour, min(absent))
            assert parse(wrong) and not is_true(wrong, scene.objects)
            if len(meaning.relations) == 1:
                relation = meaning.relations[0][1]
                wrong = text.replace(relation, opposite[relation])
                assert parse(wrong) and not is_true(wrong, scene.objects)
                turned += 1
    assert turned > len(MANY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red",
        "there is",
        "a red rings",
        "a ring red",
        "red ring",
        "a red ring is",
        "a red ring above",
        "a red ring is a blue square",
        "there is a red ring is above a blue square",
        "a red ring above a blue square a white ring",
        "a red ring is above a blue square and a white ring",
        "a small large red ring",
        "a red ring and and a blue square",
        "a green ring and a <unk> square",
    ],
)
def test_what_the_grammar_does_not_have_is_neither_parsed_nor_true(text):
    assert parse(text) is None
    assert not is_true(text, THREE)


def test_meaning_of_a_caption():
    meaning = parse("A small red ring is to the left of a blue square.")
    assert meaning.phrases == (("small", "red", "ring"), (None, "blue", "square"))
    assert meaning.relations == ((0, "left", 1),)


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("there is a red ring", True),
        ("a red ring left of a blue square and above a large red ring", True),
        ("a blue square is above a large red ring", True),
        ("a large red ring is above a blue square", False),
        ("a small red ring is above a blue square", False),  # they are level
        ("a red ring and a red ring", True),
        ("a blue square and a blue square", False),  # two mentions need two objects
        ("a large blue square and a red ring", False),
    ],
)
def test_truth(text, truth):
    assert is_true(text, THREE) == truth


def test_pointing_regions_are_those_of_all_bindings_that_make_it_true():
    small, blue, large = (thing.box for thing in THREE)

    def regions(text):
        accepted = pointing_regions(tokenise(text), THREE)
        return [set(boxes) for boxes in accepted if boxes is not None]

    assert regions("there is a red ring") == [{small, large}] * 2
    # Only the large ring is below the square.
    assert regions("a red ring is below a blue square") == [{large}] * 2 + [{blue}] * 2
    # False: each word may point at what has its attribute.
    assert regions("a small blue ring") == [{small, blue}, {blue}, {small, large}]
    assert regions("green square and") == [set(), {blue}]


@pytest.mark.parametrize("grid", [(14, 14), (7, 7)])
def test_an_oracle_points_right_and_a_blind_pointer_at_chance(grid):
    rng = np.random.default_rng(17)
    cells = grid[0] * grid[1]
    captions, names, oracle, blind, chances = [], [], [], [], []
    for scene in MANY:
        for text, boxes in scenes.captions_of(scene):
            inside = [
                np.flatnonzero(regions.holds_middles(own, grid)).tolist()
                for own in boxes
            ]
            captions.append(text)
            names.append(scene.file_name)
            oracle.append([places[0] if places else 0 for places in inside])
            blind.append(rng.integers(cells, size=len(boxes)).tolist())
            chances += [
                len(c) / cells
                for c, w in zip(inside, tokenise(text), strict=True)
                if w in CONTENT
            ]
    assert min(chances) > 0
    assert scenes.pointing_accuracy(captions, oracle, grid, names) == 1.0
    found = scenes.pointing_accuracy(captions, blind, grid, names)
    chance = np.mean(chances)
    assert abs(found - chance) < 4 * np.sqrt(chance / len(chances))
    assert scenes.caption_accuracy(captions, names) == 1.0


def test_scores_count_words_and_captions():
    scene = scenes.scene("test", 0)
    text, boxes = scenes.captions_of(scene)[0]
    right = [
        np.add(own[0][:2], own[0][2:]) / 2 * 14 // 1 @ (14, 1) if own else 0
        for own in boxes
    ]
    wrong = [0] * len(boxes)
    content = [word in CONTENT for word in tokenise(text)]
    half = [*right[: content.index(True) + 1], *wrong[content.index(True) + 1 :]]
    share = scenes.pointing_accuracy([text], [half], (14, 14), [scene.file_name])
    assert share == 1 / sum(content)
    names = [scene.file_name] * 2
    assert scenes.caption_accuracy([text, "a red cross"], names) == 0.5
    assert scenes.pointing_accuracy(["we see"], [[0, 0]], (14, 14), names[:1]) == 0.0


def test_a_location_per_word_is_required():
    with pytest.raises(ValueError, match="one location per word"):
        scenes.pointing_accuracy(["a red ring"], [[1, 2]], (7, 7), ["test_00000.jpg"])


def test_builder_writes_what_the_functions_say(tmp_path):
    config = scenes.ScenesConfig(name="tiny", train=6, validation=2, test=3, unseen=2)
    builder = scenes.Scenes(config=config, data_dir=tmp_path)
    builder.download_and_prepare()
    splits = {name: info.num_examples for name, info in builder.info.splits.items()}
    assert splits == {"train": 6, "validation": 2, "test": 3, "unseen": 2}
    examples = list(tfds.as_numpy(builder.as_dataset(split="test")))
    for index, example in enumerate(examples):
        scene = scenes.scene("test", index)
        assert example["file_name"].decode() == scene.file_name
        difference = example["image"].astype(float) - scenes.render(scene)
        assert np.abs(difference).mean() < 3  # only JPEG loss
        captions = scenes.captions_of(scene)
        texts = [text.decode() for text in example["captions"]["text"]]
        assert texts == [text for text, _ in captions]
        found = example["captions"]["regions"].to_list()
        for own, (_, boxes) in zip(found, captions, strict=True):
            assert [len(b) for b in own] == [len(b) for b in boxes]
            np.testing.assert_allclose(sum(own, []), sum(boxes, []), atol=1e-6)


def test_pixels_are_written_as_jpeg():
    pixels = scenes.render(scenes.scene("train", 0))
    with Image.open(io.BytesIO(jpeg(pixels))) as image:
        assert (image.format, image.size) == ("JPEG", (112, 112))
