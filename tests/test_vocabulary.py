"""Words and ids: the convention that training, decoding and scoring share."""

import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sat_tf.vocabulary import (
    EOS,
    PAD,
    SPECIAL,
    UNK,
    Vocabulary,
    detokenise,
    tokenise,
)


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


WRITTEN = {  # as a person writes it: the words, and how they are printed
    "Hindi": ("लाल गोला दीवार के सामने है।", "लाल गोला दीवार के सामने है", None),
    "Bengali": ("একটি লাল বল।", "একটি লাল বল", None),
    "Tamil": ("சிவப்பு பந்து", "சிவப்பு பந்து", None),
    "Malayalam, old style": ("അവന്\u200d വരുന്നു", "അവന്\u200d വരുന്നു", None),
    "Arabic with vowels": ("وَلَدٌ يَلْعَبُ،", "وَلَدٌ يَلْعَبُ", None),
    "Persian": (
        "می\u200cخواهم، کتاب\u200cها\u200c",
        "می\u200cخواهم کتاب\u200cها",
        None,
    ),
    "Hebrew with points": ("שָׁלוֹם, יֶלֶד", "שָׁלוֹם יֶלֶד", None),
    "Hebrew": ("חייל צה\"ל וג'ירפה", "חייל צה\"ל וג'ירפה", None),
    "Ukrainian": ("Об’єкт і м'яч", "об'єкт і м'яч", None),
    "German": ("Gäste und SPAẞ", "gäste und spaß", None),
    "soft hyphen": ("Donau\u00addampf", "donaudampf", None),
    "French": ("L’homme qu'il voit", "l' homme qu' il voit", "l'homme qu'il voit"),
    "Italian": ("c'è dell'acqua", "c' è dell' acqua", "c'è dell'acqua"),
    "Catalan": ("col·lecció d'art", "col·lecció d' art", "col·lecció d'art"),
    "Turkish": ("İki çocuk", "iki çocuk", None),
    "Greek": ("ΣΚΥΛΟΣ τρέχει", "σκυλος τρέχει", None),
    "Korean": ("빨간 공을 가진 개.", "빨간 공을 가진 개", None),
    "full width": ("Ｔｗｏ　Ｄｏｇｓ！", "two dogs", None),
    "Chinese": ("3只狗，在跑。", "3 只 狗 在 跑", "3 只狗在跑"),
    "Japanese": (
        "赤いﾎﾞｰﾙ。Tシャツ",
        "赤 い ボ ー ル t シ ャ ツ",
        "赤いボール t シャツ",
    ),
    "Thai": ("น้ำ สีแดง", "น้ำ สี แ ด ง", "น้ำสีแดง"),
    "Khmer": ("ស្ត្រី", "ស្ ត្ រី", "ស្ត្រី"),
    "Burmese": ("မြန်မာ။", "မြ န် မာ", "မြန်မာ"),
    "Lao": ("ໝາແລ່ນ", "ໝ າ ແ ລ່ ນ", "ໝາແລ່ນ"),
    "emoji": ("A dog ❤️ 👩‍👧 1️⃣", "a dog 1", None),
}


@pytest.mark.parametrize("language", WRITTEN)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_marks_belong_to_words_and_every_script_has_words(language, form):
    caption, words, printed = WRITTEN[language]
    found = tokenise(unicodedata.normalize(form, caption))
    assert found == words.split(" ")
    assert detokenise(found) == (printed or words)
    assert Vocabulary(sorted(set(found))).encode(caption)[-1] == EOS
    known = Vocabulary.from_captions([caption])
    assert known.decode(known.encode(caption)) == (printed or words)


@pytest.mark.parametrize(
    "caption",
    [
        "The boys' dogs don't play rock n' roll at five o'clock.",
        "y'all, a 'quoted' T-shirt; she'll go, they've 2½ -- o n' a",
        "A café's naïve owner (aged 40) at the 1950's x-ray_room",
    ],
)
def test_english_is_as_it_was(caption):
    old = re.findall(r"'\w+|\w+(?:-\w+)*", caption.lower().replace("’", "'"))
    assert tokenise(caption) == old
    assert detokenise(old) == " ".join(old)


TRICKY = (
    "लाीिं्\u200d\u200cกำน้แ๑李ボー゙゚ﾎﾞស្ត\u17d2မ\u1039ാന്їґ’'ʼ\"אָ״ul'hdn'quç·İIi̇ıſßΣσςé\u0308\u0323"
    "\u034f\u00ad\ufe0f\u20e3-_1½Ａ한각 "
)


@settings(deadline=None)
@given(st.one_of(st.text(), st.text(TRICKY)))
def test_words_of_what_is_printed_are_the_same(caption):
    """So that scores of printed captions are scores of what was said."""
    words = tokenise(caption)
    assert tokenise(detokenise(words)) == words
    if "n'" not in words:  # which would take English "rock n' all" for French
        assert tokenise(" ".join(words)) == words
    assert all(unicodedata.is_normalized("NFC", word) for word in words)


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


@pytest.mark.parametrize("size", [-1, 0, 1, 2, 3])
def test_no_room_for_words(size):
    with pytest.raises(ValueError, match=f"of 4 or more. Received: one of {size}"):
        Vocabulary.from_captions(["a dog runs"], max_size=size)
    assert len(Vocabulary.from_captions(["a dog runs"], max_size=4)) == 4


def test_captions_may_come_by_image():
    of_images = [["a dog", "the dog"], ("a cat",)]
    assert Vocabulary.from_captions(of_images).words == (
        *SPECIAL,
        *"a dog cat the".split(),
    )


@pytest.mark.parametrize("wrong", ["a dog", b"a dog", [None], [b"a dog"], [1.5], None])
def test_what_is_no_list_of_texts_is_refused(wrong):
    with pytest.raises(ValueError, match="Expected a list of captions, each a string"):
        Vocabulary.from_captions(wrong)


@pytest.mark.parametrize("options", [{"max_size": "5"}, {"min_count": 1.5}])
def test_sizes_are_whole_numbers(options):
    with pytest.raises(ValueError, match="to be a whole number"):
        Vocabulary.from_captions(["a dog"], **options)
