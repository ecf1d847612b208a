"""Second opinions on the beams that a search ends with.

The most probable caption is seldom the best one. Each reranker scores the finished
beams of an image in its own way, and the sum of those that a captioner is told to use
(`DecodingOptions.rerank`) says which beam is best. One that knows the image may guide
the search as well, for there to be better beams to choose from.

A reranker is one file with a `Reranker` in it and one line in `RERANKERS`.
"""

import functools
from collections.abc import Mapping

from sat_tf.runtime.registry import Registry

RERANKERS = Registry(
    "reranker",
    alignment="sat_tf.reranking.alignment:Alignment",
    consensus="sat_tf.reranking.consensus:Consensus",
    detection="sat_tf.reranking.detection:Detection",
    grounding="sat_tf.reranking.grounding:Grounding",
)


def chosen(rerankers, defaults, asked):
    """How much each reranker shall count: name -> strength, none that is off.

    Args:
        rerankers: list of `Reranker`, those a captioner has of its own.
        defaults: name -> strength, unless told otherwise.
        asked: name -> strength, over the defaults; `None` turns one off, and with it
            those that only add to it.

    Raises:
        ValueError: there is no such reranker, the captioner was trained without it, or
            another is missing whose scores it adds to.
    """
    if not isinstance(asked, Mapping):
        raise ValueError(
            "Expected rerank to be a dictionary of names and strengths. "
            f'Received: rerank={asked!r}. Write, for instance, {{"consensus": 0.3}}.'
        )
    strengths = {**dict(defaults), **asked}
    known = {name_of(reranker) for reranker in rerankers}
    on = {n: s for n, s in strengths.items() if not RERANKERS[n].is_off(s)}
    for name in list(on):
        kind = RERANKERS[name]
        missing = [other for other in kind.requires if other not in on]
        if missing and name not in asked:
            del on[name]
        elif missing:
            raise ValueError(
                f"Expected {' and '.join(missing)} beside {name}, which only adds to "
                f"it. Received: rerank={strengths}. Ask for {missing[0]} too, or leave "
                f"{name} out."
            )
        elif kind.learns and name not in known:
            raise ValueError(
                f"Expected rerankers that this captioner was trained with "
                f"({', '.join(sorted(known)) or 'it has none'}). Received: {name}="
                f"{strengths[name]}. Leave it out, or train with "
                f"--set model.rerankers.{name}={{}}."
            )
    return on


def with_a_say(rerankers, options):
    """Those whose opinion counts, each with its strength: pairs.

    Only beams are ranked, but a greedy search may still be guided.

    Args:
        rerankers: list of `Reranker`, those a captioner has of its own.
        options: `DecodingOptions`.
    """
    if options.decoder == "sample":
        return []
    own = {name_of(reranker): reranker for reranker in rerankers}
    on = {n: s for n, s in options.rerank if not RERANKERS[n].is_off(s)}
    pairs = [(own[n] if n in own else RERANKERS[n](), s) for n, s in on.items()]
    return [(one, s) for one, s in pairs if options.width > 1 or one.guides]


def opinions(pairs, annotations):
    """What `decode` takes as `guides` and `rerank`: dict of tuples of functions.

    Args:
        pairs: of a `Reranker` and its strength, as from `with_a_say`.
        annotations: `[B, L, D]`.
    """
    guides, rerank = [], []
    for reranker, strength in pairs:
        known = {"evidence": reranker.evidence(annotations)}
        rerank.append(functools.partial(reranker.score, strength=strength, **known))
        if reranker.guides:
            guides.append(functools.partial(reranker.guide, **known))
    return {"guides": tuple(guides), "rerank": tuple(rerank)}


def name_of(reranker):
    """The name in `RERANKERS` of a reranker."""
    for name, kind in RERANKERS.items():
        if type(reranker) is kind:
            return name
    own = type(reranker).__name__
    raise ValueError(
        f"Expected rerankers that have a name: {', '.join(RERANKERS)}. Received: "
        f"{own}. Call RERANKERS.register(name, {own}) before you make or load a "
        "captioner that has it."
    )
