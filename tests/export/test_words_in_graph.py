"""The words that a server finds in a caption are those that training found."""

import unicodedata

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_vocabulary import TRICKY, WRITTEN

from sat_tf import vocabulary
from sat_tf.export import words_in_graph
from sat_tf.vocabulary import PAD, UNK, tokenise

LANGUAGES = {
    **{name: unicodedata.normalize("NFC", x[0]) for name, x in WRITTEN.items()},
    "Flickr8k": "A man 's dog -- it doesn't \"bark\" , at 5 o'clock ...",
    "rock n' all": "rock n' all the quoted 'words' of y'all, n'all",
    "French, apart": "la porte d' entrée, jusqu'ici et l' eau",
    "Hebrew, every letter": "א'ב'ג צ\"ה\"ל",
    "Catalan, every letter": "l·l·l col·lecció l·",
    "joiners at ends": "\u200cب\u200c\u200dت\u200d न\u094d\u200d",
    "stray marks": "\u0301'a ำ กำ \u0301l'eau a\u0301\u0327",
    "control characters": "a\x01b l'\x02 eau \x03\x04'a\x06\nb\tc",
    "nothing": "",
    "no words": " . -- !",
}


@pytest.fixture(scope="module")
def words_of():
    graph = tf.function(
        words_in_graph.split, input_signature=[tf.TensorSpec([None], tf.string)]
    )

    def words_of(*captions):
        return [[w.decode() for w in row.numpy()] for row in graph(captions)]

    return words_of


def test_words_of_every_language(words_of):
    """In one batch, so that rows of all lengths stand beside each other."""
    found = words_of(*LANGUAGES.values())
    for (name, caption), words in zip(LANGUAGES.items(), found, strict=True):
        # Left out, as the docstring says: voiced kana of half width are composed.
        wanted = tokenise(caption)
        assert [unicodedata.normalize("NFC", w) for w in words] == wanted, name


def is_composed(caption):
    """Whether all that `tokenise` would compose is so already."""
    text = vocabulary._INVISIBLE.sub("", caption.translate(vocabulary._ALIKE))
    small = vocabulary._DOTTED.sub("i", text.lower())
    return all(unicodedata.is_normalized("NFC", form) for form in (text, small))


def test_every_capital_letter(words_of):
    capitals = [chr(i) for i in range(0x110000) if chr(i).lower() != chr(i)]
    capitals = [*filter(is_composed, capitals)]
    assert len(capitals) > 1300
    assert words_of(*capitals) == [tokenise(c) for c in capitals]


ASSIGNED = st.text(st.characters(exclude_categories=["Cn", "Co", "Cs"]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(ASSIGNED, st.text(TRICKY)), min_size=1, max_size=9))
def test_words_of_anything(words_of, captions):
    captions = [unicodedata.normalize("NFC", caption) for caption in captions]
    captions = ["", *filter(is_composed, captions)]
    assert words_of(*captions) == [tokenise(c) for c in captions]


def test_ids_of_known_and_unknown_words():
    words = ["", "", "", "a", "dog"]
    captions = ["A dog, a cat", "", "dog " * 100, b"\xff dog \xc3"]
    ids, said, number = words_in_graph.ids(tf.constant(captions), words)
    most = words_in_graph.MAX_WORDS
    assert ids.shape == said.shape == (4, most)
    assert number.numpy().tolist() == [4, 0, 100, 1]  # what is no UTF-8 is no word
    assert ids[0].numpy().tolist() == [3, 4, 3, UNK, *[PAD] * (most - 4)]
    assert said[0, :4].numpy().tolist() == [b"a", b"dog", b"a", b"cat"]
    assert set(ids[1].numpy()) == {PAD} and set(ids[2].numpy()) == {4}
    ids, said, _ = words_in_graph.ids(tf.constant([""]), words)
    assert ids.numpy().tolist() == [[PAD]] and said.numpy().tolist() == [[b""]]


def test_a_book_is_not_read_to_its_end():
    """Or one caption would keep a server busy for minutes."""
    _, said, number = words_in_graph.ids(tf.constant(["a " * 10**6]), ["a"])
    assert words_in_graph.MAX_WORDS < int(number[0]) < 10**4
    assert said.shape == (1, words_in_graph.MAX_WORDS)
