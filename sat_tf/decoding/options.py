"""What a user may ask of the decoder, checked where it enters."""

import dataclasses
import numbers
import typing
from collections.abc import Iterable

from sat_tf.decoding.locations import LOCATION_RULES
from sat_tf.decoding.words import DECODERS
from sat_tf.runtime.ranges import Count, Positive, Size, Weight, checked
from sat_tf.vocabulary import EOS

# What only the sample decoder takes, and how it is for the others.
SAMPLING = {"temperature": 1.0, "top_k": None, "top_p": None}

_KINDS = {
    "beam": Size,
    "max_length": Size,
    "min_length": Count,
    "length_penalty": Weight,
    "temperature": Positive,
    "top_k": typing.Annotated[int | None, "1 or more", lambda x: x is None or x >= 1],
    "top_p": typing.Annotated[
        float | None, "more than 0, at most 1", lambda x: x is None or 0 < x <= 1
    ],
    "allow_unknown": bool,
    "no_repeat_ngram": Count,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecodingOptions:
    """How captions are decoded. Hashable: one traced function per options.

    Attributes:
        decoder: a name in `DECODERS`.
        beam: beams per image; for the beam decoder. 1 is the greedy caption.
        attention: a name in `LOCATION_RULES`: where the model looks per word.
        max_length: a caption that has not ended after so many words is cut there.
        min_length: <eos> is not said before so many words.
        length_penalty: beams are ranked by `log_p / length ** length_penalty`, with
            <eos> counted in the length and what guides the search in `log_p`: 0 = total
            log-probability, which favours short captions, 1 = mean per word.
        rerank: how much each reranker counts, name -> strength; the beams that a search
            ends with are ranked by the sum of what these say, see `RERANKERS`. Empty:
            by the score that the search went by. One that `guides` guides the search
            itself as well, a greedy one too, whatever its strength, unless it is 0.
        temperature: the sample decoder draws from softmax(log_p / temperature).
        top_k: the sample decoder draws from the k most probable words only.
        top_p: ... from the fewest words whose probability mass reaches p only.
        banned: ids of words that are never said.
        allow_unknown: whether `<unk>` may be said.
        no_repeat_ngram: no sequence of so many words occurs twice; 0 = any may.
    """

    decoder: str = "greedy"
    beam: int = 3
    attention: str = "argmax"
    max_length: int = 20
    min_length: int = 0
    length_penalty: float = 0.0
    rerank: tuple[tuple[str, float], ...] = ()
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    banned: tuple[int, ...] = ()
    allow_unknown: bool = False
    no_repeat_ngram: int = 0

    @property
    def width(self):
        """Beams per image that the decoder returns (K)."""
        return self.beam if self.decoder == "beam" else 1

    @property
    def words(self):
        """How many words are said of an image at most, in all its beams."""
        return self.width * self.max_length

    @property
    def stochastic(self):
        """Whether words or locations are drawn at random."""
        rule = LOCATION_RULES[self.attention]
        return self.decoder == "sample" or getattr(rule, "draws", False)

    def told(self, names):
        """Its fields of these names, as they go into `compile` and into JSON."""
        fields = {name: getattr(self, name) for name in names}
        if "rerank" in fields:
            fields["rerank"] = dict(self.rerank)
        return fields

    def __post_init__(self):
        """Refuse values that no decoder could honour."""
        self._one_of("decoder", DECODERS)
        self._one_of("attention", LOCATION_RULES)
        for name, kind in _KINDS.items():
            object.__setattr__(self, name, checked(name, getattr(self, name), kind))
        object.__setattr__(self, "banned", self._ids())
        object.__setattr__(self, "rerank", self._strengths())
        if self.min_length > self.max_length:
            self._refuse("min_length", f"to be <= max_length={self.max_length}")
        for name, off in SAMPLING.items():
            if self.decoder != "sample" and getattr(self, name) != off:
                fix = "Set decoder='sample', which alone draws words."
                self._refuse(name, f"to be {off} for decoder={self.decoder!r}", fix)

    def _ids(self):
        listed = isinstance(self.banned, Iterable) and not isinstance(self.banned, str)
        ids = list(self.banned) if listed else [self.banned]
        whole = all(isinstance(i, numbers.Integral) and i is not True for i in ids)
        if not listed or not whole or EOS in ids or min(ids, default=0) < 0:
            expected = f"to be a list of ids of words, none negative nor <eos> ({EOS})"
            self._refuse("banned", expected)
        return tuple(map(int, ids))

    def _strengths(self):
        strengths = dict(self.rerank)
        for name, strength in strengths.items():
            real = isinstance(strength, numbers.Real) and not isinstance(strength, bool)
            if not (real and 0 <= strength < float("inf")):
                fix = f"Give {name} such a strength, or leave it out."
                self._refuse("rerank", "to have finite strengths >= 0", fix)
        return tuple(sorted((name, float(x)) for name, x in strengths.items()))

    def _one_of(self, name, known):
        value = getattr(self, name)
        if not (isinstance(value, str) and value in known):
            fix = "Choose one of them."
            self._refuse(name, f"to be one of {', '.join(known)}", fix)

    def _refuse(self, name, expected, fix="Change it."):
        raise ValueError(
            f"Expected {name} {expected}. "
            f"Received: {name}={getattr(self, name)!r}. {fix}"
        )
