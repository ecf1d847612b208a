"""The language of `scenes`: writing captions, parsing them, judging them.

A caption names one to three objects and may say how they lie to each other:

    caption  = [opener] phrases | phrase ["is"] relation phrase ["and" relation phrase]
    phrases  = phrase | phrase "and" phrase | phrase phrase "and" phrase
    phrase   = "a" [size] colour shape
    opener   = "there is" | "we see" | "an image of"
    relation = ["to the" | "on the"] ("left" | "right") "of" | "above" | "below"

An opener may also precede a relation (then without "is"). A second relation has the
first phrase as its subject. Sizes, colours and shapes are the content words: each
speaks of one object. A caption is true if distinct objects exist that fit it.
"""

import itertools
import re
from typing import NamedTuple

from sat_tf.vocabulary import tokenise

SIZES = ("small", "large")
COLOURS = ("white", "yellow", "green", "red", "purple", "blue")  # from light to dark
SHAPES = ("ring", "square", "triangle", "cross")
RELATIONS = ("left", "right", "above", "below")
CONTENT = {
    **dict.fromkeys(SIZES, "size"),
    **dict.fromkeys(COLOURS, "colour"),
    **dict.fromkeys(SHAPES, "shape"),
}

OPENERS = ("there is ", "we see ", "an image of ")
LEADS = ("to the ", "on the ", "")
CAPTIONS_PER_IMAGE = 5
MAX_WORDS = 16
# Below this distance of centres, relative to the image, two objects count as level.
MARGIN = 8 / 112

_PHRASE = re.compile(
    rf"a (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
)
_OPENER = re.compile("|".join(OPENERS))
_SIDE = r"(?:to the |on the )?(?:left|right) of|above|below"
# The whole caption after its opener, each phrase replaced by X.
_FORM = re.compile(rf"X|X and X|X X and X|X (?:is )?({_SIDE}) X(?: and ({_SIDE}) X)?")


class Phrase(NamedTuple):
    """One mention of an object: its attributes and the words that name them."""

    size: str | None
    colour: str
    shape: str

    def fits(self, thing):
        """Whether `thing` has every attribute that is mentioned."""
        return (
            self.size in (None, thing.size)
            and self.colour == thing.colour
            and self.shape == thing.shape
        )


class Meaning(NamedTuple):
    """What a caption claims.

    Attributes:
        phrases: the objects it mentions, in order.
        relations: triples (subject, relation, object), phrases given by their index.
    """

    phrases: tuple[Phrase, ...]
    relations: tuple[tuple[int, str, int], ...]


def parse(caption):
    """Return the `Meaning` of a caption, or None if the grammar does not have it."""
    text = " ".join(tokenise(caption))
    opener = _OPENER.match(text)
    body = text[opener.end() :] if opener else text
    form = _FORM.fullmatch(_PHRASE.sub("X", body))
    if not form or (opener and " is " in body):
        return None
    # An unnamed size is "" in the match.
    phrases = tuple(Phrase(s or None, *rest) for s, *rest in _PHRASE.findall(body))
    sides = [re.search("|".join(RELATIONS), side)[0] for side in form.groups() if side]
    return Meaning(phrases, tuple((0, side, k) for k, side in enumerate(sides, 1)))


def holds(relation, one, other):
    """Whether `one` lies `relation` (e.g. "left") of `other`, by their centres."""
    down, right = (a - b for a, b in zip(other.centre, one.centre, strict=True))
    distance = {"left": right, "right": -right, "above": down, "below": -down}
    return distance[relation] >= MARGIN


def bindings(meaning, objects):
    """All ways to choose distinct objects, one per phrase, that make it true."""
    return [
        chosen
        for chosen in itertools.permutations(objects, len(meaning.phrases))
        if all(p.fits(o) for p, o in zip(meaning.phrases, chosen, strict=True))
        and all(holds(r, chosen[i], chosen[j]) for i, r, j in meaning.relations)
    ]


def is_true(caption, objects):
    """Whether the caption parses and distinct `objects` exist that fit all of it."""
    meaning = parse(caption)
    return meaning is not None and bool(bindings(meaning, objects))


def pointing_regions(words, objects):
    """The regions each word may point at.

    A true caption binds its phrases to objects: a content word may point at the object
    of its phrase, in any binding that makes the whole caption true. In a caption that
    is false or does not parse, it may point at any object with the attribute it names;
    if there is none, no place is right.

    Args:
        words: the words of one caption.
        objects: the objects of its scene.

    Returns:
        Per word None (not a content word), or a list of relative boxes
        `(ymin, xmin, ymax, xmax)`.
    """
    meaning = parse(" ".join(words))
    bound = bindings(meaning, objects) if meaning else []
    regions, phrase = [], 0
    for word in words:
        kind = CONTENT.get(word)
        if kind is None:
            regions.append(None)
        elif bound:
            regions.append(list({chosen[phrase].box for chosen in bound}))
        else:
            regions.append([o.box for o in objects if getattr(o, kind) == word])
        phrase += kind == "shape"
    return regions


def write_captions(objects, rng, about=()):
    """Five different true captions of a scene.

    Objects are mentioned in the order of their prominence: large ones first, then the
    lighter. The attention of eq. 4 knows h_{t-1}, which does not know y_{t-1} yet:
    where to look next must follow from the image, not from the words. And it must
    follow from the object, not from its position: when captions began with the leftmost
    one, places beside it that still saw it were preferred.

    Three in five relate objects; the others list one to three. The size is named in two
    phrases of three, and always where only it tells two objects apart, so a phrase
    fits one object of the scene.

    Args:
        objects: the scene's objects, at least two.
        rng: a `numpy.random.Generator`.
        about: objects that count as more prominent than all others.

    Returns:
        A list of (text, regions): per word of the text a list with the relative box
        `(ymin, xmin, ymax, xmax)` of the object it speaks of, empty if of none.
    """

    def prominence(thing):
        darkness = COLOURS.index(thing.colour)
        return thing not in about, thing.size != "large", darkness, thing.left

    order = sorted(objects, key=prominence)
    captions = {}
    while len(captions) < CAPTIONS_PER_IMAGE:
        relate = len(captions) < 3
        counts = (2, 2, 3) if relate else (1, 2, 2, 3)
        count = counts[rng.integers(len(counts))]
        chosen = order[:count]
        text = _write(chosen, objects, relate, rng)
        regions = _regions(text, chosen)
        if len(regions) <= MAX_WORDS:
            captions[text] = regions
    return list(captions.items())


def _write(chosen, objects, relate, rng):
    """One caption that mentions the `chosen` objects in order."""
    phrases = [_write_phrase(thing, objects, rng) for thing in chosen]
    single = len(phrases) == 1
    opener = OPENERS[rng.integers(len(OPENERS))] if single or rng.random() < 0.3 else ""
    if not relate:
        listed = " and ".join([", ".join(phrases[:-1])] * (not single) + phrases[-1:])
        return opener + listed
    sides = [_write_relation(chosen[0], other, rng) for other in chosen[1:]]
    verb = "" if opener or rng.random() < 0.25 else "is "
    tail = " and ".join(f"{s} {p}" for s, p in zip(sides, phrases[1:], strict=True))
    return f"{opener}{phrases[0]} {verb}{tail}"


def _write_phrase(thing, objects, rng):
    """A phrase that fits only this object of the scene."""
    plain = Phrase(None, thing.colour, thing.shape)
    alone = sum(map(plain.fits, objects)) == 1
    size = "" if alone and rng.random() < 1 / 3 else f"{thing.size} "
    return f"a {size}{thing.colour} {thing.shape}"


def _write_relation(one, other, rng):
    """The relation along the axis on which the two centres lie further apart."""
    down, right = (a - b for a, b in zip(other.centre, one.centre, strict=True))
    if abs(down) > abs(right):
        return "above" if down > 0 else "below"
    side = "left" if right > 0 else "right"
    return f"{LEADS[rng.integers(len(LEADS))]}{side} of"


def _regions(text, chosen):
    """Per word of the text a list with the box of the object it speaks of."""
    regions, phrase = [], 0
    for word in tokenise(text):
        kind = CONTENT.get(word)
        regions.append([chosen[phrase].box] if kind else [])
        phrase += kind == "shape"
    return regions
