"""What `fit` shows: running means over the words of an epoch."""

import math

import keras
import tensorflow as tf

from sat_tf.runtime import replicas

SHOWN = (
    "loss",
    "surrogate",
    "log_likelihood",
    "attention_entropy",
    "attention_gradient",
    "baseline",
    "advantage",
    "advantage_variance",
    "divergence",
    "temperature",
)


def running_means():
    """Name -> `keras.metrics.Mean`, for a model to keep."""
    # Not when first shown: variables born in a trace make it happen twice.
    return {name: keras.metrics.Mean(name=name) for name in SHOWN}


def update(means, trace, extra, locations):
    """Adds a batch, each figure weighted by the number of words it is a mean over.

    Args:
        means: from `running_means`; gets further names as they come.
        trace: the batch's `Trace`, or that of a replica's share.
        extra: name -> scalar, further figures per word, of the whole batch.
        locations: L, for the share of the entropy there could be.

    Returns:
        name -> the mean so far: nats per word but for shares and perplexity. `loss` is
        minus the log-likelihood, in training and evaluation alike; what training
        minimises, a mean over captions, is an estimator's own and called `surrogate`.
    """
    sums = (trace.mask, trace.log_p_word, trace.entropy)
    words, log_p, entropy = replicas.total([tf.reduce_sum(each) for each in sums])
    per_word = tf.maximum(words, 1.0) * float(trace.log_p_word.shape[0] or 1)
    log_likelihood = log_p / per_word
    values = {
        "loss": -log_likelihood,
        "log_likelihood": log_likelihood,
        "attention_entropy": entropy / per_word,
        **extra,
    }
    logs = {}
    for name, value in values.items():
        if name not in means:
            means[name] = keras.metrics.Mean(name=name)
        means[name].update_state(value, sample_weight=words)
        logs[name] = means[name].result()
    logs["perplexity"] = tf.exp(-logs["log_likelihood"])
    most = math.log(max(locations, 2))
    logs["attention_entropy_share"] = logs["attention_entropy"] / most
    return logs
