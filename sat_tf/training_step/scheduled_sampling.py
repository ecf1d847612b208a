"""Scheduled sampling: trained on its own words, as it will be used.

Bengio et al. 2015 replace a word that goes in by the model's own, now and then and
ever more often. In the parallel form (Mihaylova & Martins 2019; Duckworth et al. 2019)
the own words come from a first pass over the caption as it is, and the second pass,
which is the one that trains, gets the mixture. What is to be said stays the caption,
so rewards and log-likelihoods are those of its words.
"""

import keras
import tensorflow as tf

from sat_tf.estimators.noise import by_step
from sat_tf.model.recurrence import shifted
from sat_tf.vocabulary import EOS, PAD


def rising(final, steps):
    """The probability of an own word: from 0 to `final`, linearly over the updates.

    Args:
        final: probability after `steps` updates; 0 = never an own word.
        steps: updates.

    Returns:
        what `ShowAttendTell.compile` takes.
    """
    if not 0 <= final <= 1:
        raise ValueError(
            "Expected scheduled_sampling to be a probability. "
            f"Received: scheduled_sampling={final}. Set it between 0 and 1."
        )
    if final == 0:
        return 0.0
    return keras.optimizers.schedules.PolynomialDecay(0.0, steps, final)


def with_own_words(captioner, data, seed):
    """A batch with `inputs`, int `[B, T]`: y_{t-1}, some of them the captioner's own.

    Args:
        captioner: a compiled `ShowAttendTell`.
        data: as `fit` takes it.
        seed: int32 `[2]`, of the training step.

    Returns:
        the batch, its images replaced by their features, which both passes share.
    """
    fold_in = tf.random.experimental.stateless_fold_in
    own_seed = fold_in(seed, -1)  # a step no estimator draws at
    # With a seed of their own: the second pass draws its locations anew, or they would
    # not be draws from alpha given the words that went in.
    place_seed, word_seed, coin_seed = (fold_in(own_seed, i) for i in range(3))
    features = captioner.network.features_of(data, training=True)
    tokens = tf.cast(data["tokens"], tf.int32)
    shown = shifted(tokens)
    estimator = captioner.estimator
    words, *_ = captioner.network.unroll(
        tf.stop_gradient(features),
        shown,
        lambda e, t: estimator.select(e, training=True, seed=place_seed, step=t),
        one_hot=estimator.one_hot,
        rows=data.get("rows"),
    )
    own = shifted(draw_words(words[0], word_seed))
    probability = captioner.scheduled_sampling
    if callable(probability):
        probability = probability(captioner.optimizer.iterations)
    batch, time = tf.unstack(tf.shape(tokens))
    coins = by_step(
        lambda _, seed: tf.random.stateless_uniform([batch], seed), coin_seed, time
    )
    replaced = (tf.transpose(coins) < probability) & (shown > 0)
    data = {k: v for k, v in data.items() if k != "image"}
    return data | {"annotations": features, "inputs": tf.where(replaced, own, shown)}


def draw_words(logits, seed):
    """Words `[B, T]` drawn from the softmax of logits `[B, T, V]`.

    Neither `<pad>` nor `<eos>`: no word comes after them.
    """
    _, time, size = tf.unstack(tf.shape(logits))
    never = tf.reduce_any(tf.range(size)[:, None] == [PAD, EOS], axis=-1)
    logits = tf.where(never, -float("inf"), logits)
    categorical = tf.random.stateless_categorical

    def draw(t, seed):
        return categorical(logits[:, t], 1, seed, dtype=tf.int32)[:, 0]

    return tf.transpose(by_step(draw, seed, time, tf.int32))
