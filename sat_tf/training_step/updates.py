"""How gradients move the weights: one optimizer, or one more for the encoder."""

import concurrent.futures
import contextlib
import functools

import numpy as np
import tensorflow as tf

# Strategies that have their weights on other machines, whatever their replicas.
_ELSEWHERE = tf.distribute.ParameterServerStrategy, tf.distribute.TPUStrategy
_TRAINING = ("chief", "worker")  # the jobs of TF_CONFIG that do
_APART = 2**31 - 1  # between the seeds of two replicas
compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def check_strategy(captioner, compiling=False):
    """Raises `ValueError` where a captioner cannot be trained with a strategy.

    Args:
        captioner: a `ShowAttendTell`.
        compiling: whether its optimizer is being made; `fit` may be called outside
            the scope of a strategy, which Keras then enters.
    """
    strategy = tf.distribute.get_strategy()
    for each in (captioner.strategy, strategy):
        known = isinstance(each, tf.distribute.MirroredStrategy) or has_workers(each)
        several = each.num_replicas_in_sync > 1 or isinstance(each, _ELSEWHERE)
        if several and not known:
            raise ValueError(
                "Expected a MirroredStrategy for several replicas or machines. "
                f"Received: {type(each).__name__} with num_replicas_in_sync="
                f"{each.num_replicas_in_sync}. Make the captioner in the scope of a "
                "MirroredStrategy, or train on one device."
            )
    scoped = compiling or tf.distribute.has_strategy()
    if scoped and strategy is not captioner.strategy:
        raise ValueError(
            "Expected a captioner that is made, compiled and trained with one and the "
            f"same strategy. Received: {type(captioner.strategy).__name__} when it was "
            f"made, {type(strategy).__name__} now. Make and compile it inside the "
            "strategy's scope, or train without a strategy."
        )
    _check_variables(captioner)
    if has_workers(captioner.strategy):
        return
    cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver().cluster_spec()
    workers = sum(cluster.num_tasks(job) for job in cluster.jobs if job in _TRAINING)
    if workers > 1:
        raise ValueError(
            "Expected one worker without a strategy for several. "
            f"Received: TF_CONFIG with {workers} workers. Unset TF_CONFIG and train "
            "in one process, or call sat-tf train --strategy multi_worker."
        )


def has_workers(strategy):
    """Whether a strategy spreads training over processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def check_one_worker(captioner):
    """Raises `ValueError` where Keras would train on several."""
    if has_workers(captioner.strategy):
        raise ValueError(
            "Expected a captioner of one process, as Keras' fit cannot train on "
            "several workers. Received: MultiWorkerMirroredStrategy. Call sat-tf train "
            "--strategy multi_worker, or sat_tf.train."
        )


def check_one_replica(captioner):
    """Raises `ValueError` where there are several: rows come back in no order."""
    number = captioner.strategy.num_replicas_in_sync
    if number > 1:
        raise ValueError(
            "Expected one replica to predict with. "
            f"Received: num_replicas_in_sync={number}. Call generate(images), or load "
            "the captioner outside the strategy's scope."
        )


def _check_variables(captioner):
    extended = captioner.strategy.extended
    several = captioner.strategy.num_replicas_in_sync > 1
    for variable in captioner.variables if several else ():
        if not extended.variable_created_in_scope(variable.value):
            raise ValueError(
                "Expected weights that are all made inside the scope of the "
                f"captioner's {type(captioner.strategy).__name__}. Received: "
                f"{variable.path}, made outside. Make estimators, encoders and "
                "rerankers inside the scope too, or give their names."
            )


def check_known(captioner, estimator):
    """Raises `ValueError` where the optimizer knows nothing of an estimator's weights.

    Args:
        captioner: a `ShowAttendTell`, compiled or not.
        estimator: a built `Estimator` that it is to use.
    """
    optimizer = getattr(captioner, "optimizer", None)
    if optimizer is None or not optimizer.built:
        return
    known = {id(v) for v in captioner.trainable_variables}
    if any(id(v) not in known for v in estimator.trainable_variables):
        raise ValueError(
            "Expected an optimizer that knows the estimator's weights. "
            f"Received: estimator={estimator.name!r}, whose weights are newer than the "
            "optimizer. Call compile(...) with a new one before use(...), or make the "
            "captioner with this estimator and use(Soft()) for the warm-up."
        )


def seed_states(captioner):
    """The variables that all draws follow from."""
    return [v for v in captioner.variables if v.name == "seed_generator_state"]


def spread_seeds(captioner):
    """Gives every replica noise of its own; the first one's is that of one device.

    A checkpoint holds the first one's seeds, so a run resumes on any number of
    replicas.
    """
    strategy = captioner.strategy
    if strategy.num_replicas_in_sync == 1:
        return
    numbers = _numbers(strategy)
    for variable in seed_states(captioner):
        copies = strategy.experimental_local_results(variable.value)
        seed, drawn = copies[0].numpy()
        for number, copy in zip(numbers, copies, strict=True):
            own = (int(seed) + number * _APART) % 2**32
            copy.assign(np.array([own, drawn], seed.dtype))


def _numbers(strategy):
    """Of the replicas in this process, among those of all processes."""

    @tf.function(autograph=False)
    def run():
        return strategy.run(
            lambda: tf.identity(
                tf.distribute.get_replica_context().replica_id_in_sync_group
            )
        )

    return [int(number) for number in strategy.experimental_local_results(run())]


def encoder_optimizer(captioner):
    """An optimizer like the captioner's, with moments of its own for the trunk.

    Adam's step does not depend on the gradient's scale, so a factor on the gradient
    in place of one on the rate would do nothing.
    """
    config = {**captioner.optimizer.get_config(), "learning_rate": 0.0}
    with captioner.strategy.scope():
        optimizer = type(captioner.optimizer).from_config(config)
        optimizer.build(captioner.encoder.trainable_variables)
    return optimizer


def build(captioner):
    """Makes the moments of a compiled captioner, of all its trainable weights."""
    with captioner.strategy.scope():
        captioner.optimizer.build(_split(captioner, captioner.trainable_variables)[0])


def apply(captioner, gradients):
    """One update of a compiled captioner.

    Args:
        captioner: a `ShowAttendTell`.
        gradients: one per trainable variable, in their order; of the whole batch.
    """
    variables = captioner.trainable_variables
    gradients = [g if g is None else tf.convert_to_tensor(g) for g in gradients]
    found = {id(v): g for g, v in zip(gradients, variables, strict=True)}
    main, trunk = (
        [(found[id(v)], v) for v in part] for part in _split(captioner, variables)
    )
    optimizer = captioner.optimizer
    if not optimizer.built:  # with all weights, some of which may have no gradient yet
        with tf.init_scope():  # or a graph that is traced again could not
            build(captioner)
    move = captioner.compiled_updates
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


class Compiled:
    """`optimizer.apply_gradients` in one pass over memory: half of its time.

    Each replica moves its own copy of the weights and moments by the gradients of the
    whole batch, which all of them have, and so all stay alike. Keras would add up
    gradients over the replicas once more, and compile nothing.

    Kept for all estimators of a compiled captioner, since compiling takes seconds.
    """

    def __init__(self):
        self._functions = {}

    def __call__(self, optimizer, pairs):
        """Applies (gradient, variable) pairs."""
        moved = [pair for pair in pairs if pair[0] is not None]
        if not moved:
            raise ValueError(
                "Expected weights to train. Received: a captioner all of whose weights "
                "are frozen. Set trainable = True of some part, and compile again."
            )
        gradients, variables = zip(*moved, strict=True)
        replica = _replica()
        # Its function keeps them alive.
        key = (replica, id(optimizer), *map(id, variables))
        if key not in self._functions:

            @compiled
            def apply(*gradients):
                optimizer.apply_gradients(zip(gradients, variables, strict=True))

            if replica is not None:
                specs = [tf.TensorSpec(g.shape, g.dtype) for g in gradients]
                with _here_alone(optimizer, variables, replica):
                    apply = _apart(apply.get_concrete_function, *specs)
            self._functions[key] = apply
        self._functions[key](*gradients)


def _replica():
    """Its number in this process, where a strategy has several copies of weights."""
    if not tf.distribute.has_strategy():
        return None
    context = tf.distribute.get_replica_context()
    copies = len(tf.distribute.get_strategy().extended.worker_devices)
    return int(tf.get_static_value(context.replica_id_in_sync_group)) % copies


@contextlib.contextmanager
def _here_alone(optimizer, variables, replica):
    """Makes weights and an optimizer those of one replica, as if there were no other.

    Keras knows of no such thing, so its attributes are set, and set back.
    """
    strategy = tf.distribute.get_strategy()
    weights = [*variables, *optimizer.variables]
    optimizers = [optimizer, getattr(optimizer, "inner_optimizer", optimizer)]
    values = [weight._value for weight in weights]
    try:
        for weight in weights:
            copies = strategy.experimental_local_results(weight._value)
            weight._value = copies[replica]
        for each in optimizers:
            each._distribution_strategy = _apart(tf.distribute.get_strategy)
        yield
    finally:
        for weight, value in zip(weights, values, strict=True):
            weight._value = value
        for each in optimizers:
            each._distribution_strategy = strategy


def _apart(function, *arguments):
    """What a function returns in a new thread, which is in the scope of no strategy."""
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(function, *arguments).result()
