"""Stochastic hard attention against its own other samples."""

import keras

from sat_tf.estimators.reinforce import Reinforce


@keras.saving.register_keras_serializable("sat_tf")
class Rloo(Reinforce):
    """S samples per caption, each judged against the mean of the others (RLOO).

    `Reinforce` with b_k = 1 / (S - 1) sum_{j != k} R_j. The other samples are drawn
    independently, so E[b_k grad log p(s^k | a)] = 0: no critic and nothing to settle.
    Unbiased for the lower bound of eq. 10 (Kool, van Hoof & Welling 2019). It costs S
    traces that share their encoder and their words.

    Args:
        samples: S, two or more.
        reward: `sum`, `per_word` or `to_go`, see `Reinforce`.
        **kwargs: the other options of `Reinforce`, but for the baseline.
    """

    settled = ("baseline",)

    def __init__(self, *, samples=4, reward="sum", **kwargs):
        super().__init__(
            samples=samples, reward=reward, baseline="leave_one_out", **kwargs
        )

    def get_config(self):
        """Constructor arguments."""
        config = super().get_config()
        del config["baseline"]
        return config
