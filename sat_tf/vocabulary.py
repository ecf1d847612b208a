"""Words and ids: the one place that says how a caption becomes words, and back."""

import collections
import itertools
import re
import reprlib
import unicodedata
from collections.abc import Collection, Iterable

from sat_tf.runtime.ranges import check

PAD, EOS, UNK = 0, 1, 2
SPECIAL = ("<pad>", "<eos>", "<unk>")


def _marks():
    """The combining marks, as the inside of a regular expression's brackets.

    `re` has no name for them, and leaves them out of its words.
    """
    kinds = ("Mn", "Mc")
    codes = (i for i in range(0x300, 0x1F000) if unicodedata.category(chr(i)) in kinds)
    runs = itertools.groupby(enumerate(codes), lambda pair: pair[1] - pair[0])
    runs = ([code for _, code in run] for _, run in runs)
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


# Thai and Lao AM is a letter to Unicode, but written on the letter before it.
_AM = "\u0e33\u0eb3"
_MARK = _AM + _marks()
# Scripts that put no spaces between words: Thai, Lao; Burmese; Khmer; Tai Le, New Tai
# Lue; Tai Tham; Balinese; Javanese; more Burmese, Tai Viet; Japanese kana, Bopomofo;
# Chinese characters.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u1b00-\u1b7f"
    "\ua980-\ua9ff\uaa60-\uaadf\u3005-\u3007\u3021-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_CHARACTER = re.compile(f"[{_UNSPACED}][{_MARK}]*")
_LETTERS = rf"[^\W{_AM}][\w{_MARK}]*"
# What stands inside a word: a hyphen; joiners, as in Persian; Catalan's middle dot; and
# the apostrophe and its kin between letters that are not Latin (Ukrainian, Hebrew).
_OTHER = r"[^\W\d_\0-\u036f\u1d00-\u1eff\u2070-\u2bff]"
_INSIDE = (
    rf"(?:-|[\u200c\u200d]+|\u00b7(?<=l\u00b7)(?=l)|[\u05f3\u05f4]"
    rf"|'(?:(?<={_OTHER}')|(?<=[{_MARK}]'))(?={_OTHER})"
    r"|\"(?<=[\u05d0-\u05ea]\")(?=[\u05d0-\u05ea]))"
)
# What French, Italian and Catalan say before a vowel: "l'homme" is "l'" and "homme".
_VOWEL = re.compile("[aeiouhyàáâäæèéêëìíîïòóôöœùúûü]")
_ELIDED = (
    rf"(?<!\w)(?:n'(?={_VOWEL.pattern})|(?:[cdjlmstv]|(?:jus|lors|pres|puis|quel|quoi)?qu"
    r"|aujourd|grand|mezz|un|all|bell|coll|dall|dell|nell|quell|sull|anch|dov|quest|sant"
    rf"|tutt)'(?= ?{_VOWEL.pattern}))"
)
# English: "man's" and Flickr's pre-split "man 's" give the same two words.
_WORD = re.compile(
    rf"{_ELIDED}|'{_LETTERS}"
    rf"|{_LETTERS}(?:{_INSIDE}{_LETTERS})*(?:\u200d(?<=[{_MARK}]\u200d))?"
)
# All that is left of it where there are ASCII characters only, and no apostrophe.
_PLAIN = re.compile(r"\w+(?:-\w+)*", re.ASCII)
# Invisible, and no part of any word: soft hyphens, directions, variants of a glyph.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\U000e0100-\U000e01ef]"
)
_DOTTED = re.compile("i\u0307+")  # what Python makes of the Turkish capital
# Letters of full width and kana of half width are the ordinary ones.
_ALIKE = {i: unicodedata.normalize("NFKC", chr(i)) for i in range(0xFF01, 0xFFEF)}
_ALIKE |= {0x2019: "'"}


def tokenise(caption):
    """Words of a caption: lower case, punctuation dropped, clitics split off.

    Training, decoding and scoring all use this convention, which is not told what
    language it reads.

    Marks (vowel signs, points, accents) belong to their letter, and a letter is the
    same composed or decomposed (Unicode's NFC). In scripts without spaces between
    words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) every character is a word,
    with the marks on it. At an apostrophe words are split as in English ("man" and
    "'s"), before a vowel as in French ("l'" and "homme"); those of other alphabets
    stay whole. The Turkish dotted capital I becomes i, as the plain one does.
    """
    if caption.isascii() and "'" not in caption:  # in a fraction of the time
        return _PLAIN.findall(caption.lower())
    caption = _INVISIBLE.sub("", caption.translate(_ALIKE))
    caption = unicodedata.normalize("NFC", caption).lower()
    caption = unicodedata.normalize("NFC", _DOTTED.sub("i", caption))
    return _WORD.findall(_CHARACTER.sub(r" \g<0> ", caption))


def detokenise(words):
    """A caption as it is written, in which `tokenise` finds the same words again.

    Between words stands a space; not so where `seams` says that they meet.
    """
    text, after = "", 0
    for word in words:
        before, next_after = seams(word)
        text += word if before == after != 0 or not text else f" {word}"
        after = next_after
    return text


def seams(word):
    """How a word begins and ends: two words meet where end and beginning are alike.

    0 meets nothing; 1 is a character of a script without spaces; with 2 ends what is
    elided ("l'"), and begins what starts with a vowel.
    """
    if _CHARACTER.match(word):
        return 1, 1
    return 2 * bool(_VOWEL.match(word)), 2 * word.endswith("'")


def _texts(captions):
    """The texts in lists of lists of them."""
    if not isinstance(captions, Iterable) or isinstance(captions, str | bytes):
        raise ValueError(
            "Expected a list of captions, each a string. Received: "
            f"{reprlib.repr(captions)}. Put it into a list, or leave it out."
        )
    for caption in captions:
        if isinstance(caption, str):
            yield caption
        else:
            yield from _texts(caption)


class Vocabulary:
    """A fixed list of words; ids 0, 1, 2 are `<pad>`, `<eos>`, `<unk>`.

    Args:
        words: the words, most frequent first, without the special ones.
    """

    def __init__(self, words):
        listed = isinstance(words, Collection) and not isinstance(words, str)
        if not listed or not all(isinstance(word, str) for word in words):
            raise ValueError(
                "Expected a list of words, each a string. "
                f"Received: words={reprlib.repr(words)}. From captions, "
                "Vocabulary.from_captions makes one."
            )
        clash = sorted(set(words) & set(SPECIAL))
        if clash or len(set(words)) != len(words):
            raise ValueError(
                "Expected distinct words, none of them special. "
                f"Received: special={clash}, words={len(words)}, "
                f"distinct={len(set(words))}. Remove the duplicates."
            )
        self.words = SPECIAL + tuple(words)
        self._ids = {word: i for i, word in enumerate(self.words)}

    @classmethod
    def from_captions(cls, captions, max_size=10_000, min_count=1):
        """The most frequent words that occur `min_count` times.

        Args:
            captions: texts, or lists of texts, such as the captions of each image.
            max_size: entries at most, `SPECIAL` among them.
            min_count: how often a word must occur.

        Raises:
            ValueError: a caption is no text, there is no such word, or no room for any.
        """
        check(int, max_size=max_size, min_count=min_count)
        counts = collections.Counter(w for c in _texts(captions) for w in tokenise(c))
        return cls.from_counts(counts, max_size, min_count)

    @classmethod
    def from_counts(cls, counts, max_size=10_000, min_count=1):
        """As `from_captions`, from how often each word occurs: word -> number."""
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        words = [word for word, count in ranked if count >= min_count]
        if not words:
            raise ValueError(
                f"Expected captions with words seen {min_count} times or more. "
                "Received: none. Lower min_count or check the captions."
            )
        if max_size <= len(SPECIAL):
            raise ValueError(
                f"Expected room for words beside {', '.join(SPECIAL)}: a vocabulary of "
                f"{len(SPECIAL) + 1} or more. Received: one of {max_size}. Allow more."
            )
        return cls(words[: max_size - len(SPECIAL)])

    def __len__(self):
        return len(self.words)

    def encode(self, caption):
        """Ids of a caption's words, closed by `<eos>`."""
        return [*self.ids(tokenise(caption)), EOS]

    def ids(self, words):
        """Ids of words, a list; `UNK` where one is unknown."""
        return [self._ids.get(word, UNK) for word in words]

    def id_of(self, word):
        """Id of a word that must be known."""
        if word not in self._ids:
            raise ValueError(
                f"Expected one of the {len(self)} words of the vocabulary. "
                f"Received: word={word!r}. Leave it out, or check its spelling."
            )
        return self._ids[word]

    def decode(self, ids):
        """The caption that `ids` spell, up to the first `<eos>` or `<pad>`."""
        return detokenise(self.to_words(ids))

    def to_words(self, ids):
        """The words that `ids` spell, up to the first `<eos>` or `<pad>`."""
        words = []
        for i in ids:
            if int(i) in (PAD, EOS):
                break
            words.append(self.words[int(i)])
        return words

    def get_config(self):
        """Arguments that rebuild this vocabulary."""
        return {"words": list(self.words[len(SPECIAL) :])}
