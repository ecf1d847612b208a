"""A network of its own that foresees the reward."""

import keras
import tensorflow as tf
from toy import batch, toy

from sat_tf.estimators import Reinforce


def test_critic_learns_the_reward_and_nothing_else_learns_from_it():
    estimator = Reinforce(baseline="nvil", reward="to_go")
    model = toy(estimator)
    data, seed = batch(model, lengths=(4, 2)), tf.constant([17, 4])
    own = estimator.critic.trainable_variables
    optimizer = keras.optimizers.Adam(0.05)
    looked, _ = estimator.trace(model.network, data, seed)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape(persistent=True) as tape:
            trace = estimator._with_baseline(looked, model.network, data)
            error = tf.reduce_mean(estimator._critic_error(trace))
        others = [v for v in model.trainable_variables if "critic/" not in v.path]
        assert tape.gradient(error, others) == [None] * len(others)
        optimizer.apply(tape.gradient(error, own), own)
        return error

    optimizer.build(own)
    errors = [float(step()) for _ in range(100)]
    assert errors[-1] < 0.05 * errors[0]
