"""`vocabulary.tokenise` of captions that reach a server, as stock operations.

It reads Unicode's NFC, as keyboards write it, and does not compose: letters with their
accents apart, and voiced kana of half width, are other words than those of `tokenise`.
"""

import unicodedata

import tensorflow as tf

from sat_tf.vocabulary import PAD, UNK

MAX_WORDS = 64
"""Of a caption that a server explains; its memory grows with them."""

_WIDE = range(0xFF01, 0xFFEF)  # letters of full width and kana of half width
_NARROW = [ord(unicodedata.normalize("NFKC", chr(i))[0]) for i in _WIDE]
# Capitals of Unicode 14 and later: TensorFlow 2.21 lower-cases those of Unicode 13.
_CAPITALS = [
    *(0x2C2F, 0xA7C0, 0xA7CB, 0xA7CC, 0xA7D0, 0xA7D6, 0xA7D8, 0xA7DA, 0xA7DC),
    *range(0x10570, 0x10596),
    *range(0x10D50, 0x10D66),
]
_SMALL = [ord(chr(i).lower()) for i in _CAPITALS]

_AM = r"\x{0e33}\x{0eb3}"
_MARK = rf"[\p{{Mn}}\p{{Mc}}{_AM}]"
_LETTERS = r"[\p{L}\p{N}_][\p{L}\p{N}_\p{Mn}\p{Mc}]*"
_OTHER = r"[^\P{L}\x{00}-\x{036f}\x{1d00}-\x{1eff}\x{2070}-\x{2bff}]"
_HEBREW = r"[\x{05d0}-\x{05ea}]"
_VOWEL = "[aeiouhyàáâäæèéêëìíîïòóôöœùúûü]"
_UNSPACED = (
    r"[\x{0e00}-\x{0eff}\x{1000}-\x{109f}\x{1780}-\x{17ff}\x{1950}-\x{19df}"
    r"\x{1a20}-\x{1aaf}\x{1b00}-\x{1b7f}\x{a980}-\x{a9ff}\x{aa60}-\x{aadf}"
    r"\x{3005}-\x{3007}\x{3021}-\x{312f}\x{31a0}-\x{31bf}\x{31f0}-\x{31ff}"
    r"\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{1aff0}-\x{1b16f}"
    r"\x{20000}-\x{3ffff}]"
)
_INVISIBLE = (
    r"[\x{00ad}\x{034f}\x{061c}\x{200e}\x{200f}\x{202a}-\x{202e}"
    r"\x{2060}-\x{206f}\x{fe00}-\x{fe0f}\x{feff}\x{e0100}-\x{e01ef}]"
)
# TensorFlow's regular expressions know neither what comes before nor what comes after.
# So what depends on it is marked first, by characters that no caption has: apostrophes
# before a vowel and before a space and a vowel; what stands inside a word; a joiner
# that may end one.
_BEFORE_VOWEL, _BEFORE_SPACE = "\x01", "\x02"
_DOT, _INNER, _QUOTE, _JOINER = "\x03", "\x04", "\x05", "\x06"
_ELIDED = (
    rf"n'{_BEFORE_VOWEL}|(?:[cdjlmstv]|(?:jus|lors|pres|puis|quel|quoi)?qu"
    r"|aujourd|grand|mezz|un|all|bell|coll|dall|dell|nell|quell|sull|anch|dov|quest|sant"
    rf"|tutt)'[{_BEFORE_VOWEL}{_BEFORE_SPACE}]"
)
_INSIDE = (
    rf"(?:-|[\x{{200c}}\x{{200d}}{_JOINER}]+"
    rf"|[\x{{05f3}}\x{{05f4}}{_DOT}{_INNER}{_QUOTE}])"
)
_WORD = (
    rf"{_ELIDED}|['{_INNER}]{_BEFORE_VOWEL}?{_LETTERS}"
    rf"|{_LETTERS}(?:{_INSIDE}{_LETTERS})*{_JOINER}?"
)
# In this order: a pattern, and what takes its place. What begins where another ends is
# only found the second time.
_RULES = (
    (r"i\x{0307}+", "i"),
    (rf"({_UNSPACED}){_MARK}*", r" \0 "),
    (rf"(^|\s){_MARK}+", r"\1"),
    (rf"'({_VOWEL})", rf"'{_BEFORE_VOWEL}\1"),
    (rf"' ({_VOWEL})", rf"'{_BEFORE_SPACE} \1"),
    *[(r"l\x{00b7}l", f"l{_DOT}l")] * 2,
    *[(rf"({_OTHER}|{_MARK})'({_OTHER})", rf"\1{_INNER}\2")] * 2,
    *[(rf'({_HEBREW})"({_HEBREW})', rf"\1{_QUOTE}\2")] * 2,
    (rf"({_MARK})\x{{200d}}", rf"\1{_JOINER}"),
    (rf"({_WORD})|(?s:.)", r"\1 "),
    (f"[{_BEFORE_VOWEL}{_BEFORE_SPACE}]", ""),
    (_DOT, "\u00b7"),
    (_INNER, "'"),
    (_QUOTE, '"'),
    (_JOINER, "\u200d"),
)


def split(captions):
    """Words of captions, string `[B]`: a ragged string tensor `[B, (T)]`."""
    letters = tf.strings.unicode_decode(
        captions, "UTF-8", replace_control_characters=True
    )
    text = tf.strings.unicode_encode(letters.with_flat_values(_plain(letters)), "UTF-8")
    text = tf.strings.regex_replace(text, _INVISIBLE, "")
    text = tf.strings.lower(text, encoding="utf-8")
    for pattern, replacement in _RULES:
        text = tf.strings.regex_replace(text, pattern, replacement)
    return tf.strings.split(text)


def _plain(letters):
    """Code points, those of another width and the apostrophe as most people write.

    Capitals that `tf.strings.lower` does not know are small letters.
    """
    codes = letters.flat_values
    capital = codes[:, None] == tf.constant(_CAPITALS)
    small = tf.gather(_SMALL, tf.argmax(tf.cast(capital, tf.int32), axis=-1))
    codes = tf.where(tf.reduce_any(capital, axis=-1), small, codes)
    wide = (codes >= _WIDE.start) & (codes < _WIDE.stop)
    plain = tf.gather(_NARROW, tf.where(wide, codes - _WIDE.start, 0))
    return tf.where(wide, plain, tf.where(codes == 0x2019, ord("'"), codes))


def ids(captions, words):
    """Token ids of captions; `<pad>` after the last.

    Args:
        captions: string `[B]`, as people write them.
        words: the vocabulary's, those that no caption can have as `""`.

    Returns:
        the ids int32 `[B, T]` of the first `MAX_WORDS` words; those words, string
        `[B, T]`, `""` after the last; and int `[B]`, how many there were.
    """
    # A thousand pages of it would take minutes.
    found = split(tf.strings.substr(captions, 0, 64 * MAX_WORDS))
    number = found.row_lengths()
    # A caption without words has one that is none: loops do not like to be empty.
    length = tf.clip_by_value(tf.reduce_max(number), 1, MAX_WORDS)
    said = found.to_tensor("", shape=[None, None])[:, :length]
    said = tf.pad(
        said, [[0, 0], [0, length - tf.cast(tf.shape(said)[1], length.dtype)]]
    )
    # A look-up table would be a resource that servers have to initialise.
    same = said[..., None] == tf.constant(words)
    index = tf.argmax(tf.cast(same, tf.int32), axis=-1, output_type=tf.int32)
    index = tf.where(tf.reduce_any(same, axis=-1), index, UNK)
    return tf.where(said == "", PAD, index), said, number
