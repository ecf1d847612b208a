"""A draw on the way forward, its relaxation on the way back."""

import keras
import tensorflow as tf

from sat_tf.estimators.gumbel_softmax import GumbelSoftmax


@keras.saving.register_keras_serializable("sat_tf")
class StraightThrough(GumbelSoftmax):
    """One location is looked at; the gradient is that of relaxed weights.

    Straight-through Gumbel-softmax (Jang et al. 2017).

    Forward s = one_hot(argmax(e + g)), an exact draw from alpha, so words are spoken
    as at test time; backward ds/de := d softmax((e + g) / tau)/de (Bengio et al.
    2013). This is the gradient of no objective. The target, `straight_through`:

        E_g[d log p(y | s)/ds x d softmax((e + g) / tau)/de], and for all else the
        gradient of log p(y | s) as in eq. 11,

    whose first part is the slope of log p at a vertex where eq. 11 has the difference
    between vertices. It costs one soft trace per sample.

    Args:
        samples, temperature, final_temperature, anneal_steps: see `GumbelSoftmax`.
    """

    unbiased_for = None
    target = "straight_through"

    def select(self, logits, *, training, seed, step):
        """One-hot, with the gradient of the relaxed weights."""
        soft = super().select(logits, training=training, seed=seed, step=step)
        locations = tf.shape(logits)[-1]
        hard = tf.one_hot(tf.argmax(soft, axis=-1), locations, dtype=logits.dtype)
        return hard + (soft - tf.stop_gradient(soft))  # exactly one-hot: x - x = 0
