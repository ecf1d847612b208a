"""What a captioner has learned, against the wall time of its training.

All runs of a seed start alike: with the encoder of the start, frozen and its features
computed once, and with the same fresh attention and decoder (or, with `keep_decoder`,
the start's own). So the time is spent on what the estimators differ in, where to look
and what to say, and no estimator profits from a start that another one made; but
`recommended` is a recipe, and its time begins with its recipe's share of warm-up. The
learning rate is constant: a schedule would have to know how many updates fit.

The clock counts what a user would wait for, batch by batch: reading, the update, its
result. It does not count tracing (done once before, and taken back) nor evaluation.
"""

import dataclasses
import math
import time

import keras
import numpy as np
import tensorflow as tf

from sat_tf.bench.start import (
    RECOMMENDED,
    make_estimator,
    start_with,
    warm_up_epochs,
)
from sat_tf.datasets import load, pipeline
from sat_tf.estimators import Soft
from sat_tf.evaluation import captions as metrics
from sat_tf.evaluation import looks
from sat_tf.evaluation.evaluate import cached_inputs, predict, scene_scores
from sat_tf.runtime.caches import default_cache
from sat_tf.runtime.memory import keep_freed_memory
from sat_tf.training.building import make_optimizer
from sat_tf.training.stages import Plan
from sat_tf.training_step.updates import build

EVALUATIONS = 12  # per run, at equal distances
JUDGED = 250  # validation images at most


def learn(plan, name, seed):
    """One learning run.

    Args:
        plan: a `Plan`.
        name: a key of `variants`.
        seed: of the fresh weights, the order of the captions and the draws.

    Returns:
        `attention`, the location rule it is judged by, the estimator's own;
        `diverged`, whether the loss ceased to be a number; `curve`: rows of `seconds`,
        `updates`, `log_likelihood` (nats per word of the validation captions) and the
        scores of the captions made: `pointing_accuracy` and `caption_accuracy` on
        `scenes`, else `bleu_4`; `looks`, where it looks in the end, see `_looks`.
    """
    keep_freed_memory()
    kept = ["encoder", "standardise"]
    if plan.keep_decoder:
        kept += ["attention", "decoder"]
    keras.utils.set_random_seed(seed)
    captioner = start_with(plan, make_estimator(plan, name), kept)
    estimator = captioner.estimator
    if captioner.encoder.network is not None:
        captioner.encoder.network.trainable = False
    _compile(captioner, plan.recipe)
    batches = _training_batches(plan, captioner, seed)
    judged = _judged(plan, captioner)
    judge = _judge(plan, captioner, *judged)
    warm_up, soft = _warm_up_seconds(plan, estimator, name), Soft()
    used = [soft, estimator] if warm_up else [estimator]
    steps = {each: _traced_step(captioner, each, batches) for each in used}
    curve = [{"seconds": 0.0, "updates": 0, **judge()}]
    seconds, updates, finite = 0.0, 0, True
    iterator = iter(batches)
    for mark in np.linspace(0, 60 * plan.minutes, EVALUATIONS + 1)[1:]:
        while seconds < mark and finite:
            began = time.perf_counter()
            now = soft if seconds < warm_up else estimator
            captioner.use(now)
            loss = float(steps[now](next(iterator))["loss"])
            seconds += time.perf_counter() - began
            updates += 1
            finite = math.isfinite(loss)
        point = {"seconds": seconds, "updates": updates, **judge()}
        # The loss was taken before the update, which may have been no number itself.
        finite = finite and math.isfinite(point["log_likelihood"])
        if not finite:
            break
        curve.append(point)
    return {
        "attention": captioner.options().attention,
        "diverged": not finite,
        "curve": curve,
        "looks": _looks(captioner, *judged) if finite else {},
    }


def _compile(captioner, recipe):
    """At a constant learning rate."""
    rate = recipe.optimizer.learning_rate
    constant = dataclasses.replace(recipe.optimizer, final_rate=rate)
    captioner.compile(
        optimizer=make_optimizer(constant, 1),
        label_smoothing=recipe.objective.label_smoothing,
        lambda_ds=recipe.objective.lambda_ds,
    )
    build(captioner)  # now, for `_trace` to take back what it does to it


def _traced_step(captioner, estimator, batches):
    """The captioner's training step with an estimator, traced."""
    captioner.use(estimator)
    signature = [batches.element_spec]  # one graph for batches of any length
    step = tf.function(captioner.train_step, input_signature=signature, autograph=False)
    _trace(captioner, step, batches.take(1))
    return step


def _warm_up_seconds(plan, estimator, name):
    if name != RECOMMENDED or not estimator.stochastic:
        return 0.0
    epochs = Plan(plan.recipe.stages).epochs
    return 60 * plan.minutes * warm_up_epochs(plan.recipe) / epochs


def _training_batches(plan, captioner, seed):
    split = _load(plan, "train")
    inputs, key = cached_inputs(captioner, split, plan.cache_dir or default_cache())
    schedule = pipeline.Schedule(
        split.captions,
        captioner.vocabulary,
        batch_size=plan.recipe.data.batch_size,
        seed=seed,
        together=key == "image",
    )
    return pipeline.training_batches(inputs, schedule, key=key)


def _load(plan, split):
    return load(plan.data, split, data_dir=plan.data_dir, cache_dir=plan.cache_dir)


def _judged(plan, captioner):
    """The split that the captioner is judged on, its cache, and that one's key."""
    whole = _load(plan, "validation")
    first = min(JUDGED, len(whole.file_names))
    split = _load(plan, f"validation[:{first}]")
    return split, *cached_inputs(captioner, split, plan.cache_dir or default_cache())


def _looks(captioner, split, inputs, key):
    """`looks.summary` of the words of photographs whose regions are known.

    `generated`, of the captioner's own words, and `given`, of those of people's
    captions; empty where no region is known, and for `scenes`, which is judged by its
    pointing all the time.
    """
    encoder = captioner.encoder
    known = looks.known_captions(split, encoder.image_size, encoder.resize_mode)
    if split.name == "scenes" or not known:
        return {}
    options = captioner.options()
    said = predict(captioner, inputs, key, options)
    where = looks.go_over(captioner, inputs, key, known, options.attention)
    return {
        "generated": looks.summary(looks.spoken(said, known)),
        "given": looks.summary(looks.given(known, *where)),
    }


def _judge(plan, captioner, split, inputs, key):
    """A function that scores the captioner as it is now."""
    given = pipeline.evaluation_batches(
        inputs,
        split.captions,
        captioner.vocabulary,
        batch_size=plan.recipe.data.batch_size,
        key=key,
    )
    options = captioner.options()

    def judge():
        logs = captioner.evaluate(given, verbose=0, return_dict=True)
        captions = predict(captioner, inputs, key, options)
        if split.name == "scenes":
            scores = scene_scores(captions, split, captioner.grid)
        else:
            texts = [c.caption for c in captions]
            scores = {"bleu_4": metrics.bleu4(texts, split.captions)}
        return {"log_likelihood": float(logs["log_likelihood"]), **scores}

    return judge


def _trace(captioner, step, batches):
    """Has TensorFlow compile the step, and takes back what the steps changed."""
    variables = [*captioner.variables, *captioner.optimizer.variables]
    before = [v.numpy() for v in variables]
    for batch in batches:
        step(batch)
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
