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


def build(captioner):
    """Makes the moments of a compiled captioner now, for a saved state to be put in."""
    captioner.optimizer.build(_split(captioner, captioner.trainable_variables)[0])


def apply(captioner, gradients):
    """One update of a compiled captioner.

    Args:
        captioner: a `ShowAttendTell`.
        gradients: one per trainable variable, in their order.
    """
    variables = captioner.trainable_variables
    found = {id(v): g for g, v in zip(gradients, variables, strict=True)}
    main, trunk = (
        [(found[id(v)], v) for v in part] for part in _split(captioner, variables)
    )
    optimizer = captioner.optimizer
    one_pass = tf.distribute.get_strategy().num_replicas_in_sync == 1
    move = captioner.compiled_updates if one_pass else _as_keras
    move(optimizer, main)
    if trunk:
        rate = tf.cast(optimizer.learning_rate, tf.float32) * captioner.encoder_rate
        captioner.encoder_optimizer.learning_rate.assign(rate)
        move(captioner.encoder_optimizer, trunk)


def _split(captioner, variables):
    """Those of the optimizer, and those of the trunk if it has one of its own."""
    inside = set()
    if captioner.encoder_optimizer is not None:
        inside = {id(v) for v in captioner.encoder.trainable_variables}
    main = [v for v in variables if id(v) not in inside]
    return main, [v for v in variables if id(v) in inside]


def _as_keras(optimizer, pairs):
    optimizer.apply_gradients(pairs)


class Compiled:
    """`optimizer.apply_gradients` in one pass over memory: a quarter of its time.

    Kept for all estimators of a compiled captioner, since compiling takes seconds.
    """

    def __init__(self):
        self._functions = {}

    def __call__(self, optimizer, pairs):
        """Applies (gradient, variable) pairs."""
        pairs = [(tf.convert_to_tensor(g), v) for g, v in pairs if g is not None]
        gradients, variables = zip(*pairs, strict=True)
        key = (id(optimizer), *map(id, variables))  # its function keeps them alive
        if key not in self._functions:

            @tf.function(jit_compile=True, autograph=False)
            def apply(*gradients):
                optimizer.apply_gradients(zip(gradients, variables, strict=True))

            self._functions[key] = apply
        self._functions[key](*gradients)
