"""A draw on the way forward, a second-order step on the way back."""

import keras
import tensorflow as tf

from sat_tf.estimators.base import Estimator
from sat_tf.runtime.ranges import Positive, Size, check

_LEAST = 1e-30  # a share that underflowed has a logarithm all the same


@keras.saving.register_keras_serializable("sat_tf")
class Reinmax(Estimator):
    """Straight-through, exact where log p is quadratic in the weights (ReinMax).

    Forward s, a draw from alpha; backward, with pi = (s + softmax(e / tau)) / 2 and
    C(p) = diag(p) - p p^T, the Jacobian of a softmax,

        ds/de := 2 C(pi) - C(alpha) / 2

    (Liu et al. 2023). Straight-through takes log p(y | s) to be linear between the
    vertices; this is Heun's method for the same difference, and at tau = 1 its mean is
    the exact gradient wherever log p is quadratic there. It is still the gradient of
    no objective. The target, `reinmax`:

        E_s[d log p(y | s)/ds x ds/de], and for all else the gradient of log p(y | s)
        as in eq. 11.

    It costs one soft trace per sample, as straight-through does.

    Args:
        samples: S, locations drawn per word and caption.
        temperature: tau; above 1, less variance and more bias.
    """

    target = "reinmax"

    def __init__(self, *, samples=1, temperature=1.0, **kwargs):
        super().__init__(**kwargs)
        check(Size, samples=samples)
        check(Positive, temperature=temperature)
        self.samples = samples
        self.temperature = temperature

    def select(self, logits, *, training, seed, step):
        """One-hot, with the gradient of the second-order step."""
        drawn = self.draw(logits, seed, step)
        pi = (drawn + tf.nn.softmax(logits / self.temperature)) / 2
        # A softmax that is pi here and moves as the logits do.
        moved = logits + tf.stop_gradient(tf.math.log(tf.maximum(pi, _LEAST)) - logits)
        relaxed = 2 * tf.nn.softmax(moved) - tf.nn.softmax(logits) / 2
        return drawn + (relaxed - tf.stop_gradient(relaxed))  # exactly one-hot

    def surrogate(self, trace):
        """log p(y | s, a) `[B]`, mean over the samples."""
        return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, axis=-1), axis=0)

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "samples": self.samples,
            "temperature": self.temperature,
        }
