"""Where a model finds the words of a caption that it is given.

Attention chooses a location for a word before the word is known, from what was said so
far; evidence is judged with the word, and the sentence before it, in hand.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from sat_tf.decoding.generate import features_of_images
from sat_tf.decoding.locations import LOCATION_RULES
from sat_tf.vocabulary import PAD, UNK, tokenise

_CHUNK = 16  # images at once: each word is spoken anew from every location


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where each word of a given caption is found; T words, `<eos>` not among them.

    Attributes:
        caption: as it was given.
        words: the T words, see `vocabulary.tokenise`.
        known: bool `[T]`, whether the vocabulary has the word. Of one that it has not,
            the rest is said of any word that it has not.
        locations: int `[T]`, where the most evidence is, row * w + column.
        evidence: `[T, h, w]`, a distribution over locations: where the word is found.
        support: `[T]` nats, how much more probable the image makes the word than
            images in general do; below 0 the image speaks against it.
        log_p_word: `[T]` nats, of the word after those before it.
        alpha: `[T, h, w]`, the attention before the word was known.
    """

    caption: str
    words: tuple
    known: np.ndarray = dataclasses.field(repr=False)
    locations: np.ndarray = dataclasses.field(repr=False)
    evidence: np.ndarray = dataclasses.field(repr=False)
    support: np.ndarray = dataclasses.field(repr=False)
    log_p_word: np.ndarray = dataclasses.field(repr=False)
    alpha: np.ndarray = dataclasses.field(repr=False)


class Explained(NamedTuple):
    """The same of a batch, as tensors; 0 at padding.

    Attributes:
        evidence: `[B, T, L]`. support: `[B, T]` nats. log_p_word: `[B, T]` nats.
        alpha: `[B, T, L]`.
    """

    evidence: tf.Tensor
    support: tf.Tensor
    log_p_word: tf.Tensor
    alpha: tf.Tensor


def explain(captioner, features, tokens):
    """Explains captions, of stock operations only.

    Evidence is the posterior over the location of each word, with attention as prior:

        p(s_t = i | y_1..t, a) ~ alpha_ti p(y_t | s_t = i, h_{t-1}, a)

    Where a reranker `locates`, what it says of the location takes the likelihood's
    place, and support is its own. Otherwise support is how much less probable the word
    would be of an average image.

    Args:
        captioner: a `ShowAttendTell`.
        features: `[B, L, D]`. tokens: int32 `[B, T]`, `<pad>` after the last word.

    Returns:
        `Explained`.
    """
    rule = _rule(captioner)
    log_p_word, alpha, states = _spoken(captioner.network, features, tokens, rule)
    locating = [each for each in captioner.rerankers if each.locates]
    if locating:
        log_places, support = locating[0].locate(captioner.encoder(features), tokens)
        joint = tf.math.log(alpha) + log_places
    else:
        annotations = captioner.network.annotations(features)
        joint = tf.math.log(alpha) + _from_everywhere(
            captioner.network, annotations, tokens, states
        )
        average = captioner.encoder.average(features)
        support = tf.reduce_logsumexp(joint, axis=-1)
        support -= _spoken(captioner.network, average, tokens, rule)[0]
    word = tf.cast(tokens != PAD, tf.float32)
    return Explained(
        evidence=tf.nn.softmax(joint) * word[..., None],
        support=support * word,
        log_p_word=log_p_word * word,
        alpha=alpha * word[..., None],
    )


def from_everywhere(captioner, features, tokens):
    """Attention before each word of captions, and the word spoken from every location.

    Args:
        captioner: a `ShowAttendTell`.
        features: `[B, L, D]`. tokens: int32 `[B, T]`, `<pad>` after the last word.

    Returns:
        log alpha_ti and log p(y_t | s_t = i, h_{t-1}, a), both `[B, T, L]` nats.
    """
    network = captioner.network
    _, alpha, states = _spoken(network, features, tokens, _rule(captioner))
    log_p = _from_everywhere(network, network.annotations(features), tokens, states)
    return tf.math.log(alpha), log_p


def _rule(captioner):
    """Where it looks while it is told the words: as it decodes, but never at random."""
    return "expected" if captioner.options().attention == "expected" else "argmax"


def _spoken(network, features, tokens, rule):
    """log p of given words `[B, T]`, alpha `[B, T, L]` and the states before each."""
    memory, state = network.start(features)
    time = tf.shape(tokens)[1]
    inputs = tf.transpose(tf.pad(tokens[:, :-1], [[0, 0], [1, 0]]))

    def choose(logits):
        return LOCATION_RULES[rule](logits, None)

    choose.one_hot = rule != "expected"

    def word(t, state, arrays):
        log_p, after, aux = network.step(inputs[t][None], state, memory, choose)
        said = tf.gather(log_p[0], tokens[:, t], axis=-1, batch_dims=1)
        values = (tf.cast(said, tf.float32), aux["alpha"][0], *(x[0] for x in state))
        arrays = tuple(a.write(t, v) for a, v in zip(arrays, values, strict=True))
        return t + 1, after, arrays

    kinds = (tf.float32, tf.float32, *(x.dtype for x in state))
    arrays = tuple(tf.TensorArray(kind, time) for kind in kinds)
    _, _, arrays = tf.while_loop(
        lambda t, *_: t < time, word, (tf.constant(0), tuple(state), arrays)
    )
    log_p_word, alpha, *states = (_batch_first(array.stack()) for array in arrays)
    return log_p_word, alpha, [x[None] for x in states]


def _batch_first(x):
    return tf.transpose(x, [1, 0, *range(2, x.shape.rank)])


def _from_everywhere(network, annotations, tokens, states):
    """log p(y_t | s_t = i) `[B, T, L]`, each word spoken from every location.

    One location after the other: of all at once the word logits would be gigabytes.
    """

    def spoken_from(context):
        log_p = network.score({"tokens": tokens}, states, context[None, None, :, None])
        return tf.cast(log_p[0, 0], tf.float32)

    contexts = tf.transpose(annotations, [1, 0, 2])
    log_p = tf.map_fn(spoken_from, contexts, fn_output_signature=tf.float32)
    return tf.transpose(log_p, [1, 2, 0])


def explain_captions(captioner, images, captions):
    """`Explanation` of each caption; see `ShowAttendTell.explain`.

    Args:
        captioner: a `ShowAttendTell`.
        images: what `generate` takes. captions: a string, or one for each image.

    Raises:
        ValueError: not one caption for each image, or one without words.
    """
    if isinstance(captions, str | bytes) or not np.iterable(captions):
        captions = [captions]
    captions = list(captions)
    for caption in captions:
        if not isinstance(caption, str) or not tokenise(caption):
            raise ValueError(
                "Expected captions that are strings with a word or more. "
                f"Received: {caption!r}. Write what the image is said to show."
            )
    found, seen = [], 0
    for features in features_of_images(captioner, images, _CHUNK):
        said = captions[seen : seen + len(features)]
        seen += len(features)
        if len(said) == len(features):
            found += explain_features(captioner, features, said)
    if seen != len(captions):
        raise ValueError(
            "Expected one caption for each image. "
            f"Received: images={seen}, captions={len(captions)}. Repeat the image to "
            "explain several captions of it."
        )
    return found


def explain_features(captioner, features, captions):
    """`Explanation` of each caption of features `[B, L, D]`, in one batch."""
    words = [tokenise(caption) for caption in captions]
    ids = [captioner.vocabulary.encode(caption)[:-1] for caption in captions]
    tokens = np.full((len(ids), max(map(len, ids))), PAD, "int32")
    for row, each in zip(tokens, ids, strict=True):
        row[: len(each)] = each
    explained = _graph(captioner)(tf.cast(features, tf.float32), tf.constant(tokens))
    explained = Explained(*(x.numpy() for x in explained))
    return [
        _explanation(caption, words[b], tokens[b], explained, b, captioner.grid)
        for b, caption in enumerate(captions)
    ]


def _explanation(caption, words, tokens, explained, b, grid):
    said = slice(0, len(words))
    evidence = explained.evidence[b, said]
    return Explanation(
        caption=caption,
        words=tuple(words),
        known=tokens[said] != UNK,
        locations=evidence.argmax(axis=-1),
        evidence=evidence.reshape(-1, *grid),
        support=explained.support[b, said],
        log_p_word=explained.log_p_word[b, said],
        alpha=explained.alpha[b, said].reshape(-1, *grid),
    )


def _graph(captioner):
    """`explain`, traced and kept on the captioner."""
    graphs, key = captioner.graphs, (explain, captioner.options().attention)
    if key not in graphs:
        graphs[key] = tf.function(
            lambda features, tokens: explain(captioner, features, tokens),
            input_signature=[
                tf.TensorSpec(
                    [None, captioner.encoder.locations, captioner.encoder.size]
                ),
                tf.TensorSpec([None, None], tf.int32),
            ],
            autograph=False,
        )
    return graphs[key]
