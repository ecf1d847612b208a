"""What an estimator of the attention's gradient has to say."""

from typing import NamedTuple

import keras
import tensorflow as tf

from sat_tf.runtime import replicas
from sat_tf.runtime.registry import options_of


class Trace(NamedTuple):
    """What happened while a batch of captions was spoken, for `surrogate` to judge.

    Everything is 0 at padding except `log_alpha`, `log_q`, `weights` and `states`,
    which the derived quantities mask. The last six are there where they are needed.
    """

    log_p_word: tf.Tensor
    """`[S, B, T]` nats, log p(y_t | s, a)."""
    log_alpha: tf.Tensor
    """`[S, B, T, L]` nats, log of eq. 5."""
    weights: tf.Tensor
    """`[S, B, T, L]`, what multiplied the annotations: one-hot s_t, or alpha."""
    mask: tf.Tensor
    """`[B, T]`, 1 at words and 0 at padding."""
    states: tuple | None = None
    """h_{t-1} and c_{t-1}, `[S, B, T, n]` each."""
    annotations: tf.Tensor | None = None
    """`[B, L, D]`, as the recurrence saw them: in its precision, after dropout."""
    embedded: tf.Tensor | None = None
    """`[B, T, m]`, the vectors of the words that went in, likewise."""
    log_q: tf.Tensor | None = None
    """`[S, B, T, L]` nats, what the locations were drawn from if not alpha."""
    baseline: tf.Tensor | None = None
    """`[S or 1, B, T]` nats, b where more than rewards goes into it."""
    correction: tf.Tensor | None = None
    """`[S, B, T]`, to be maximised too: a term whose *gradient* has the mean zero."""

    @property
    def captions(self):
        """How many captions, of all replicas, have words: others only fill a batch."""
        return replicas.total(tf.reduce_sum(tf.reduce_max(self.mask, axis=-1)))

    @property
    def words(self):
        """How many words there are, of all replicas, and 1 if there are none."""
        return tf.maximum(replicas.total(tf.reduce_sum(self.mask)), 1.0)

    @property
    def log_p_location(self):
        """log p(s_t | a) `[S, B, T]` (eq. 8).

        Where the weights are alpha itself (semi-sampling) its gradient is exactly
        zero, as sum_i alpha_i grad log alpha_i = grad sum_i alpha_i = 0.
        """
        return self._of_location(self.log_alpha)

    @property
    def log_drawn(self):
        """Log-probability `[S, B, T]` of s_t under what it was drawn from."""
        return self._of_location(self.log_alpha if self.log_q is None else self.log_q)

    def _of_location(self, log_p):
        chosen = tf.stop_gradient(self.weights) * log_p
        return tf.reduce_sum(chosen, axis=-1) * self.mask

    @property
    def entropy(self):
        """H[s_t] `[S, B, T]` nats, of alpha."""
        plogp = tf.exp(self.log_alpha) * self.log_alpha
        return -tf.reduce_sum(plogp, axis=-1) * self.mask

    @property
    def divergence(self):
        """KL(q_t || alpha_t) `[S, B, T]` nats, 0 if locations come from alpha."""
        if self.log_q is None:
            return tf.zeros_like(self.log_p_word)
        each = tf.exp(self.log_q) * (self.log_q - self.log_alpha)
        return tf.reduce_sum(each, axis=-1) * self.mask


class Estimator(keras.layers.Layer):
    """How a location is chosen and how its gradient is estimated.

    A subclass implements `surrogate`, and `select` if it does not draw from alpha.
    One that has to look at a batch otherwise than in one pass of `select` overrides
    `trace`. State (a baseline, a temperature) is a non-trainable weight, moved in
    `update`; networks of its own are sublayers, made in `build`, that train along.
    """

    attention = "argmax"
    """Location rule that decoding uses unless told otherwise."""
    samples = 1
    """S, locations drawn per word and image."""
    stochastic = True
    """Whether there are draws; if not, one pass gives the whole expectation."""
    one_hot = False
    """Whether training only makes one-hot draws, which no gradient passes."""
    settled = ()
    """Options of its base classes that are not left to the user."""

    @classmethod
    def options(cls, **chosen):
        """Names of what the constructor takes or hands on to those of its bases.

        Args:
            **chosen: values of any, where one decides whether others are heard.
        """
        del chosen
        return set(options_of(cls))

    @property
    def unbiased_for(self):
        """Objective whose gradient `surrogate` estimates without bias, or `None`."""
        return None

    @property
    def target(self):
        """Name of what the gradient is in expectation: an objective's, or its own."""
        return self.unbiased_for

    def build(self, annotations_shape, words_shape):
        """Creates networks of its own from D and m, the last axes of the shapes."""
        self.built = True

    def get_build_config(self):
        """Nothing: a captioner builds its estimator, with sizes of its own."""

    def draw(self, logits, seed, step):
        """One-hot locations `[S, B, L]` from the logits of one step (eq. 8-9)."""
        # Only training draws: captioning does not wait for this import of a second.
        import tensorflow_probability as tfp

        # Image by image, as in `noise`.
        logits = tf.transpose(logits, [1, 0, 2])
        drawn = tfp.distributions.OneHotCategorical(
            logits=logits, dtype=logits.dtype
        ).sample(seed=tf.random.experimental.stateless_fold_in(seed, step))
        return tf.transpose(drawn, [1, 0, 2])

    def select(self, logits, *, training, seed, step):
        """Weights of the locations at one step; here one location drawn from alpha.

        Args:
            logits: `[S, B, L]`, eq. 4.
            training: `False` leaves out what only training does (semi-sampling).
            seed: int32 `[2]`, the same for all steps of a batch of captions.
            step: scalar, t; fold it into the seed.

        Returns:
            `[S, B, L]`, one-hot or a distribution.
        """
        return self.draw(logits, seed, step)

    def trace(self, network, data, seed):
        """Looks at a batch: here one pass of S samples, the locations by `select`.

        Args:
            network: a `Network`; its `trace` and `score` are the means.
            data: as `fit` takes it, with `annotations`.
            seed: int32 `[2]`.

        Returns:
            the `Trace`, and the word logits `[S, B, T, V]` behind it.
        """
        return network.trace(
            data,
            lambda e, t: self.select(e, training=True, seed=seed, step=t),
            one_hot=self.one_hot,
            samples=self.samples,
            training=True,
        )

    def surrogate(self, trace):
        """`[B]`, to be maximised: its *gradient* is the estimator, not its value."""
        raise NotImplementedError

    def update(self, trace):
        """Moves the state, after the surrogate has used it."""

    def statistics(self, trace):
        """Scalars for `fit` to show: name -> tensor."""
        return {}


def check_samples(name, samples):
    """Raises `ValueError` where two samples would have to be compared and are not."""
    if samples < 2:
        raise ValueError(
            f"Expected two samples or more for {name}. "
            f"Received: samples={samples}. Set samples=4, or choose another."
        )
