"""`vocabulary.tokenise` of captions that reach a server, as stock operations.

TensorFlow's regular expressions know neither what comes before nor what comes after, so
this is `tokenise` for text in Unicode's NFC, as keyboards write it. What it leaves out
are the rare seams: Hebrew's and Ukrainian's apostrophes, Catalan's middle dot.
"""

import tensorflow as tf

from sat_tf.vocabulary import PAD, UNK

_LETTER = r"[\p{L}\p{M}\p{N}_\x{200c}\x{200d}]"
_UNSPACED = (
    r"[\x{0e00}-\x{0eff}\x{1000}-\x{109f}\x{1780}-\x{17ff}\x{1950}-\x{19df}"
    r"\x{1a20}-\x{1aaf}\x{1b00}-\x{1b7f}\x{a980}-\x{a9ff}\x{aa60}-\x{aadf}"
    r"\x{3005}-\x{3007}\x{3021}-\x{312f}\x{31a0}-\x{31bf}\x{31f0}-\x{31ff}"
    r"\x{3400}-\x{4dbf}\x{4e00}-\x{9fff}\x{f900}-\x{faff}\x{1aff0}-\x{1b16f}"
    r"\x{20000}-\x{3ffff}]\p{M}*"
)
_INVISIBLE = (
    r"[\x{00ad}\x{034f}\x{061c}\x{200e}\x{200f}\x{202a}-\x{202e}"
    r"\x{2060}-\x{206f}\x{fe00}-\x{fe0f}\x{feff}]"
)
_ELIDED = (
    r"(^|[^\p{L}\p{M}\p{N}_])([cdjlmnst]|qu|jusqu|lorsqu|puisqu|quoiqu|aujourd|un"
    r"|dell|all|nell|sull|dall|bell|quell)'([aeiouhyàâäæèéêëìíîïòóôöœùúû])"
)
_HELD = "\x01"  # an apostrophe that belongs to a word
# In this order: a pattern, and what takes its place.
_RULES = (
    ("\u2019", "'"),
    (_INVISIBLE, ""),
    (_UNSPACED, r" \0 "),
    (_ELIDED, rf"\1\2{_HELD} \3"),
    (rf"'({_LETTER}+)-*", rf" {_HELD}\1 "),
    (rf"[^\p{{L}}\p{{M}}\p{{N}}_\x{{200c}}\x{{200d}}{_HELD}-]+", " "),
    (r"(^|\s)-+|-+(\s|$)|--+", " "),
    (_HELD, "'"),
)


def ids(captions, words):
    """Token ids int32 `[B, T]` of captions, string `[B]`; `<pad>` after the last.

    Args:
        captions: as people write them.
        words: the vocabulary's, those that no caption can have as `""`.

    Returns:
        the ids, and the words string `[B, T]`, `""` after the last.
    """
    text = tf.strings.lower(captions, encoding="utf-8")
    for pattern, replacement in _RULES:
        text = tf.strings.regex_replace(text, pattern, replacement)
    split = tf.strings.split(text).to_tensor("")
    # A caption without words has one that is none: loops do not like to be empty.
    short = tf.cast(tf.shape(split)[1] == 0, tf.int32)
    split = tf.pad(split, [[0, 0], [0, short]], constant_values="")
    # A look-up table would be a resource that servers have to initialise.
    same = split[..., None] == tf.constant(words)
    found = tf.argmax(tf.cast(same, tf.int32), axis=-1, output_type=tf.int32)
    found = tf.where(tf.reduce_any(same, axis=-1), found, UNK)
    return tf.where(split == "", PAD, found), split
