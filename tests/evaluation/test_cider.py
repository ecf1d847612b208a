"""CIDEr-D of many captions of an image: pycocoevalcap's numbers."""

import numpy as np
from pycocoevalcap.cider.cider import Cider

from sat_tf.evaluation.cider import CiderD

PEOPLE = [
    ["a dog runs in the snow", "a brown dog runs", "two dogs"],
    ["a man rides a bike", "a man on a bike on a hill"],
    ["the dog", "a dog and a man in the snow"],
    ["children play", "children play in the grass near a man"],
]
SAID = [
    ["a dog runs in the snow", "dogs run run run", "a zebra"],
    ["a man rides a bike on a hill", "a man", "the dog"],
    ["a dog and a man in the snow", "snow snow snow snow snow snow snow", "a dog"],
    ["children play in the grass near", "the grass", "a man rides a bike"],
]


def test_is_what_pycocoevalcap_says_of_one_caption_of_each_image():
    cider = CiderD([[text.split() for text in texts] for texts in PEOPLE])
    ours = [
        cider.scores([t.split() for t in said], [t.split() for t in people])
        for said, people in zip(SAID, PEOPLE, strict=True)
    ]
    for k in range(3):
        said = {i: [texts[k]] for i, texts in enumerate(SAID)}
        _, wanted = Cider().compute_score(dict(enumerate(PEOPLE)), said)
        np.testing.assert_allclose([row[k] for row in ours], wanted, atol=1e-9)
    assert max(map(max, ours)) > 3 and min(map(min, ours)) == 0


def test_nothing_said_and_a_single_image_are_worth_nothing():
    cider = CiderD([[["a", "dog"]]])
    assert cider.scores([[], ["a", "dog"]], [["a", "dog"]]) == [0, 0]
