"""What an estimator of the attention's gradient has to say."""

from typing import NamedTuple

import keras
import tensorflow as tf


class Trace(NamedTuple):
    """What happened while a batch of captions was spoken, for `surrogate` to judge.

    Everything is 0 at padding except `log_alpha` and `weights`, which the derived
    quantities mask.
    """

    log_p_word: tf.Tensor
    """`[S, B, T]` nats, log p(y_t | s, a)."""
    log_alpha: tf.Tensor
    """`[S, B, T, L]` nats, log of eq. 5."""
    weights: tf.Tensor
    """`[S, B, T, L]`, what multiplied the annotations: one-hot s_t, or alpha."""
    mask: tf.Tensor
    """`[B, T]`, 1 at words and 0 at padding."""

    @property
    def log_p_location(self):
        """log p(s_t | a) `[S, B, T]` (eq. 8).

        Where the weights are alpha itself (semi-sampling) its gradient is exactly
        zero, as sum_i alpha_i grad log alpha_i = grad sum_i alpha_i = 0.
        """
        chosen = tf.stop_gradient(self.weights) * self.log_alpha
        return tf.reduce_sum(chosen, axis=-1) * self.mask

    @property
    def entropy(self):
        """H[s_t] `[S, B, T]` nats."""
        plogp = tf.exp(self.log_alpha) * self.log_alpha
        return -tf.reduce_sum(plogp, axis=-1) * self.mask


class Estimator(keras.layers.Layer):
    """How a location is chosen and how its gradient is estimated.

    A subclass implements `select` and `surrogate`; one that keeps state (a baseline)
    makes it a non-trainable weight and moves it in `update`.
    """

    attention = "argmax"
    """Location rule that decoding uses unless told otherwise."""
    samples = 1
    """S, locations drawn per word and image."""
    stochastic = True
    """Whether `select` draws; if not, one pass gives the whole expectation."""
    one_hot = False
    """Whether training only makes one-hot draws, which no gradient passes."""

    @property
    def unbiased_for(self):
        """Objective whose gradient `surrogate` estimates without bias, or `None`."""
        return None

    def select(self, logits, *, training, seed, step):
        """Weights of the locations at one step.

        Args:
            logits: `[S, B, L]`, eq. 4.
            training: `False` leaves out what only training does (semi-sampling).
            seed: int32 `[2]`, the same for all steps of a batch of captions.
            step: scalar, t; fold it into the seed.

        Returns:
            `[S, B, L]`, one-hot or a distribution.
        """
        raise NotImplementedError

    def surrogate(self, trace):
        """`[B]`, to be maximised: its *gradient* is the estimator, not its value."""
        raise NotImplementedError

    def update(self, trace):
        """Moves the state, after the surrogate has used it."""

    def statistics(self, trace):
        """Scalars for `fit` to show: name -> tensor."""
        return {}
