"""Does the captioner look where it speaks? One definition for drawings and photographs.

It is asked at every word whose boxes are known: at which location was the word looked
at, and how much of alpha lies in its boxes? Boxes that cover most of an image are hard
to miss, so beside each figure stands what looking at the middle of the image, at a
random location or everywhere at once would reach.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from sat_tf import images
from sat_tf.datasets import pipeline, regions
from sat_tf.decoding.locations import selector
from sat_tf.vocabulary import tokenise

SMALL = 0.15  # of the image
_RESAMPLES = 1000


class Known(NamedTuple):
    """A caption whose words' regions are known.

    Attributes:
        image: its number in the split.
        text: as written.
        boxes: for each of its words `[n, 4]`, relative to what the captioner sees.
    """

    image: int
    text: str
    boxes: tuple


class Look(NamedTuple):
    """One word and where it was looked at.

    Attributes:
        image: its number in the split.
        word: the word.
        boxes: `[n, 4]`, n > 0, relative (ymin, xmin, ymax, xmax).
        alpha: `[h, w]`, a distribution over the locations.
        location: the chosen one, row * w + column.
    """

    image: int
    word: str
    boxes: np.ndarray
    alpha: np.ndarray
    location: int


def known_captions(split, size, mode):
    """The captions of a split whose regions are known.

    Args:
        split: a `datasets.Split`.
        size, mode: how the captioner resizes images, see `images.resize`. A box that
            `crop` cuts away altogether is no region of what the captioner sees.

    Returns:
        list of `Known`, in the order of the split.
    """
    known = [
        Known(i, text, boxes)
        for i, captions in enumerate(zip(split.captions, split.regions, strict=True))
        for text, boxes in zip(*captions, strict=True)
        if boxes is not None
    ]
    if not known or mode != "crop":  # the captioner sees the whole image
        return known
    shapes = [images.decode(picture).shape[:2] for picture in split.images]
    return [
        Known(i, text, tuple(regions.in_crop(b, shapes[i], size) for b in boxes))
        for i, text, boxes in known
    ]


def spoken(captions, known):
    """Looks of a captioner's own words.

    A word counts if it is one of those that have boxes in the known captions of its
    image; its boxes are all that it has there.

    Args:
        captions: one `Caption` per image of the split.
        known: from `known_captions`.
    """
    heads = {}
    for image, text, boxes in known:
        for word, own in zip(tokenise(text), boxes, strict=True):
            if len(own):
                heads.setdefault((image, word), []).append(own)
    return [
        Look(i, word, np.concatenate(heads[i, word]), alpha, int(location))
        for i, said in enumerate(captions)
        for word, alpha, location in zip(
            said.words, said.alpha, said.locations, strict=True
        )
        if (i, word) in heads
    ]


def given(known, alphas, locations=None):
    """Looks of the words of captions that were given.

    Args:
        known: from `known_captions`.
        alphas: for each of them `[T, h, w]`, a distribution per word.
        locations: for each of them `[T]`, the chosen locations; by default the most
            probable ones.
    """
    if locations is None:
        locations = [np.reshape(a, (len(a), -1)).argmax(-1) for a in alphas]
    return [
        Look(caption.image, word, boxes, alpha, int(location))
        for caption, *where in zip(known, alphas, locations, strict=True)
        for word, boxes, alpha, location in zip(
            tokenise(caption.text), caption.boxes, *where, strict=True
        )
        if len(boxes)
    ]


def go_over(captioner, inputs, key, known, rule, *, seed=17, batch_size=64):
    """Where a captioner looks at each word of captions that are given.

    Each word is looked for as in decoding, when those before it are known, and not the
    word itself.

    Args:
        captioner: a `ShowAttendTell`.
        inputs, key: from `evaluate.cached_inputs`.
        known: from `known_captions`.
        rule: a key of `LOCATION_RULES`.
        seed: of the rule `sample`.
        batch_size: captions at once.

    Returns:
        alphas and locations as `given` takes them.
    """
    texts = [[] for _ in range(len(inputs))]
    for caption in known:
        texts[caption.image].append(caption.text)
    batches = pipeline.evaluation_batches(
        inputs, texts, captioner.vocabulary, batch_size=batch_size, key=key
    )
    # One graph for batches of any size.
    signature = [batches.element_spec, tf.TensorSpec([2], tf.int32)]

    @tf.function(input_signature=signature, autograph=False)
    def trace(batch, seed):
        select, one_hot = selector(rule, seed), rule != "expected"
        traced, _ = captioner.network.trace(batch, select, one_hot=one_hot)
        return tf.exp(traced.log_alpha[0]), tf.argmax(traced.weights[0], axis=-1)

    alphas, locations = [], []
    for number, batch in enumerate(batches):
        for alpha, chosen in zip(
            *trace(batch, tf.constant([seed, number])), strict=True
        ):
            words = len(known[len(alphas)].boxes)
            alphas.append(tf.reshape(alpha[:words], [-1, *captioner.grid]).numpy())
            locations.append(chosen[:words].numpy())
    return alphas, locations


def summary(looks):
    """What a list of `Look`s comes to.

    Returns:
        dict of JSON values: `n`, how many there are, and where there are some
        `pointing`, share whose location's cell has its middle in a box (edges
        included), and `pointing_interval`, its 95 % bootstrap interval over images;
        `correctness`, mean mass of alpha in the boxes, each cell's by the share of its
        area that they cover;
        `middle`, share whose boxes hold the middle of the image;
        `random`, mean share of the cells with their middle in a box;
        `area`, mean share of the image that the boxes cover, which is what a uniform
        alpha has as its correctness;
        `entropy`, mean H[alpha] in nats, and `entropy_share` of log L;
        `small`, the same of the looks whose boxes cover less than 0.15 of the image.
    """
    measures = [_measure(look) for look in looks]
    small = [i for i, each in enumerate(measures) if each["area"] < SMALL]
    whole = _means(looks, measures)
    return whole | {
        "small": _means([looks[i] for i in small], [measures[i] for i in small])
    }


def best_and_worst(looks, count=10):
    """The looks with the most and the least of alpha in their boxes.

    What counts is by how much that is more than of a uniform alpha; of an image only
    the best and the worst look are taken.

    Returns:
        two lists of up to `count` pairs of a `Look` and its measures, see `summary`.
    """
    pairs = [(look, _measure(look)) for look in looks]
    pairs.sort(key=lambda pair: pair[1]["area"] - pair[1]["correctness"])
    best, worst = {}, {}
    for order, chosen in ((pairs, best), (pairs[::-1], worst)):
        for look, measure in order:
            chosen.setdefault(look.image, (look, measure))
    return list(best.values())[:count], list(worst.values())[:count]


def _measure(look):
    grid = look.alpha.shape
    held = regions.holds_middles(look.boxes, grid)
    covered = regions.coverage(look.boxes, grid)
    alpha = np.asarray(look.alpha, np.float64)
    entropy = -np.sum(alpha * np.log(np.maximum(alpha, 1e-300)))
    return {
        "pointing": float(held.flat[look.location]),
        "correctness": float(np.sum(alpha * covered)),
        "middle": float(regions.holds_middles(look.boxes, (1, 1)).item()),
        "random": float(held.mean()),
        "area": float(covered.mean()),
        "entropy": float(entropy),
        "entropy_share": float(entropy / (np.log(alpha.size) or 1.0)),
    }


def _means(looks, measures):
    means = {"n": len(looks)}
    if looks:
        means |= {k: float(np.mean([m[k] for m in measures])) for k in measures[0]}
        numbers = [look.image for look in looks]
        right = [measure["pointing"] for measure in measures]
        means["pointing_interval"] = _interval(numbers, right)
    return means


def _interval(numbers, right, seed=17):
    """95 % bootstrap interval of the mean of `right`, resampled over images."""
    _, rows = np.unique(numbers, return_inverse=True)
    n_right, n = np.bincount(rows, right), np.bincount(rows)
    draws = np.random.default_rng(seed).multinomial(
        len(n), np.full(len(n), 1 / len(n)), size=_RESAMPLES
    )
    return np.percentile(draws @ n_right / (draws @ n), [2.5, 97.5]).tolist()
