"""Words and ids: the one place that says how a caption becomes words."""

import collections
import re

PAD, EOS, UNK = 0, 1, 2
SPECIAL = ("<pad>", "<eos>", "<unk>")

# "man's" and Flickr's pre-split "man 's" give the same two words; hyphens stay.
_WORD = re.compile(r"'\w+|\w+(?:-\w+)*")


def tokenise(caption):
    """Words of a caption: lower case, punctuation dropped, clitics split off.

    Training, decoding and scoring all use this convention.
    """
    return _WORD.findall(caption.lower().replace("’", "'"))


class Vocabulary:
    """A fixed list of words; ids 0, 1, 2 are `<pad>`, `<eos>`, `<unk>`.

    Args:
        words: the words, most frequent first, without the special ones.
    """

    def __init__(self, words):
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
        """The `max_size` most frequent words that occur `min_count` times."""
        counts = collections.Counter(w for c in captions for w in tokenise(c))
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        words = [word for word, count in ranked if count >= min_count]
        if not words:
            raise ValueError(
                f"Expected captions with words seen {min_count} times or more. "
                "Received: none. Lower min_count or check the captions."
            )
        return cls(words[: max_size - len(SPECIAL)])

    def __len__(self):
        return len(self.words)

    def encode(self, caption):
        """Ids of a caption's words, closed by `<eos>`."""
        return [self._ids.get(word, UNK) for word in tokenise(caption)] + [EOS]

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
        return " ".join(self.to_words(ids))

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
