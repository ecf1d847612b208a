"""Which words come next: one function per decoder, one dict.

Each picks from `log_p [S, B, V]` (nats; forbidden words are -inf) for the S beams
(`Beams`) of every image and returns `(parents, words, gain)`, each `[K, B]`: the beam
that is continued, the word it gets, and what `log_p` has for that word (temperature,
top-k and top-p change what is drawn, not what is reported). In a guided search `log_p`
is the model's and what the guides add. A beam that has ended gets `<pad>`, at no cost.
Chance is `draw`, `[S, B]` in 0..1.
"""

import collections

import tensorflow as tf

from sat_tf.decoding.draws import categorical
from sat_tf.vocabulary import EOS, PAD

Beams = collections.namedtuple("Beams", ["words", "gain", "length", "ended"])
Beams.__doc__ = """Captions under way; every field is `[S, B]`.

`words`: the last word (int32); `gain`: the sum of all words' gains, nats;
`length`: words so far, <eos> included (int32); `ended`: <eos> was said (bool).
"""


def ranking_score(gain, length, length_penalty):
    """`gain / length ** length_penalty`: 0 = the total, 1 = the mean per word."""
    if not length_penalty:
        return gain
    length = tf.cast(tf.maximum(length, 1), gain.dtype)
    return gain / length**length_penalty


def grow(beams, words, gain):
    """The same beams one word later."""
    return Beams(
        words=words,
        gain=beams.gain + gain,
        length=beams.length + tf.cast(~beams.ended, tf.int32),
        ended=beams.ended | (words == EOS),
    )


def greedy(log_p, beams, options, draw):
    """The most probable word; equal ones: the lowest id."""
    del options, draw
    return _one_beam(tf.argmax(log_p, axis=-1, output_type=tf.int32), log_p, beams)


def sample(log_p, beams, options, draw):
    """A word drawn from softmax(log_p / temperature), cut by top-k, then top-p.

    `top_k` keeps the k most probable words; `top_p` keeps, of what is left and
    renormalised, the fewest most probable words whose mass reaches p.
    """
    logits, ids = log_p / options.temperature, None
    if options.top_k or options.top_p:
        size = log_p.shape[-1]
        logits, ids = tf.math.top_k(logits, min(options.top_k or size, size))
    if options.top_p:
        mass_before = tf.cumsum(tf.nn.softmax(logits), axis=-1, exclusive=True)
        logits = tf.where(mass_before < options.top_p, logits, -float("inf"))
    words = categorical(logits, draw)
    if ids is not None:
        words = tf.gather(ids, words, batch_dims=2)
    return _one_beam(words, log_p, beams)


def beam(log_p, beams, options, draw):
    """The K best one-word continuations of all beams, best first.

    An ended beam is frozen: its one continuation is itself, so its score competes
    unchanged with captions that go on. Scored further, as if it could go on, it
    loses to captions that are less probable.
    """
    del draw
    width, each = options.beam, min(options.beam, log_p.shape[-1])
    # The K best of all S * V continuations are among the K best of each beam.
    gain, words = top_k(log_p, each)  # [S, B, each]
    ended = beams.ended[..., tf.newaxis]
    itself = tf.where(tf.range(each) == 0, 0.0, -float("inf"))
    gain = tf.where(ended, itself, gain)
    words = tf.where(ended, PAD, words)
    grown = grow(Beams(*(x[..., tf.newaxis] for x in beams)), words, gain)
    score = ranking_score(grown.gain, grown.length, options.length_penalty)

    score = _pool(score, width, -float("inf"))
    score, best = tf.math.top_k(score, width)  # [B, K]
    gain = tf.gather(_pool(gain, width, 0.0), best, batch_dims=1)
    words = tf.gather(_pool(words, width, EOS), best, batch_dims=1)
    # Fewer captions than beams: the others are dead, and must not keep the loop going.
    dead = score == -float("inf")
    gain = tf.where(dead, -float("inf"), gain)
    words = tf.where(dead, EOS, words)
    parents = tf.where(dead, 0, best // each)
    return tuple(map(tf.transpose, (parents, words, gain)))


def top_k(x, k, block=100):
    """`tf.math.top_k` of `[S, B, V]`, 2 to 3 times as fast for few of many.

    The k greatest of a row are in those k of its blocks whose maxima are greatest.
    Of equal values any may come.
    """
    beams, _, size = x.shape
    if size <= block * k:
        return tf.math.top_k(x, k)
    missing = -size % block
    if missing:
        x = tf.pad(x, [[0, 0], [0, 0], [0, missing]], constant_values=-float("inf"))
    blocks = tf.reshape(x, [beams, -1, (size + missing) // block, block])
    _, found = tf.math.top_k(tf.reduce_max(blocks, axis=-1), k)
    near = tf.gather(blocks, found, batch_dims=2)  # [S, B, k, block]
    values, index = tf.math.top_k(tf.reshape(near, [beams, -1, k * block]), k)
    ids = tf.gather(found, index // block, batch_dims=2) * block + index % block
    return values, ids


def _pool(x, least, padding):
    """`[S, B, each]` -> `[B, S * each]`: an image's candidates, at least `least`."""
    beams, _, each = x.shape
    pooled = tf.reshape(tf.transpose(x, [1, 0, 2]), [-1, beams * each])
    missing = max(0, least - beams * each)
    return tf.pad(pooled, [[0, 0], [0, missing]], constant_values=padding)


def _one_beam(words, log_p, beams):
    gain = tf.gather(log_p, words, batch_dims=2)
    return (
        tf.zeros_like(words),
        tf.where(beams.ended, PAD, words),
        tf.where(beams.ended, 0.0, gain),
    )


DECODERS = {"greedy": greedy, "sample": sample, "beam": beam}
