"""How gradients move the weights: one optimizer, or one more for the encoder."""

import tensorflow as tf

_TRAINING = ("chief", "worker")  # the jobs of TF_CONFIG that do


def check_one_replica(captioner, compiling=False):
    """Raises `ValueError` where training would be spread over several devices.

    Every replica would apply the sum of all gradients of means over its own captions.

    Args:
        captioner: a `ShowAttendTell`.
        compiling: whether its optimizer is being made; `fit` may be called outside
            the scope of a strategy, which Keras then enters.
    """
    strategy = tf.distribute.get_strategy()
    for each in (captioner.strategy, strategy):
        if each.num_replicas_in_sync > 1:
            raise ValueError(
                "Expected one replica: updates are not yet right on several. "
                f"Received: {type(each).__name__} with num_replicas_in_sync="
                f"{each.num_replicas_in_sync}. Train on one device, without the "
                "strategy or with one that has a single device."
            )
    scoped = compiling or tf.distribute.has_strategy()
    if scoped and strategy is not captioner.strategy:
        raise ValueError(
            "Expected a captioner that is made, compiled and trained with one and the "
            f"same strategy. Received: {type(captioner.strategy).__name__} when it was "
            f"made, {type(strategy).__name__} now. Make and compile it inside the "
            "strategy's scope, or train without a strategy."
        )
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    workers = sum(cluster.num_tasks(job) for job in cluster.jobs if job in _TRAINING)
    if workers > 1:
        raise ValueError(
            "Expected one worker: updates are not yet right on several. "
            f"Received: TF_CONFIG with {workers} workers. Unset TF_CONFIG and train "
            "in one process."
        )


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
    """Makes the moments of a compiled captioner, of all its trainable weights."""
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
    if not optimizer.built:  # with all weights, some of which may have no gradient yet
        with tf.init_scope():  # or a graph that is traced again could not
            build(captioner)
    # A strategy moves all replicas' weights at once, which no inner function may.
    move = _as_keras if tf.distribute.has_strategy() else captioner.compiled_updates
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
    optimizer.apply_gradients([(g, v) for g, v in pairs if g is not None])


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
