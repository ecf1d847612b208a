"""The score function with a control variate from the relaxation."""

import keras
import tensorflow as tf

from sat_tf.estimators import noise
from sat_tf.estimators.reinforce import Reinforce
from sat_tf.runtime.ranges import check_choice


@keras.saving.register_keras_serializable("sat_tf")
class Rebar(Reinforce):
    """Reinforce, less what a relaxed look would have scored, plus its slope (REBAR).

    Let c_t(z) = log p(y_t | s_<t, softmax(z / tau)) be the word's score under a relaxed
    look from the very state h_{t-1} that the draws before t led to, z = log alpha_t + g
    with Gumbel noise g and s_t = one_hot(argmax z). Given s_<t,

        E[c_t(z') grad log p(s_t)] = grad E[c_t(z)] - E[grad c_t(z')],  z' ~ p(z | s_t),

    with the gradients on the right taken by reparameterisation: of z at fixed g, of z'
    at fixed noise v through the conditional distribution (Tucker et al. 2017; for
    categories Grathwohl et al. 2018). Taking the left from the score term
    and adding the right leaves the mean alone: unbiased for the lower bound of eq. 10,
    at any tau. c_t knows this step's location, which no baseline may. A relaxed
    *caption* could not be used: locations before t enter h_{t-1} as draws, and those
    jump.

    z and z' share their value (g is what v makes of s_t), so c_t is evaluated once;
    the words after t get the ordinary baseline of step t + 1. It costs one trace and
    one `score`, forward and back.

    Args:
        samples: S.
        baseline: see `Reinforce`, for the words after t; any but `nvil`.
        temperature: tau, of the control variate alone.
    """

    settled = ("reward", "semi_sampling", "coin")

    def __init__(
        self, *, samples=1, baseline="moving_average", temperature=1.0, **kwargs
    ):
        known = ("none", "moving_average", "leave_one_out", "soft")
        check_choice("baseline", baseline, known)
        super().__init__(samples=samples, reward="to_go", baseline=baseline, **kwargs)
        self.temperature = temperature

    def trace(self, network, data, seed):
        """As `Reinforce`; the baseline holds c_t, the correction its two slopes."""
        trace, words = super().trace(network, data, seed)
        baseline = self.rewards(trace) - self.advantage(trace)
        later = tf.pad(baseline[..., 1:], [[0, 0], [0, 0], [0, 1]])
        drawn = self.noise(tf.shape(trace.weights), seed)
        z = conditional(trace.log_alpha, trace.weights, drawn)
        score, slope = self._control(network, data, trace, tf.stop_gradient(z))
        correction = tf.reduce_sum(slope * (trace.log_alpha - z), axis=-1)
        return trace._replace(
            baseline=score + tf.stop_gradient(later),
            correction=correction * trace.mask,
        ), words

    def _control(self, network, data, trace, z):
        """c_t `[S, B, T]` and its slope in z `[S, B, T, L]`, both held constant."""
        annotations, embedded, *states = (
            tf.stop_gradient(x)
            for x in (trace.annotations, trace.embedded, *trace.states)
        )
        with tf.GradientTape() as tape:
            tape.watch(z)
            weights = tf.nn.softmax(z / self.temperature)
            weights = tf.cast(weights, annotations.dtype)
            contexts = tf.einsum("sbtl,bld->sbtd", weights, annotations)
            score = network.score(
                data, states, contexts[None], embedded=embedded, training=True
            )[0]
        return tf.stop_gradient(score), tf.stop_gradient(tape.gradient(score, z))

    def noise(self, shape, seed):
        """Standard exponential `shape`, `[S, B, T, L]`."""
        samples, images, steps, locations = tf.unstack(shape)
        uniform = noise.by_step(
            lambda _, seed: noise.uniform([samples, images, locations], seed),
            tf.random.experimental.stateless_fold_in(seed, -1),
            steps,
        )
        return -tf.math.log(tf.transpose(uniform, [1, 2, 0, 3]))

    def surrogate(self, trace):
        """As `Reinforce` with c_t in the baseline, and the slopes that pay for it."""
        correction = tf.reduce_sum(trace.correction, axis=-1)
        correction = self.score_weight(trace) * tf.reduce_mean(correction, axis=0)
        return super().surrogate(trace) + correction

    def get_config(self):
        """Constructor arguments."""
        config = {**super().get_config(), "temperature": self.temperature}
        del config["reward"]
        return config


def conditional(log_alpha, location, noise):
    """z' ~ p(z | s), z = log alpha + Gumbel, as a function of alpha and of noise.

    The largest of z is a standard Gumbel whatever the location, and the others are cut
    off at it: exp(-z_k) = v_k at the location and exp(-z_i) = v_i / alpha_i + v_k
    elsewhere.

    Args:
        log_alpha: `[.., L]` nats. location: one-hot `[.., L]`.
        noise: standard exponential `[.., L]`.
    """
    log_v = tf.math.log(noise)
    top = tf.reduce_sum(location * log_v, axis=-1, keepdims=True)
    # log(e^x + e^y) with the larger taken out.
    rest = top + tf.nn.softplus(log_v - log_alpha - top)
    return -tf.where(location > 0, top, rest)
