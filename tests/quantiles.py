"""Noise that cannot be enumerated: integrated over instead.

With L = 2 locations only one number of the noise matters, whose distribution is known,
so a sum over its quantiles stands for the sum over paths.
"""

import numpy as np
import tensorflow as tf
from toy import batch, gradients, settled, toy

NODES = 4000
# Midpoints of equal shares of the odds of a uniform number: the ratio of two standard
# exponentials, and the exponential of the difference of two Gumbels.
ODDS = (np.arange(NODES) + 0.5) / NODES
ODDS = (ODDS / (1 - ODDS)).astype("float32")


def one_word(estimator):
    """One image with two locations and a caption of one word."""
    model = settled(toy(estimator, grid=(1, 2)))
    return model, batch(model, lengths=(1,))


def gumbels():
    return np.stack([np.log(ODDS), 0 * ODDS], axis=-1)


def integrated(estimator, tau):
    """The estimator's gradient, mean over the quantiles of its noise, and the model."""
    estimator.samples = NODES
    estimator.temperature = estimator.final_temperature = tau
    model, data = one_word(estimator)
    estimator.noise = lambda shape, seed, step: gumbels()[:, None]

    def scalar():
        trace, _ = estimator.trace(model.network, data, tf.constant([17, 17]))
        return tf.reduce_mean(estimator.surrogate(trace))

    return gradients(model, scalar), model, data


def every_noise(model, data):
    """Noisy logits `[1, NODES, 2]`, and log p(y_1) `[NODES]` by weights like them."""
    memory, state = model.network.start(data["annotations"])
    logits = model.network.attention(memory["projection"], state[0])
    memory = {name: tf.repeat(x, NODES, axis=0) for name, x in memory.items()}
    state = tuple(tf.repeat(x, NODES, axis=1) for x in state)

    def score(weights):
        tokens = tf.zeros([1, NODES], tf.int32)
        log_p = model.network.step(tokens, state, memory, lambda _: weights)[0]
        return log_p[0, :, data["tokens"][0, 0]]

    return logits + gumbels()[None], score
