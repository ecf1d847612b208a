"""The gradient on a frozen captioner and one batch: bias, variance, time, memory.

Nothing moves but what the estimator draws: dropout, label smoothing and the doubly
stochastic penalty are off, the weights stay, and an estimator's own state (a baseline,
a critic) is settled on other batches of the training captions before.
"""

import pathlib
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

from sat_tf.bench.exact import OBJECTIVES, small_case
from sat_tf.bench.start import make_estimator, start_with
from sat_tf.datasets import load, pipeline
from sat_tf.evaluation.evaluate import cached_inputs
from sat_tf.presets import storage
from sat_tf.runtime.caches import default_cache
from sat_tf.runtime.files import replacing
from sat_tf.runtime.memory import release_freed_memory

SETTLE = 100  # updates of a baseline: 0.9^100 of its first value is left
SMALL_DRAWS = 1000
_CRITIC_RATE = 1e-3
_ALL = ("attention", "decoder", "encoder", "standardise")
_DECODER = {"gates": "lstm", "beta": "lstm", "output": "output"}
_DECODER |= {"initial": "initial_state", "embedding": "embedding"}


class Moments:
    """Mean and total variance of vectors that come one by one (Welford 1962).

    Attributes:
        mean: `[n]`.
    """

    def __init__(self):
        self.count, self.mean, self._squares = 0, 0.0, 0.0

    def add(self, vector):
        """Takes one more."""
        vector = np.asarray(vector, "float64")
        self.count += 1
        off = vector - self.mean
        self.mean = self.mean + off / self.count
        self._squares += float(off @ (vector - self.mean))

    @property
    def variance(self):
        """Sum of the variances of the n entries: E |g - E g|^2."""
        return self._squares / (self.count - 1)

    @property
    def noise(self):
        """Variance of the mean."""
        return self.variance / self.count

    @property
    def signal(self):
        """|E g|^2, less what chance adds to the square of a mean."""
        return max(float(self.mean @ self.mean) - self.noise, 0.0)


def measure(plan, name):
    """Bias, variance, time and memory of one estimator's gradient.

    The variance is that of the gradient of the batch's mean loss, summed over the
    group; `logits` is the group of the location logits e_ti, by a bias on each.

    Args:
        plan: a `Plan`.
        name: a key of `variants`.

    Returns:
        `objective`, the one whose gradient bias is measured against: what the estimator
        names, or eq. 10's bound where it names none; `unbiased`, whether it names one;
        `ms`, median time of a gradient; `memory_mb`, growth of the process's peak
        memory from the first (Linux only); `groups`: size, variance, noise (variance
        of the mean), signal (squared norm of the mean) of each; `small`: `bias` and
        `noise` on the small case, as shares of the exact gradient's norm (an unbiased
        estimator's bias is about its noise). The mean gradients by the logits and by
        f_att are left in `gradients/NAME.npz`, for `report`.
    """
    keras.utils.set_random_seed(17)
    estimator = make_estimator(plan, name)
    captioner = start_with(plan, estimator, _ALL, dropout=0.0, input_dropout=0.0)
    initial_state = captioner.network.decoder.initial_state
    if hasattr(initial_state, "dropout"):
        initial_state.dropout = 0.0
    data, others = _batches(plan, captioner)
    derive = deriving(captioner, data, lambda data: captioner.loss_of(data)[0])
    memory = _memory_growth(lambda: [derive() for _ in range(3)])
    settle(captioner, others.take(SETTLE))
    moments, seconds = draw(derive, plan.draws)
    path = pathlib.Path(plan.out) / "gradients" / f"{name}.npz"
    means = {g: np.float32(moments[g].mean) for g in ("logits", "attention")}
    with replacing(path) as beside, open(beside, "wb") as file:
        np.savez(file, **means)
    return {
        "objective": estimator.unbiased_for or "lower_bound",
        "unbiased": estimator.unbiased_for is not None,
        "ms": 1e3 * statistics.median(seconds),
        "memory_mb": memory,
        "groups": {
            group: {
                "size": _size(captioner, data, group),
                "variance": found.variance,
                "noise": found.noise,
                "signal": found.signal,
            }
            for group, found in moments.items()
        },
        "small": bias_on_small_case(make_estimator(plan, name)),
    }


def bias_on_small_case(estimator):
    """`bias` and `noise` of each group against enumeration, as shares of its norm.

    Empty where the estimator names an objective that is not in `OBJECTIVES`.
    """
    name = estimator.unbiased_for or "lower_bound"
    if name not in OBJECTIVES:
        return {}
    captioner, data = small_case(estimator)
    objective = OBJECTIVES[name]
    exact = deriving(captioner, data, lambda data: -objective(captioner, data))()
    settle(captioner, [data] * SETTLE)
    derive = deriving(captioner, data, lambda data: captioner.loss_of(data)[0])
    moments, _ = draw(derive, SMALL_DRAWS)
    result = {}
    for group, found in moments.items():
        off, norm = found.mean - exact[group], np.linalg.norm(exact[group])
        result[group] = {
            "bias": float(np.linalg.norm(off) / norm),
            "noise": float(np.sqrt(found.noise) / norm),
        }
    return result


def deriving(captioner, data, scalar):
    """A function that derives `scalar(data)`: group -> gradient, one flat array each.

    The groups are `logits`, by a bias on every location's logit, the same for all
    samples; and the captioner's trainable weights: `attention`, `lstm`, `output`,
    `initial_state`, `embedding`, `encoder`. An estimator's own weights are no group.
    """
    groups = _parameter_groups(captioner)
    shape = [*data["tokens"].shape, captioner.encoder.locations]

    @tf.function(autograph=False)
    def gradients():
        sources = {"logits": [tf.zeros(shape)], **groups}
        with tf.GradientTape() as tape:
            tape.watch(sources["logits"])
            value = scalar({**data, "location_bias": sources["logits"][0]})
        found = tape.gradient(value, sources)
        return {
            group: tf.concat(
                [_flat(*pair) for pair in zip(found[group], variables, strict=True)], 0
            )
            for group, variables in sources.items()
        }

    return lambda: {group: x.numpy() for group, x in gradients().items()}


def _flat(gradient, source):
    if gradient is None:
        return tf.zeros([np.prod(source.shape, dtype=int)])
    return tf.reshape(tf.convert_to_tensor(gradient), [-1])


def draw(derive, draws):
    """`Moments` of each group's gradient, and the seconds that every draw took."""
    moments, seconds = {}, []
    for _ in range(draws):
        began = time.perf_counter()
        gradient = derive()
        seconds.append(time.perf_counter() - began)
        for group, vector in gradient.items():
            moments.setdefault(group, Moments()).add(vector)
    return moments, seconds


def settle(captioner, batches):
    """Brings the estimator's own state and weights to where training has them."""
    estimator = captioner.estimator
    if not (estimator.stochastic and estimator.variables):
        return  # there is nothing to settle
    own = estimator.trainable_variables
    optimizer = keras.optimizers.Adam(_CRITIC_RATE)
    optimizer.build(own)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(data):
        with tf.GradientTape() as tape:
            loss, trace = captioner.loss_of(data)
        if own:
            optimizer.apply_gradients(zip(tape.gradient(loss, own), own, strict=True))
        estimator.update(trace)

    for data in batches:
        step(data)


def _batches(plan, captioner):
    """The batch to measure on, and those that follow it."""
    split = load(plan.data, "train", data_dir=plan.data_dir, cache_dir=plan.cache_dir)
    inputs, key = cached_inputs(captioner, split, plan.cache_dir or default_cache())
    schedule = pipeline.Schedule(
        split.captions,
        captioner.vocabulary,
        batch_size=plan.recipe.data.batch_size,
        seed=17,
        together=key == "image",
    )
    batches = pipeline.training_batches(inputs, schedule, key=key)
    return next(iter(batches)), batches.skip(1)


def _parameter_groups(captioner):
    trainable = {id(v) for v in captioner.trainable_variables}
    groups = {}
    for name, variable in storage.named_weights(captioner).items():
        part, leaf = name.split("/")[:2]
        group = _DECODER[leaf.split("_")[0]] if part == "decoder" else part
        if id(variable) in trainable and part != "estimator":
            groups.setdefault(group, []).append(variable)
    return groups


def _size(captioner, data, group):
    """Entries of a group's gradient, but for the logits at padding."""
    if group == "logits":
        words = int(np.count_nonzero(data["tokens"]))
        return words * captioner.encoder.locations
    variables = _parameter_groups(captioner)[group]
    return sum(int(np.prod(v.shape)) for v in variables)


def _memory_growth(work):
    """Megabytes by which `work` raises this process's resident memory at its peak."""
    status = pathlib.Path("/proc/self/status")
    if not status.is_file():
        work()
        return None

    def peak():
        (line,) = (x for x in status.read_text().splitlines() if "VmHWM" in x)
        return int(line.split()[1]) / 1024

    # Of what loading or caching freed, `work` would be served without growing.
    release_freed_memory()
    # Forgets their peak, too; the one in `getrusage` cannot be, and a process even
    # inherits it from the one that started it.
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    work()
    return max(peak() - before, 0.0)  # the kernel's count is off by some pages
