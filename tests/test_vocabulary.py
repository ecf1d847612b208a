"""Words and ids: the convention that training, decoding and scoring share."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sat_tf.vocabulary import EOS, PAD, SPECIAL, UNK, Vocabulary, tokenise


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog runs .", "a dog runs"),
        ("Two dogs, one BALL!", "two dogs one ball"),
        ("a man's hat", "a man 's hat"),
        ("a man 's hat", "a man 's hat"),  # as Flickr8k splits it
        ("the man’s hat", "the man 's hat"),
        ("a t-shirt and jeans", "a t-shirt and jeans"),
        ("a dog -- running -", "a dog running"),
        ("3 children in a café", "3 children in a café"),
        (" . ", ""),
    ],
)
def test_tokens(caption, words):
    assert tokenise(caption) == words.split()


@settings(deadline=None)
@given(st.text())
def test_tokens_of_tokens_are_the_same(caption):
    words = tokenise(caption)
    assert tokenise(" ".join(words)) == words


def test_most_frequent_first_and_ties_by_spelling():
    captions = ["b a a", "c b a", "d"]
    assert Vocabulary.from_captions(captions).words == (*SPECIAL, *"abcd")
    assert Vocabulary.from_captions(captions, min_count=2).words == (*SPECIAL, *"ab")
    assert Vocabulary.from_captions(captions, max_size=4).words == (*SPECIAL, "a")


def test_encoding_and_back():
    vocabulary = Vocabulary(["a", "dog"])
    assert vocabulary.encode("A dog, a unicorn.") == [3, 4, 3, UNK, EOS]
    assert vocabulary.decode([3, 4, EOS, 4]) == "a dog"
    assert vocabulary.decode([3, PAD, 4]) == "a"
    assert vocabulary.to_words([UNK, 4]) == ["<unk>", "dog"]
    assert len(vocabulary) == 5 and vocabulary.id_of("dog") == 4


def test_special_words_in_a_caption_are_words_nobody_knows():
    """`<unk>` in a caption must not become the id that decoding may ban."""
    vocabulary = Vocabulary(["a", "unk"])
    assert vocabulary.encode("<unk>") == [4, EOS]


def test_config_rebuilds_it():
    vocabulary = Vocabulary(["a", "dog"])
    assert Vocabulary(**vocabulary.get_config()).words == vocabulary.words


@pytest.mark.parametrize("words", [["a", "a"], ["a", "<eos>"]])
def test_words_that_cannot_be_told_apart(words):
    with pytest.raises(ValueError, match="Expected distinct words"):
        Vocabulary(words)


def test_no_words_left():
    with pytest.raises(ValueError, match="Lower min_count"):
        Vocabulary.from_captions(["a dog"], min_count=2)
    with pytest.raises(ValueError, match="word='cat'"):
        Vocabulary(["dog"]).id_of("cat")
