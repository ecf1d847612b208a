"""Soft attention: the expected context, deterministic (eq. 13)."""

import keras
import tensorflow as tf

from sat_tf.estimators.base import Estimator


@keras.saving.register_keras_serializable("sat_tf")
class Soft(Estimator):
    """z_t = sum_i alpha_ti a_i, trained by plain back-propagation (Xu et al. 4.2)."""

    attention = "expected"
    stochastic = False

    @property
    def unbiased_for(self):
        """The log-likelihood under expected contexts, with no variance at all."""
        return "soft_log_likelihood"

    def select(self, logits, *, training, seed, step):
        """Alpha itself."""
        return tf.nn.softmax(logits)

    def surrogate(self, trace):
        """log p(y | a) `[B]`."""
        return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, axis=-1), axis=0)
