"""The importance-weighted bound of S samples, without a critic."""

import keras
import tensorflow as tf

from sat_tf.estimators.base import Estimator, check_samples
from sat_tf.estimators.reinforce import leave_one_out


@keras.saving.register_keras_serializable("sat_tf")
class Vimco(Estimator):
    """S samples speak for one another: a tighter bound than eq. 10 (VIMCO).

    With w_k = p(y | s^k, a) and s^k ~ alpha the objective is

        E[log 1/S sum_k w_k],    L_s <= it <= log p(y | a), growing with S

    (Burda et al. 2016). Its gradient is that of the bracket, sum_k w_k / sum_j w_j
    grad log w_k, plus E[sum_k bracket x grad log p(s^k | a)]. From the bracket sample
    k may subtract the bracket in which log w_k is the mean of the others' log w, as
    that does not depend on s^k (Mnih & Rezende 2016). What is left is what
    this sample alone added. It costs S traces, as `Rloo` does.

    Args:
        samples: S, two or more.
    """

    one_hot = True
    unbiased_for = "importance_weighted_bound"

    def __init__(self, *, samples=4, **kwargs):
        super().__init__(**kwargs)
        check_samples("vimco", samples)
        self.samples = samples

    def surrogate(self, trace):
        """The bound, and each sample's score times what it added to it."""
        log_w = tf.reduce_sum(trace.log_p_word, axis=-1)
        bound = _log_mean(log_w, axis=0)
        own = tf.eye(self.samples, dtype=tf.bool)[..., None]  # [k, j, 1]
        without = tf.where(own, leave_one_out(log_w)[:, None], log_w[None])
        added = tf.stop_gradient(bound - _log_mean(without, axis=1))
        log_p = tf.reduce_sum(trace.log_p_location, axis=-1)
        return bound + tf.reduce_sum(added * log_p, axis=0)

    def get_config(self):
        """Constructor arguments."""
        return {**super().get_config(), "samples": self.samples}


def _log_mean(log_w, axis):
    number = tf.cast(tf.shape(log_w)[axis], log_w.dtype)
    return tf.reduce_logsumexp(log_w, axis=axis) - tf.math.log(number)
