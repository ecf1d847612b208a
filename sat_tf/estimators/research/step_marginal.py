"""All locations of a step at once, in the word's probability instead of its log."""

import keras
import tensorflow as tf

from sat_tf.estimators.base import Estimator
from sat_tf.estimators.reinforce import Reinforce
from sat_tf.runtime.ranges import Size, check, check_choice

CARRIES = ("expected", "sampled")


@keras.saving.register_keras_serializable("sat_tf")
class StepMarginal(Reinforce):
    """sum_t log sum_i alpha_ti p(y_t | h_{t-1}, a_i): each word's location summed out.

    Summing the caption's locations out takes L^T paths, as s_t enters h_t. Per step it
    takes L looks ahead from one state. What that is the likelihood of depends on what
    carries the state on:

    - `expected`: h_t follows from the expected context. Then the states are no random
      variables, the steps are independent, and the sum is the *exact* log-likelihood
      `step_marginal_likelihood` of this model: soft states, and a word spoken from one
      location (the exact marginal of Deng et al. 2018, who feed the soft context
      forward; Wu et al. 2018). It bounds nothing of eq. 10's model. No draws, no
      variance.
    - `sampled`: h_t follows from a location s_t ~ alpha_t. The objective
      `step_marginal_bound`, E[sum_t log sum_i alpha_ti p(y_t | s_<t, i)], is a lower
      bound of log p(y | a) of the model whose word and state look at *two* locations,
      drawn independently from the same alpha. By Jensen at every step it is at least
      the lower bound of eq. 10. It may exceed log p(y | a) of eq. 10's own model,
      where s_<t would have to be weighed by the words they explained. s_t only acts on
      the words after t, so its score is weighed by those.

    With `top_k` the sum goes over the most probable locations only, which lowers either
    objective (the sum of fewer positive terms, not normalised again).

    It costs a trace and K looks ahead, K = L or `top_k`; their word logits are K times
    a trace's: 196 locations, 64 captions of 16 words out of 2,500 take 2 GB.

    Args:
        carry: `expected` or `sampled`.
        top_k: locations in the sum; `None` for all.
        samples: S, states per word where they are sampled.
        baseline: see `Reinforce`: `none`, `moving_average` or `leave_one_out`.
    """

    settled = ("reward", "semi_sampling", "coin")

    def __init__(
        self,
        *,
        carry="expected",
        top_k=None,
        samples=1,
        baseline="moving_average",
        **kwargs,
    ):
        check_choice("carry", carry, CARRIES)
        known = ("none", "moving_average", "leave_one_out")
        check_choice("baseline", baseline, known)
        if top_k is not None:
            check(Size, top_k=top_k)
        if carry == "expected":  # nothing is drawn
            samples, baseline = 1, "none"
        super().__init__(samples=samples, reward="to_go", baseline=baseline, **kwargs)
        self.carry = carry
        self.top_k = top_k

    @classmethod
    def options(cls, carry="expected", **chosen):
        """Those of `Reinforce` only where states are drawn."""
        every = super().options(**chosen)
        return every if carry == "sampled" else every & {"carry", "top_k"}

    @property
    def attention(self):
        """The rule that carries the state in training."""
        return "expected" if self.carry == "expected" else "argmax"

    @property
    def stochastic(self):
        """Whether states are drawn."""
        return self.carry == "sampled"

    @property
    def one_hot(self):
        """Whether the locations that carry the state are draws."""
        return self.carry == "sampled"

    @property
    def unbiased_for(self):
        """The likelihood of its own model, or the bound of it; see above."""
        if self.carry == "expected":
            return "step_marginal_likelihood"
        return "step_marginal_bound" if super().unbiased_for else None

    def select(self, logits, *, training, seed, step):
        """What carries the state: alpha, or a location."""
        if self.carry == "expected":
            return tf.nn.softmax(logits)
        return self.draw(logits, seed, step)

    def trace(self, network, data, seed):
        """`log_p_word` is log sum_i alpha_ti p(y_t | h_{t-1}, a_i)."""
        trace, words = Estimator.trace(self, network, data, seed)
        annotations = trace.annotations
        if self.top_k is None:
            log_alpha = trace.log_alpha
            contexts = tf.transpose(annotations, [1, 0, 2])[:, None, :, None]
        else:
            most = min(self.top_k, network.encoder.locations)
            log_alpha, locations = tf.math.top_k(trace.log_alpha, most)
            locations = tf.transpose(locations, [1, 3, 0, 2])  # [B, K, S, T]
            contexts = tf.gather(annotations, locations, batch_dims=1)
            contexts = tf.transpose(contexts, [1, 2, 0, 3, 4])
        log_p = network.score(
            data, trace.states, contexts, embedded=trace.embedded, training=True
        )
        log_p += tf.transpose(log_alpha, [3, 0, 1, 2])
        marginal = tf.reduce_logsumexp(log_p, axis=0) * trace.mask
        return trace._replace(log_p_word=marginal), words

    def rewards(self, trace):
        """The words after t, which are what s_t acts on, `[S, B, T]` nats."""
        return tf.cumsum(trace.log_p_word, axis=-1, reverse=True, exclusive=True)

    def surrogate(self, trace):
        """The marginals, and the score of the locations that carried the state."""
        if self.stochastic:
            return super().surrogate(trace)
        return tf.reduce_mean(tf.reduce_sum(trace.log_p_word, axis=-1), axis=0)

    def statistics(self, trace):
        """As `Reinforce` where there are draws."""
        return super().statistics(trace) if self.stochastic else {}

    def get_config(self):
        """Constructor arguments."""
        config = super().get_config()
        del config["reward"]
        return {**config, "carry": self.carry, "top_k": self.top_k}
