"""Locations drawn by an inference network that knows the caption."""

import keras
import tensorflow as tf

from sat_tf.estimators.reinforce import Reinforce
from sat_tf.estimators.research import inference
from sat_tf.runtime import replicas


@keras.saving.register_keras_serializable("sat_tf")
class Variational(Reinforce):
    """An inference network q(s_t | a, y) looks; alpha learns to look where it does.

    The objective is, for any q,

        E_q[sum_t log p(y_t | s, a) - KL(q_t || alpha_t)] <= log p(y | a),

    which is eq. 10 at q = alpha and log p(y | a) itself where q is the posterior (up
    to q_t not knowing s_<t). Its gradient is that of the bracket plus the score term
    sum_t (R_t - b) grad log q(s_t) with all that s_t can influence in R_t: the words
    from t on and the divergences after t, as alpha_{t+1} follows from h_t. The KL is
    exact at every step (Deng et al. 2018; Ba et al. 2015). Unbiased for that bound,
    for captioner and network together. It costs a trace and the network, the size of
    one more f_att; decoding uses alpha and never the network.

    Args:
        samples: S.
        baseline: see `Reinforce`; `soft` takes the expected contexts under q, the
            control variate of Deng et al.
    """

    settled = ("reward", "semi_sampling", "coin")

    def __init__(self, *, samples=1, baseline="moving_average", **kwargs):
        super().__init__(samples=samples, reward="to_go", baseline=baseline, **kwargs)
        self.inference = inference.Inference(name="inference")

    def build(self, annotations_shape, words_shape):
        """Creates the network's weights, and the critic's."""
        self.inference.build(annotations_shape, words_shape)
        super().build(annotations_shape, words_shape)

    @property
    def unbiased_for(self):
        """The variational bound, which contains eq. 10 as q = alpha."""
        return "variational_bound" if super().unbiased_for else None

    def trace(self, network, data, seed):
        """Locations from q."""
        log_q = inference.look(self.inference, network, data)
        trace, words = inference.trace(self, network, data, seed, log_q)
        return self._with_baseline(trace, network, data, log_q), words

    def rewards(self, trace):
        """Words from t on less divergences after t, `[S, B, T]` nats."""
        divergence = tf.cumsum(trace.divergence, axis=-1, reverse=True, exclusive=True)
        return super().rewards(trace) - divergence

    def surrogate(self, trace):
        """The bound with the score of q."""
        divergence = tf.reduce_sum(trace.divergence, axis=-1)
        return super().surrogate(trace) - tf.reduce_mean(divergence, axis=0)

    def statistics(self, trace):
        """As `Reinforce`, and KL(q_t || alpha_t) per word, nats."""
        words = trace.words * self.samples
        divergence = replicas.total(tf.reduce_sum(trace.divergence)) / words
        return {**super().statistics(trace), "divergence": divergence}

    def get_config(self):
        """Constructor arguments."""
        config = super().get_config()
        del config["reward"]
        return config
