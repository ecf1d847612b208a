"""Texts that are made when asked for: they are what was put in, and equal to it."""

import numpy as np
import pytest

from sat_tf.datasets.texts import Captions, Texts
from sat_tf.recipes import RECIPES
from sat_tf.training.building import vocabulary_of
from sat_tf.vocabulary import Vocabulary, tokenise

NAMES = ["a.jpg", "", "Fußgänger/写真.png", "d.jpg"]
CAPTIONS = [
    ["A dog.", "Un chien d'eau, 2-3"],
    [],
    ["犬が走る", "", "a dog"],
    ["A man's"],
]


@pytest.mark.parametrize("number", [0, 4, 3000])
def test_a_sequence_as_any_other(number):
    names = (NAMES * 1000)[:number]
    texts = Texts.of(names)
    assert texts == names and names == texts and list(texts) == names
    assert texts != [*names, "more"] and texts != [*names[1:], "other"]
    for at in (slice(1, 3), slice(None, None, -2), slice(2, None), slice(9, 3)):
        assert texts[at] == tuple(names[at])
    for at in (0, 2, -1) if number else ():
        assert texts[at] == names[at] == texts[np.int64(at)]
    with pytest.raises(IndexError):
        texts[number]
    assert Texts.of(texts) is texts and len(repr(texts)) < 100


def test_captions_and_their_words():
    captions = Captions.of(CAPTIONS)
    assert captions == [tuple(row) for row in CAPTIONS]
    assert captions[2] == tuple(CAPTIONS[2]) and Captions.of(captions) is captions
    np.testing.assert_array_equal(captions.images(), [0, 0, 2, 2, 2, 3])
    said = [tokenise(text) for row in CAPTIONS for text in row]
    numbers = np.split(captions.numbers, captions.number_starts[1:-1])
    assert [[captions.words[i] for i in each] for each in numbers] == said
    recipe = RECIPES["scenes"]
    expected = Vocabulary.from_captions(text for row in CAPTIONS for text in row)
    assert vocabulary_of(recipe, captions).words == expected.words
    assert captions.digests[0] != captions.digests[2]
    assert Captions.of([("A", "b")]).digests == Captions.of([["A", "b"]]).digests
