"""Soft weights that are nearly a draw: the relaxed categorical distribution."""

import keras
import tensorflow as tf

from sat_tf.estimators import noise
from sat_tf.estimators.base import Estimator
from sat_tf.runtime.ranges import Positive, Size, check


@keras.saving.register_keras_serializable("sat_tf")
class GumbelSoftmax(Estimator):
    """Contexts under softmax((e + g) / tau) with Gumbel noise g, differentiated.

    argmax_i (e_i + g_i) is a draw from alpha (Gumbel 1954); its softmax at temperature
    tau tends to that draw as tau -> 0 and has a gradient in e (Jang et al. 2017;
    Maddison et al. 2017). That gradient is unbiased for

        E_g[log p(y | contexts under the relaxed weights, a)],

    an objective of its own, and biased for eq. 10: the less so the colder, while its
    variance grows. It costs one soft trace per sample. tau falls
    geometrically over the first updates. At test time one location is looked at.

    Args:
        samples: S, relaxed draws per caption.
        temperature, final_temperature: tau at first and from `anneal_steps` updates on.
        anneal_steps: updates.
    """

    unbiased_for = "relaxed_log_likelihood"

    def __init__(
        self,
        *,
        samples=1,
        temperature=1.0,
        final_temperature=0.5,
        anneal_steps=2000,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check(Size, samples=samples, anneal_steps=anneal_steps)
        check(Positive, temperature=temperature, final_temperature=final_temperature)
        self.samples = samples
        self.temperature = temperature
        self.final_temperature = final_temperature
        self.anneal_steps = anneal_steps
        self.steps = self.add_weight(
            shape=(),
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="steps",
        )

    def tau(self):
        """Temperature now."""
        part = tf.minimum(tf.convert_to_tensor(self.steps) / self.anneal_steps, 1.0)
        return self.temperature * (self.final_temperature / self.temperature) ** part

    def noise(self, shape, seed, step):
        """Standard Gumbel `shape`."""
        seed = tf.random.experimental.stateless_fold_in(seed, step)
        return -tf.math.log(-tf.math.log(noise.uniform(shape, seed)))

    def select(self, logits, *, training, seed, step):
        """softmax((e + g) / tau)."""
        noisy = logits + self.noise(tf.shape(logits), seed, step)
        return tf.nn.softmax(noisy / self.tau())

    def surrogate(self, trace):
        """log p(y | relaxed contexts, a) `[B]`, mean over the samples."""
        return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, axis=-1), axis=0)

    def update(self, trace):
        """One update nearer to the final temperature."""
        self.steps.assign_add(1.0)

    def statistics(self, trace):
        """The temperature."""
        return {"temperature": self.tau()}

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "samples": self.samples,
            "temperature": self.temperature,
            "final_temperature": self.final_temperature,
            "anneal_steps": self.anneal_steps,
        }
