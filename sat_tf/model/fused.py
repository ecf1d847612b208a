"""What training does at all locations of an image for every word, compiled with XLA.

Each pass reads the largest tensors, `[B, L, A]` or `[B, L, D]`, once, and writes none
of that size. Only `projection_gradient` has to: it takes `WORDS` words at a time, or
reading and writing the sums would cost more than their terms.

tanh(p + q) = 1 - 2 / (1 + e^2p e^2q), and e^2p of the annotations' share p is the same
for all words: at each place a word costs a product and a quotient, half of a tanh.

Nothing is compiled anew for captions of another length.
"""

import functools
import math

import tensorflow as tf

WORDS = 8
_LARGEST = 80.0  # e^80 and e^-80 are numbers of float32 and of bfloat16

_compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


@_compiled
def exponential(projection):
    """e^2p `[B, L, A]` of the projection p, in its precision.

    From |p| = 40 on it stays the same, or e^2p e^2q might be no number. The tanh is 1
    or -1 there, unless q is as far on the other side.
    """
    return tf.cast(_exponential(projection), projection.dtype)


def _exponential(x):
    return tf.exp(tf.clip_by_value(2 * tf.cast(x, tf.float32), -_LARGEST, _LARGEST))


def _rest(exp_projection, query):
    """r = (1 - tanh(p + q)) / 2, float32 `[S, B, L, A]`; tanh rises by 4 (r - r^2)."""
    exp_projection = tf.cast(exp_projection, tf.float32)
    return 1 / (1 + exp_projection * _exponential(query)[:, :, None])


@_compiled
def scores(exp_projection, query, vector):
    """v . tanh(p + q), f_att at every location (eq. 4).

    Args:
        exp_projection: `[B, L, A]`, `exponential` of p.
        query: `[S, B, A]`, q. vector: `[A]`, v.

    Returns:
        float32 `[S, B, L]`.
    """
    hidden = 1 - 2 * _rest(exp_projection, query)
    return tf.einsum("sbla,a->sbl", hidden, tf.cast(vector, tf.float32))


@_compiled
def query_gradient(exp_projection, query, vector, upstream):
    """What flows from `scores` into q, float32 `[S, B, A]`.

    Args:
        exp_projection, query, vector: as for `scores`.
        upstream: float32 `[S, B, L]`.
    """

    def slope(places):
        rest = _rest(exp_projection[:, places], query)
        return upstream[:, :, places, None] * (rest - rest * rest)

    summed = _sum_over_locations(slope, exp_projection.shape[1])
    return 4 * tf.cast(vector, tf.float32) * summed


def projection_gradient(exp_projection, query, vector, upstream):
    """What flows from the `scores` of all words into p and v.

    Args:
        exp_projection, vector: as for `scores`.
        query: `[T, S, B, A]`. upstream: float32 `[T, S, B, L]`.

    Returns:
        float32 `[B, L, A]` and `[A]`.
    """
    query, upstream = _by_words(query), _by_words(upstream)

    def body(i, d_projection, d_vector):
        given = exp_projection, query[i], upstream[i]
        d_projection = _add_slopes(*given, vector, d_projection)
        return i + 1, d_projection, d_vector + _vector_gradient(*given)

    zeros = [tf.zeros_like(x, tf.float32) for x in (exp_projection, vector)]
    blocks = tf.shape(query)[0]
    return tf.while_loop(lambda i, *_: i < blocks, body, (0, *zeros))[1:]


def _by_words(x):
    """`[T, S, B, ..]` in blocks `[.., WORDS, B, ..]`, the last filled up with zeros."""
    x = tf.reshape(x, tf.concat([[-1], tf.shape(x)[2:]], axis=0))
    x = tf.pad(x, [[0, -tf.shape(x)[0] % WORDS], [0, 0], [0, 0]])
    return tf.reshape(x, tf.concat([[-1, WORDS], tf.shape(x)[1:]], axis=0))


# Apart, or XLA would write down what both are made of, WORDS times `[B, L, A]`.
@_compiled
def _add_slopes(exp_projection, query, upstream, vector, d_projection):
    rest = _rest(exp_projection, query)
    slopes = tf.reduce_sum(upstream[..., None] * (rest - rest * rest), axis=0)
    return d_projection + 4 * tf.cast(vector, tf.float32) * slopes


@_compiled
def _vector_gradient(exp_projection, query, upstream):
    hidden = 1 - 2 * _rest(exp_projection, query)
    hidden = tf.reduce_sum(upstream[..., None] * hidden, axis=0)
    rows = tf.reshape(hidden, [-1, hidden.shape[-1]])
    return tf.linalg.matvec(rows, tf.ones_like(rows[:, 0]), transpose_a=True)


@_compiled
def context(annotations, weights):
    """Sum of weights times annotations, z_t `[S, B, D]` (eq. 13).

    Args:
        annotations: `[B, L, D]`. weights: float32 `[S, B, L]`.

    Returns:
        in the precision of the annotations.
    """

    def term(places):
        seen = tf.cast(annotations[:, places], tf.float32)
        return weights[:, :, places, None] * seen

    summed = _sum_over_locations(term, annotations.shape[1])
    return tf.cast(summed, annotations.dtype)


@_compiled
def weights_gradient(annotations, upstream):
    """What flows from `context` into its weights, float32 `[S, B, L]`.

    Args:
        annotations: `[B, L, D]`. upstream: `[S, B, D]`.
    """
    annotations, upstream = (tf.cast(x, tf.float32) for x in (annotations, upstream))
    terms = annotations * upstream[:, :, None]
    return tf.einsum("sbld,d->sbl", terms, tf.ones_like(upstream[0, 0]))


def _sum_over_locations(term, locations):
    """Sum of `term(places)`, `[S, B, .., A]`, over all locations: `[S, B, A]`.

    Slices of the locations are added as long as there are any. That is the sum that
    XLA makes in wide registers and in the order of memory: one over the whole axis it
    makes number by number, or of terms that it has first written down.
    """
    size = math.isqrt(locations)
    whole = locations - locations % size
    slices = [term(slice(i, i + size)) for i in range(0, whole, size)]
    summed = tf.reduce_sum(sum(slices), axis=2)
    if whole < locations:
        summed += tf.reduce_sum(term(slice(whole, None)), axis=2)
    return summed
