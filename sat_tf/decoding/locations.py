"""Where to look at test time: attention logits -> weights over the locations.

The paper does not say what hard attention does at test time, and its authors' code
decodes the "hard" model with the expectation; so the rule is always a named choice.
Each rule maps `logits [S, B, L]` and a `draw [S, B]`, a number in 0..1 that it may use,
to weights `[S, B, L]` that sum to 1.
"""

import tensorflow as tf

from sat_tf.decoding.draws import categorical


def argmax(logits, draw):
    """All weight on the most probable location; equal ones: the first."""
    del draw
    return _one_hot(tf.argmax(logits, axis=-1, output_type=tf.int32), logits)


def sample(logits, draw):
    """All weight on one location drawn from alpha (eq. 8), each beam its own."""
    return _one_hot(categorical(logits, draw), logits)


sample.draws = True


def expected(logits, draw):
    """Alpha itself: the context is its expectation, as soft attention (eq. 13)."""
    del draw
    return tf.nn.softmax(logits)


def _one_hot(index, logits):
    return tf.one_hot(index, tf.shape(logits)[-1], dtype=logits.dtype)


LOCATION_RULES = {"argmax": argmax, "sample": sample, "expected": expected}


def selector(name, seed):
    """A rule by its name as `(logits [S, B, L], t) -> weights`, with a seed `[2]`."""
    rule = LOCATION_RULES[name]

    def select(logits, t):
        own = tf.random.experimental.stateless_fold_in(seed, t)
        return rule(logits, tf.random.stateless_uniform(tf.shape(logits)[:2], own))

    return select
