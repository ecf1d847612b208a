"""Captions and names of very many images: sequences over arrays, made when asked for.

A string in Python takes a hundred bytes beside its own, and a list of lists as much.
Here all of them lie end to end in one array of bytes, and others say where each starts.
"""

import collections
import collections.abc
import hashlib
import itertools

import numpy as np

from sat_tf.datasets.arrays import Growing, blocks
from sat_tf.datasets.regions import NONE
from sat_tf.vocabulary import tokenise

_BLOCK = 1024


class Rows(collections.abc.Sequence):
    """Rows that are made when they are asked for.

    It is equal to any sequence of equal rows.

    Args:
        starts: int `[N + 1]`, where each row starts in what they are made of, and the
            end of the last one.
    """

    def __init__(self, starts):
        self.starts = starts

    def rows(self, start, stop):
        """The rows from number `start` to before `stop`, a list."""
        raise NotImplementedError

    def __len__(self):
        return len(self.starts) - 1

    def __getitem__(self, index):
        chosen = range(len(self))[index]
        if isinstance(chosen, int):
            return self.rows(chosen, chosen + 1)[0]
        if chosen.step == 1:
            return tuple(self.rows(chosen.start, max(chosen.start, chosen.stop)))
        return tuple(self[i] for i in chosen)

    def __iter__(self):
        for start, stop in blocks(len(self), _BLOCK):
            yield from self.rows(start, stop)

    def __eq__(self, other):
        if not isinstance(other, collections.abc.Sequence):
            return NotImplemented
        same = (a == b for a, b in zip(self, other, strict=True))
        return len(self) == len(other) and all(same)

    __hash__ = None

    def __repr__(self):
        shown = ", ".join(map(repr, self[:3]))
        return f"<{len(self)}: {shown}{', ...' if len(self) > 3 else ''}>"


class Texts(Rows):
    """Strings.

    Args:
        characters: uint8, all of them in UTF-8.
        starts: see `Rows`.
    """

    def __init__(self, characters, starts):
        super().__init__(starts)
        self.characters = characters

    @classmethod
    def of(cls, texts):
        """Those of any sequence of strings."""
        if isinstance(texts, cls):
            return texts
        arrays = Growing()
        append_texts(arrays, "characters", "starts", [text.encode() for text in texts])
        return cls(arrays.read("characters"), arrays.read("starts"))

    def rows(self, start, stop):
        """See `Rows`."""
        starts = self.starts[start : stop + 1]
        text = self.characters[starts[0] : starts[-1]].tobytes()
        cuts = itertools.pairwise((starts - starts[0]).tolist())
        return [text[a:b].decode() for a, b in cuts]


class Groups(Rows):
    """Tuples of rows.

    Args:
        values: `Rows`, those of the first group first.
        starts: see `Rows`.
    """

    def __init__(self, values, starts):
        super().__init__(starts)
        self.values = values

    def rows(self, start, stop):
        """See `Rows`."""
        starts = self.starts[start : stop + 1].tolist()
        values = self.values.rows(starts[0], starts[-1])
        cuts = itertools.pairwise(at - starts[0] for at in starts)
        return [tuple(values[a:b]) for a, b in cuts]


class Boxes(Rows):
    """Float32 arrays `[n, 4]`, those of each word.

    Args:
        boxes: float32 `[M, 4]`, all of them.
        starts: see `Rows`.
    """

    def __init__(self, boxes, starts):
        super().__init__(starts)
        self._boxes = boxes

    def rows(self, start, stop):
        """See `Rows`. Most words have none: they share one array."""
        cuts = itertools.pairwise(self.starts[start : stop + 1].tolist())
        return [self._boxes[a:b] if b > a else NONE for a, b in cuts]


class WordsBoxes(Groups):
    """Per caption the boxes of its words; None where there are no words."""

    def rows(self, start, stop):
        """See `Rows`."""
        return [row or None for row in super().rows(start, stop)]


class Captions(Groups):
    """Per image, its captions as written; and the words of all of them as numbers.

    What a vocabulary makes of them follows from the numbers at once, however many
    captions there are: each is read in Python once, when they are put together.

    Args:
        arrays: name -> array, of the captions and of what `append_words` made of them.

    Attributes:
        digests: uint64 `[N]`, a hash of the captions of each image.
        words: distinct words, a list in the order in which they come first.
        numbers: uint32, which one each word of each caption is, one after the other.
        number_starts: int `[captions + 1]`, where each caption starts in `numbers`.
        counts: int `[len(words)]`, how often each is said.
    """

    def __init__(self, arrays):
        texts = Texts(arrays["captions"], arrays["caption_starts"])
        super().__init__(texts, arrays["image_starts"])
        self.digests = arrays["digests"]
        self.numbers, self.number_starts = arrays["numbers"], arrays["number_starts"]
        self.words = list(Texts(arrays["words"], arrays["word_starts"]))
        self.counts = arrays["word_counts"]

    @classmethod
    def of(cls, captions):
        """Those of any sequence that has, per image, its captions."""
        if isinstance(captions, cls):
            return captions
        arrays, said = Growing(), [text.encode() for row in captions for text in row]
        append_texts(arrays, "captions", "caption_starts", said)
        arrays.append_rows("image_starts", [len(row) for row in captions])
        append_words(arrays)
        return cls({name: arrays.read(name) for name in arrays.kinds})

    def word_counts(self):
        """How often each word is said: word -> number."""
        return dict(zip(self.words, self.counts.tolist(), strict=True))

    def images(self):
        """Int32 `[captions]`, which image each is of."""
        images = np.arange(len(self), dtype=np.int32)
        return np.repeat(images, np.diff(self.starts))


def append_texts(arrays, name, starts, texts):
    """Appends strings in UTF-8 to the arrays `name` and `starts` of a `Growing`."""
    arrays.append(name, np.frombuffer(b"".join(texts), np.uint8))
    arrays.append_rows(starts, [len(text) for text in texts])


def append_words(arrays, digest=None):
    """Appends what `Captions` knows of the captions that a `Growing` has.

    Args:
        arrays: a `Growing` with `captions`, `caption_starts` and `image_starts`.
        digest: of `hashlib`, updated with the captions as Python shows their list.
    """
    digest = digest or hashlib.sha256()
    texts = Texts(arrays.read("captions"), arrays.read("caption_starts"))
    captions = Groups(texts, arrays.read("image_starts"))
    words, counts = collections.defaultdict(), np.zeros(0, np.int64)
    words.default_factory = words.__len__
    arrays.append("digests", np.zeros(0, np.uint64))
    arrays.append("numbers", np.zeros(0, np.uint32))
    arrays.append_rows("number_starts", [])
    digest.update(b"[")
    for start, stop in blocks(len(captions), _BLOCK):
        rows = captions.rows(start, stop)
        shown = [repr(row).encode() for row in rows]
        digest.update(b", " * bool(start) + b", ".join(shown))
        hashes = b"".join(hashlib.sha256(each).digest()[:8] for each in shown)
        arrays.append("digests", np.frombuffer(hashes, ">u8").astype(np.uint64))
        said = [tokenise(text) for row in rows for text in row]
        lengths = [len(each) for each in said]
        number = map(words.__getitem__, itertools.chain.from_iterable(said))
        numbers = np.fromiter(number, np.uint32, sum(lengths))
        arrays.append("numbers", numbers)
        arrays.append_rows("number_starts", lengths)
        counted = np.bincount(numbers, minlength=len(words))
        counted[: len(counts)] += counts
        counts = counted
    digest.update(b"]")
    arrays.append("word_counts", counts)
    append_texts(arrays, "words", "word_starts", [word.encode() for word in words])
