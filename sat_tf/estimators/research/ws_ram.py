"""Self-normalised importance weights: the locations that explain the words teach."""

import keras
import tensorflow as tf

from sat_tf.estimators.base import Estimator, check_samples
from sat_tf.estimators.research import inference
from sat_tf.runtime.ranges import check_choice

PROPOSALS = ("prior", "inference")


@keras.saving.register_keras_serializable("sat_tf")
class WsRam(Estimator):
    """S samples weighted by how well they explain the caption (wake-sleep).

    Fisher's identity: grad log p(y | a) = E[grad log p(y, s | a)] over the posterior
    p(s | y, a). With s^k ~ q and w_k = p(y, s^k | a) / q(s^k) that mean is estimated
    by the self-normalised

        sum_k v_k grad log p(y, s^k | a),    v_k = w_k / sum_j w_j.

    No baseline is needed, as weights are bounded, but they are a ratio: with a finite
    S the expectation of this sum (the target, `self_normalised`) differs from grad
    log p(y | a) by O(1 / S). With q = alpha, w_k is p(y | s^k, a), and v_k - 1 / S
    may weigh the score without moving its mean. An inference network is trained by
    sum_k (v_k - 1 / S) grad log q(s^k), which brings it to the posterior (the wake
    phase of Bornschein & Bengio 2015; Ba, Salakhutdinov, Grosse & Frey 2015). It costs
    S traces, as `Rloo` does.

    Args:
        samples: S, two or more.
        proposal: where the locations are drawn: alpha, the `prior`, or an `inference`
            network, see `Inference`.
    """

    one_hot = True
    target = "self_normalised"

    def __init__(self, *, samples=4, proposal="prior", **kwargs):
        super().__init__(**kwargs)
        check_choice("proposal", proposal, PROPOSALS)
        check_samples("ws_ram", samples)
        self.samples = samples
        self.proposal = proposal
        self.inference = None
        if proposal == "inference":
            self.inference = inference.Inference(name="inference")

    def build(self, annotations_shape, words_shape):
        """Creates the network's weights."""
        if self.inference is not None:
            self.inference.build(annotations_shape, words_shape)
        self.built = True

    def trace(self, network, data, seed):
        """Locations from alpha, or from q."""
        if self.inference is None:
            return super().trace(network, data, seed)
        log_q = inference.look(self.inference, network, data)
        return inference.trace(self, network, data, seed, log_q)

    def surrogate(self, trace):
        """sum_k v_k log p(y, s^k | a), and the score of q."""
        log_p = tf.reduce_sum(trace.log_p_word + trace.log_p_location, axis=-1)
        log_q = tf.reduce_sum(trace.log_drawn, axis=-1)
        share = tf.stop_gradient(tf.nn.softmax(log_p - log_q, axis=0))
        explained = log_p if self.inference is None else log_p + log_q
        # The last term's gradient has the mean zero: E_q[grad log q] = 0.
        return tf.reduce_sum(share * explained, axis=0) - tf.reduce_mean(log_q, axis=0)

    def get_config(self):
        """Constructor arguments."""
        config = {"samples": self.samples, "proposal": self.proposal}
        return {**super().get_config(), **config}
