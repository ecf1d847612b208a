"""Stochastic hard attention by the score function (eq. 8-12 and the rule after)."""

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from sat_tf.estimators.base import Estimator

tfd = tfp.distributions

BASELINES = ("none", "moving_average", "leave_one_out")
REWARDS = ("sum", "per_word", "to_go")
COINS = ("image", "step")
_COIN = 2**31 - 1  # a step no caption reaches, so the coin never shares a seed
_DECAY = 0.9


@keras.saving.register_keras_serializable("sat_tf")
class Reinforce(Estimator):
    """One location per word, drawn from alpha; REINFORCE against a baseline.

    With s ~ alpha and R the reward, the gradient of

        sum_t log p(y_t | s, a) + lambda_r (R_t - b) log p(s_t | a) + lambda_e H[s_t]

    with R and b held constant, averaged over S samples, is the paper's update rule
    (p. 5). It is unbiased for the lower bound L_s = E_s log p(y | s, a) of eq. 10
    when lambda_r is 1, lambda_e is 0, nothing is semi-sampled and the reward holds
    all that s_t can influence (`sum`, or `to_go`: only the words from t on).

    Args:
        samples: S, trajectories per caption.
        reward: `sum` of log p over the caption (the paper), its mean `per_word` (the
            authors' code), or the sum `to_go` from step t on: what s_t cannot
            change only adds variance.
        baseline: `none`; `moving_average`, b <- 0.9 b + 0.1 mean R, updated after use
            (with `to_go` one b for every number of words left); `leave_one_out`, the
            mean reward of the other S - 1 samples.
        lambda_r, lambda_e: weights of the score and the entropy term.
        semi_sampling: probability that alpha is used in place of a sample.
        coin: who shares a draw of semi-sampling: one `image` for a whole caption
            (the paper), or the whole batch at one `step` (what the authors' code
            does when it runs).
        batch_sum: sum the score and entropy terms over the batch, as the authors'
            code does, where the likelihood is averaged: lambda times B.
        baseline_steps: numbers of words left that the moving averages of `to_go`
            tell apart; longer rests share the last one.
    """

    def __init__(
        self,
        *,
        samples=1,
        reward="sum",
        baseline="moving_average",
        lambda_r=1.0,
        lambda_e=0.0,
        semi_sampling=0.0,
        coin="image",
        batch_sum=False,
        baseline_steps=64,
        **kwargs,
    ):
        super().__init__(**kwargs)
        _check("reward", reward, REWARDS)
        _check("baseline", baseline, BASELINES)
        _check("coin", coin, COINS)
        if baseline == "leave_one_out" and samples < 2:
            raise ValueError(
                "Expected two samples or more for the leave_one_out baseline. "
                f"Received: samples={samples}. Set samples=4, or another baseline."
            )
        self.samples = samples
        self.reward = reward
        self.baseline = baseline
        self.lambda_r = lambda_r
        self.lambda_e = lambda_e
        self.semi_sampling = semi_sampling
        self.coin = coin
        self.batch_sum = batch_sum
        self.baseline_steps = baseline_steps
        self.average = self.add_weight(
            shape=(baseline_steps if reward == "to_go" else 1,),
            initializer="zeros",
            trainable=False,
            aggregation="mean",
            name="baseline",
        )

    @property
    def unbiased_for(self):
        """`lower_bound` (eq. 10), or `None` when an option trades bias for variance.

        With `semi_sampling` the target is the mixture of the bound and the soft
        likelihood that the coin makes; `per_word` rewards weigh captions by length;
        `lambda_e` adds the entropy's gradient.
        """
        plain = self.lambda_r == 1 and self.lambda_e == 0 and self.semi_sampling == 0
        return "lower_bound" if plain and self.reward != "per_word" else None

    @property
    def one_hot(self):
        """True but for semi-sampling."""
        return self.semi_sampling == 0

    def select(self, logits, *, training, seed, step):
        """A one-hot sample (eq. 8-9), or alpha where the coin says so."""
        location = tfd.OneHotCategorical(logits=logits, dtype=logits.dtype).sample(
            seed=tf.random.experimental.stateless_fold_in(seed, step)
        )
        if not training or self.semi_sampling == 0:
            return location
        shape, when = ([1, tf.shape(logits)[1], 1], 0)
        if self.coin == "step":
            shape, when = ([1, 1, 1], step)
        coin_seed = tf.random.experimental.stateless_fold_in(seed, _COIN - when)
        soft = tf.random.stateless_uniform(shape, coin_seed) < self.semi_sampling
        return tf.where(soft, tf.nn.softmax(logits), location)

    def surrogate(self, trace):
        """The bracket of eq. 12 with baseline and entropy, as a scalar to derive."""
        advantage = tf.stop_gradient(self.advantage(trace))
        score = tf.reduce_sum(advantage * trace.log_p_location, axis=-1)
        entropy = tf.reduce_sum(trace.entropy, axis=-1)
        attention = self.lambda_r * score + self.lambda_e * entropy
        if self.batch_sum:
            attention *= tf.cast(tf.shape(attention)[1], attention.dtype)
        likelihood = tf.reduce_sum(trace.log_p_word, axis=-1)
        return tf.reduce_mean(likelihood + attention, axis=0)

    def rewards(self, trace):
        """R `[S, B, T]` nats."""
        total = tf.reduce_sum(trace.log_p_word, axis=-1, keepdims=True)
        if self.reward == "to_go":
            return tf.cumsum(trace.log_p_word, axis=-1, reverse=True)
        if self.reward == "per_word":
            words = tf.reduce_sum(trace.mask, axis=-1, keepdims=True)
            total /= tf.maximum(words, 1.0)
        return total * trace.mask

    def advantage(self, trace):
        """R - b `[S, B, T]` nats, 0 at padding."""
        reward = self.rewards(trace)
        return (reward - self._baseline(reward, trace.mask)) * trace.mask

    def _baseline(self, reward, mask):
        if self.baseline == "none":
            return tf.zeros_like(reward)
        if self.baseline == "leave_one_out":
            others = tf.reduce_sum(reward, axis=0, keepdims=True) - reward
            return others / (self.samples - 1)
        return tf.gather(tf.convert_to_tensor(self.average), self._slot(mask))

    def _slot(self, mask):
        """Which moving average each step uses: words left, or the only one."""
        if self.reward != "to_go":
            return tf.zeros_like(mask, tf.int32)
        left = tf.cast(tf.cumsum(mask, axis=-1, reverse=True), tf.int32)
        return tf.clip_by_value(left - 1, 0, self.baseline_steps - 1)

    def update(self, trace):
        """b <- 0.9 b + 0.1 mean R over the batch (p. 5)."""
        if self.baseline != "moving_average":
            return
        slots = tf.reshape(self._slot(trace.mask), [-1])
        # One vote per caption where all its steps share R, else one per step.
        votes = trace.mask
        if self.reward != "to_go":
            votes = tf.concat([votes[:, :1], tf.zeros_like(votes[:, 1:])], axis=1)
        reward = tf.reduce_mean(self.rewards(trace), axis=0) * votes
        size = self.average.shape[0]
        total = tf.math.unsorted_segment_sum(tf.reshape(reward, [-1]), slots, size)
        count = tf.math.unsorted_segment_sum(tf.reshape(votes, [-1]), slots, size)
        moved = _DECAY * self.average + (1 - _DECAY) * total / tf.maximum(count, 1)
        self.average.assign(tf.where(count > 0, moved, self.average))

    def statistics(self, trace):
        """Over all words: mean baseline (nats), mean and variance of the advantage."""
        words = tf.maximum(tf.reduce_sum(trace.mask), 1.0) * self.samples
        advantage = self.advantage(trace)
        baseline = (self.rewards(trace) - advantage) * trace.mask
        mean = tf.reduce_sum(advantage) / words
        return {
            "baseline": tf.reduce_sum(baseline) / words,
            "advantage": mean,
            "advantage_variance": tf.reduce_sum(trace.mask * (advantage - mean) ** 2)
            / words,
        }

    def get_config(self):
        """Constructor arguments."""
        return {
            **super().get_config(),
            "samples": self.samples,
            "reward": self.reward,
            "baseline": self.baseline,
            "lambda_r": self.lambda_r,
            "lambda_e": self.lambda_e,
            "semi_sampling": self.semi_sampling,
            "coin": self.coin,
            "batch_sum": self.batch_sum,
            "baseline_steps": self.baseline_steps,
        }


def _check(name, value, allowed):
    if value not in allowed:
        raise ValueError(
            f"Expected {name} to be one of {', '.join(allowed)}. "
            f"Received: {name}={value!r}. Choose one of them."
        )
