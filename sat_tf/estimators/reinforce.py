"""Stochastic hard attention by the score function (eq. 8-12 and the rule after)."""

import keras
import tensorflow as tf

from sat_tf.estimators.base import Estimator, check_samples
from sat_tf.estimators.critic import Critic
from sat_tf.runtime import replicas
from sat_tf.runtime.ranges import Share, Size, Weight, check, check_choice

BASELINES = ("none", "moving_average", "leave_one_out", "soft", "nvil")
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
            (with `to_go` one b for every number of words left), from the first batch's
            mean on, which judges that batch too; `leave_one_out`, the
            mean reward of the other S - 1 samples (Kool et al. 2019); `soft`, the
            reward of the same steps under expected contexts (Deng et al. 2018), for
            one more pass forward; `nvil`, the moving average and what a small network
            reads from the image and the caption (Mnih & Gregor 2014), see `Critic`.
            None of them knows the location it judges (but for that first batch), and
            E[grad log p(s_t | a)] = 0, so none moves the mean.
        normalise_advantage: divide R - b by its running root mean square, where that
            is above 1 nat (Mnih & Gregor 2014): the score term's weight then is
            lambda_r over it.
        lambda_r, lambda_e: weights of the score and the entropy term; `target` says
            what the gradient is in expectation where they bias it.
        semi_sampling: probability that alpha is used in place of a sample.
        coin: who shares a draw of semi-sampling: one `image` for a whole caption
            (the paper), or the whole batch at one `step` (what the authors' code
            does when it runs; of several replicas each has its own).
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
        normalise_advantage=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_choice("reward", reward, REWARDS)
        check_choice("baseline", baseline, BASELINES)
        check_choice("coin", coin, COINS)
        check(Size, samples=samples, baseline_steps=baseline_steps)
        check(Weight, lambda_r=lambda_r, lambda_e=lambda_e)
        check(Share, semi_sampling=semi_sampling)
        if semi_sampling and "semi_sampling" in self.settled:
            raise ValueError(
                f"Expected semi_sampling=0 for {type(self).__name__}, whose locations "
                f"are always drawn. Received: semi_sampling={semi_sampling}. "
                "Leave it out, or choose reinforce or rloo."
            )
        if baseline == "leave_one_out":
            check_samples("the leave_one_out baseline", samples)
        self.samples = samples
        self.reward = reward
        self.baseline = baseline
        self.lambda_r = lambda_r
        self.lambda_e = lambda_e
        self.semi_sampling = semi_sampling
        self.coin = coin
        self.batch_sum = batch_sum
        self.baseline_steps = baseline_steps
        self.normalise_advantage = normalise_advantage
        self.average = self.add_weight(
            shape=(baseline_steps if reward == "to_go" else 1,),
            initializer="zeros",
            trainable=False,
            aggregation="mean",
            name="baseline",
        )
        self.critic = Critic(name="critic") if baseline == "nvil" else None
        self.variance = None
        if normalise_advantage or baseline == "nvil":
            self.variance = self.add_weight(
                shape=(),
                initializer="ones",
                trainable=False,
                aggregation="mean",
                name="variance",
            )

    def build(self, annotations_shape, words_shape):
        """Creates the critic's weights."""
        if self.critic is not None:
            self.critic.build(annotations_shape, words_shape)
        self.built = True

    @property
    def unbiased_for(self):
        """`lower_bound` (eq. 10), or `None` when an option trades bias for variance."""
        plain = self.lambda_r == 1 and self.lambda_e == 0 and self.semi_sampling == 0
        plain = plain and not self.normalise_advantage and not self.batch_sum
        return "lower_bound" if plain and self.reward != "per_word" else None

    @property
    def target(self):
        """`lower_bound`, `update_rule` or `semi_sampling`.

        `update_rule`: E[grad log p(y | s, a) + w R grad log p(s | a) + lambda_e grad H]
        with w = lambda_r, times B with `batch_sum`, over the advantage's size with
        `normalise_advantage`, and R as `reward` says. `semi_sampling`: the mixture of
        this and of the gradient of the soft likelihood that the coins make.
        """
        if self.semi_sampling:
            return "semi_sampling"
        return self.unbiased_for or "update_rule"

    @property
    def one_hot(self):
        """True but for semi-sampling."""
        return self.semi_sampling == 0

    def select(self, logits, *, training, seed, step):
        """A one-hot sample (eq. 8-9), or alpha where the coin says so."""
        location = self.draw(logits, seed, step)
        if not training or self.semi_sampling == 0:
            return location
        shape, when = ([1, tf.shape(logits)[1], 1], 0)
        if self.coin == "step":
            shape, when = ([1, 1, 1], step)
        coin_seed = tf.random.experimental.stateless_fold_in(seed, _COIN - when)
        soft = tf.random.stateless_uniform(shape, coin_seed) < self.semi_sampling
        return tf.where(soft, tf.nn.softmax(logits), location)

    def trace(self, network, data, seed):
        """As usual, and what the baseline needs besides."""
        trace, words = super().trace(network, data, seed)
        return self._with_baseline(trace, network, data), words

    def _with_baseline(self, trace, network, data, log_q=None):
        if self.baseline == "soft":

            def expected(logits, step):
                known = None if log_q is None else tf.exp(log_q[:, :, step])
                return tf.nn.softmax(logits) if known is None else known

            soft = network.trace(data, expected)[0]._replace(log_q=log_q)
            return trace._replace(baseline=tf.stop_gradient(self.rewards(soft)))
        if self.baseline == "nvil":
            annotations = network.annotations_of(data)
            words = network.decoder.embed(tf.cast(data["tokens"], tf.int32))
            residual = self._size() * self.critic(annotations, words)[None]
            return trace._replace(baseline=self._moving_average(trace) + residual)
        return trace

    def surrogate(self, trace):
        """The bracket of eq. 12 with baseline and entropy, as a scalar to derive."""
        advantage = tf.stop_gradient(self.advantage(trace))
        score = tf.reduce_sum(advantage * trace.log_drawn, axis=-1)
        entropy = tf.reduce_sum(trace.entropy, axis=-1)
        attention = self.score_weight(trace) * score
        attention += self.lambda_e * self._summed(trace) * entropy
        likelihood = tf.reduce_sum(trace.log_p_word, axis=-1)
        total = tf.reduce_mean(likelihood + attention, axis=0)
        return total - self._critic_error(trace)

    def score_weight(self, trace):
        """What the score term is multiplied by: lambda_r, as the options change it."""
        size = self._size() if self.normalise_advantage else 1.0
        return self.lambda_r / size * self._summed(trace)

    def _summed(self, trace):
        """The captions of the batch where the mean over them is to be a sum, else 1."""
        return trace.captions if self.batch_sum else 1.0

    def _critic_error(self, trace):
        """Half the mean square of (R - b) / size `[B]`, for the critic alone."""
        if self.critic is None:
            return 0.0
        error = tf.stop_gradient(self.rewards(trace)) - trace.baseline
        error = tf.square(error * trace.mask / self._size())
        words = tf.maximum(tf.reduce_sum(trace.mask, axis=-1), 1.0)
        return 0.5 * tf.reduce_mean(tf.reduce_sum(error, axis=-1), axis=0) / words

    def _size(self):
        """Running root mean square of R - b, nats, 1 or more."""
        return tf.sqrt(tf.maximum(tf.convert_to_tensor(self.variance), 1.0))

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
        return (reward - self._baseline(reward, trace)) * trace.mask

    def _baseline(self, reward, trace):
        if trace.baseline is not None:
            return trace.baseline
        if self.baseline == "none":
            return tf.zeros_like(reward)
        if self.baseline == "leave_one_out":
            return leave_one_out(reward)
        return self._moving_average(trace)

    def _moving_average(self, trace):
        average = self._begun(self._batch_means(trace)[0])
        return tf.gather(tf.stop_gradient(average), self._slot(trace.mask))

    def _begun(self, means):
        """The moving averages; those that no batch has moved yet start at its mean."""
        # 0 nats is the mean of nothing: it would say that every word was certain.
        average = tf.convert_to_tensor(self.average)
        return tf.where(average == 0, means, average)

    def _slot(self, mask):
        """Which moving average each step uses: words left, or the only one."""
        if self.reward != "to_go":
            return tf.zeros_like(mask, tf.int32)
        left = tf.cast(tf.cumsum(mask, axis=-1, reverse=True), tf.int32)
        return tf.clip_by_value(left - 1, 0, self.baseline_steps - 1)

    def update(self, trace):
        """b <- 0.9 b + 0.1 mean R over the batch (p. 5), and the variance so too."""
        if self.variance is not None:
            square = tf.reduce_mean(self.advantage(trace) ** 2, axis=0)
            now = replicas.total(tf.reduce_sum(square)) / trace.words
            self.variance.assign(_DECAY * self.variance + (1 - _DECAY) * now)
        if self.baseline in ("moving_average", "nvil"):
            self._update_average(trace)

    def _update_average(self, trace):
        means, count = self._batch_means(trace)
        moved = _DECAY * self._begun(means) + (1 - _DECAY) * means
        self.average.assign(tf.where(count > 0, moved, self.average))

    def _batch_means(self, trace):
        """Mean reward of the batch for each moving average, and of how many."""
        slots = tf.reshape(self._slot(trace.mask), [-1])
        # One vote per caption where all its steps share R, else one per step.
        votes = trace.mask
        if self.reward != "to_go":
            votes = tf.concat([votes[:, :1], tf.zeros_like(votes[:, 1:])], axis=1)
        reward = tf.reduce_mean(self.rewards(trace), axis=0) * votes
        size = self.average.shape[0]
        total = tf.math.unsorted_segment_sum(tf.reshape(reward, [-1]), slots, size)
        count = tf.math.unsorted_segment_sum(tf.reshape(votes, [-1]), slots, size)
        total, count = replicas.total((total, count))
        return total / tf.maximum(count, 1), count

    def statistics(self, trace):
        """Over all words: mean baseline (nats), mean and variance of the advantage."""
        words = trace.words * self.samples
        advantage = self.advantage(trace)
        baseline = (self.rewards(trace) - advantage) * trace.mask
        sums = tf.reduce_sum(baseline), tf.reduce_sum(advantage)
        baseline, mean = (each / words for each in replicas.total(sums))
        square = tf.reduce_sum(trace.mask * (advantage - mean) ** 2)
        return {
            "baseline": baseline,
            "advantage": mean,
            "advantage_variance": replicas.total(square) / words,
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
            "normalise_advantage": self.normalise_advantage,
        }


def leave_one_out(values):
    """Mean of the other S - 1 samples, `[S, ..]` as given."""
    others = tf.reduce_sum(values, axis=0, keepdims=True) - values
    return others / tf.cast(tf.shape(values)[0] - 1, values.dtype)
