"""What a user may ask of the decoder, checked where it enters."""

import dataclasses
import numbers

from sat_tf.decoding.locations import LOCATION_RULES
from sat_tf.decoding.words import DECODERS
from sat_tf.vocabulary import EOS


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
            <eos> counted in the length: 0 = total log-probability, which favours
            short captions, 1 = mean per word.
        rerank: how much each reranker counts, name -> strength; the beams that a search
            ends with are ranked by the sum of what these say, see `RERANKERS`. Empty:
            by the score that the search went by. One that `guides` guides the search
            itself as well, a greedy one too, whatever its strength.
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

    def __post_init__(self):
        """Refuse values that no decoder could honour."""
        object.__setattr__(self, "banned", tuple(map(int, self.banned)))
        object.__setattr__(self, "rerank", self._strengths())
        self._one_of("decoder", DECODERS)
        self._one_of("attention", LOCATION_RULES)
        self._whole("beam", 1)
        self._whole("max_length", 1)
        self._whole("min_length", 0)
        self._whole("no_repeat_ngram", 0)
        if self.min_length > self.max_length:
            self._refuse("min_length", f"<= max_length={self.max_length}")
        if self.top_k is not None:
            self._whole("top_k", 1)
        if not self.length_penalty >= 0:
            self._refuse("length_penalty", ">= 0")
        if not self.temperature > 0:
            self._refuse("temperature", "> 0", "For the most probable word: greedy.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            self._refuse("top_p", "in (0, 1]")
        if EOS in self.banned or min(self.banned, default=0) < 0:
            self._refuse("banned", f"without <eos> ({EOS}) and negative ids")
        for name, off in (("temperature", 1.0), ("top_k", None), ("top_p", None)):
            if self.decoder != "sample" and getattr(self, name) != off:
                fix = "Set decoder='sample', which alone draws words."
                self._refuse(name, f"{off} for decoder={self.decoder!r}", fix)

    def _strengths(self):
        strengths = dict(self.rerank)
        for name, strength in strengths.items():
            real = isinstance(strength, numbers.Real) and not isinstance(strength, bool)
            if not (real and 0 <= strength < float("inf")):
                fix = f"Give {name} such a strength, or leave it out."
                self._refuse("rerank", "of numbers that are finite and >= 0", fix)
        return tuple(sorted((name, float(x)) for name, x in strengths.items()))

    def _one_of(self, name, known):
        if getattr(self, name) not in known:
            self._refuse(name, f"one of {sorted(known)}")

    def _whole(self, name, least):
        value = getattr(self, name)
        if not (isinstance(value, numbers.Integral) and value >= least):
            self._refuse(name, f"a whole number >= {least}")

    def _refuse(self, name, expected, fix="Change it."):
        raise ValueError(
            f"Expected {name} {expected}. "
            f"Received: {name}={getattr(self, name)!r}. {fix}"
        )
