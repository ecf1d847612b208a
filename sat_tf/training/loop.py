"""The training loop: epoch by epoch, judged and kept."""

import dataclasses
import pathlib
import sys

import keras
import tensorflow as tf

from sat_tf.captioner import ShowAttendTell
from sat_tf.datasets import Split, load, pipeline
from sat_tf.evaluation import captions as scores
from sat_tf.evaluation import diagnostics
from sat_tf.evaluation.evaluate import cached_inputs, predict
from sat_tf.presets import storage
from sat_tf.recipes import Recipe
from sat_tf.reranking import RERANKERS
from sat_tf.runtime.caches import default_cache
from sat_tf.runtime.memory import keep_freed_memory
from sat_tf.training import building, strategies, word_vectors, workers
from sat_tf.training.callbacks import CheckpointCallback
from sat_tf.training.run import Run
from sat_tf.training.stages import Plan
from sat_tf.training_step import updates
from sat_tf.trunks import weights_name


def train(
    recipe,
    data,
    out,
    *,
    data_dir=None,
    encoder_weights=None,
    seed=17,
    cache_dir=None,
    strategy=None,
    verbose="auto",
):
    """Trains a captioner, or resumes the run in `out` where it was interrupted.

    Every epoch the validation images are captioned greedily, without rerankers; the
    captioner with the best BLEU-4 is kept in `out/model`.

    Args:
        recipe: a `Recipe`.
        data, data_dir: see `datasets.load`.
        out: folder of the run.
        encoder_weights: `imagenet` or a path, over the recipe's.
        seed: of the weights, the order of the captions and the sampled locations.
        cache_dir: for features, pixels and captions, by default `default_cache()`.
        strategy: a `MirroredStrategy`, a `MultiWorkerMirroredStrategy`, or `None` for
            one device. A run may be resumed with another one, as its steps are batches
            of all replicas together.
        verbose: as in `fit`.

    Returns:
        the best `ShowAttendTell`, and the history: one dict per epoch. The training
        figures of an epoch that was interrupted are means over what came after its
        last checkpoint; the validation figures are always of the whole.

    Raises:
        ValueError: the recipe, the data or the run in `out` do not fit, or another
            process is at work there.
    """
    keep_freed_memory()
    building.check(recipe)
    cache_dir = cache_dir or default_cache()
    strategy = strategy or tf.distribute.get_strategy()
    strategies.check(strategy, recipe)
    with workers.together(), workers.run_in(out, strategy).alone() as run:
        settings = _settings(recipe, data, seed, encoder_weights)
        run.open(settings)
        with workers.chief_first(strategy):
            splits = _read(data, data_dir, cache_dir)
        plan = Plan(recipe.stages)
        captioner = _begin(run, strategy, recipe, splits, seed, encoder_weights)
        verbose = verbose if workers.is_chief(strategy) else 0
        session = _Session(
            run, plan, recipe, captioner, *splits, seed, cache_dir, verbose
        )
        with workers.chief_first(strategy):
            prepared = _prepare(session)
        history = _epochs(session, settings, prepared)
        keras.utils.set_random_seed(seed)  # again: a resumed run ends the same
        with workers.chief_first(strategy):
            return _finish(session), history


def _read(data, data_dir, cache_dir):
    """The splits to train on and to validate with."""
    training, validation = load(
        data, ("train", "validation"), data_dir=data_dir, cache_dir=cache_dir
    )
    for note in training.notes:
        print(f"{data}: {note}", file=sys.stderr)
    return training, validation


def _begin(run, strategy, recipe, splits, seed, encoder_weights):
    """An untrained captioner, of the words of the splits."""
    vocabulary = building.vocabulary_of(recipe, splits[0].captions)
    run.learn_from(vocabulary, splits)
    # Now, as TFDS draws names for its files while it prepares data.
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        return building.make_captioner(recipe, vocabulary, encoder_weights)


def _settings(recipe, data, seed, encoder_weights):
    """All that must be the same again for a run to be resumed, but for its data."""
    weights = encoder_weights or recipe.model.encoder_weights
    return {
        **recipe.to_dict(),
        "dataset": str(data),
        "seed": seed,
        # The checkpoint does not hold a frozen trunk.
        "encoder_fingerprint": weights_name(weights),
    }


@dataclasses.dataclass
class _Session:
    """What the parts of a run share."""

    run: Run
    plan: Plan
    recipe: Recipe
    captioner: ShowAttendTell
    training: Split
    validation: Split
    seed: int
    cache_dir: pathlib.Path
    verbose: object


def _prepare(session):
    """What a fresh captioner is given before the first update; whether stages did."""
    captioner, recipe = session.captioner, session.recipe
    # Otherwise it is all in the checkpoint, or will be.
    fresh = not session.run.begun and workers.is_chief(captioner.strategy)
    # What is wrong must not be found out after hours of caching, or an epoch's work.
    if fresh and recipe.model.word_vectors:
        coverage = word_vectors.set_embedding(captioner, recipe.model.word_vectors)
        if session.verbose:
            print(coverage, flush=True)
    inputs, key = _inputs(session)
    cached_inputs(captioner, session.validation, session.cache_dir)
    if not fresh:
        return False
    if key == "annotations":
        building.standardise(captioner.encoder, inputs, session.seed)
    options = {"seed": session.seed, "verbose": session.verbose}
    changed = [
        stage.prepare(captioner, inputs, key, session.training.captions, **options)
        for stage in session.plan.stages
    ]
    return any(changed)


def _inputs(session):
    """What the captioner reads of the training images: features, or pixels."""
    return cached_inputs(
        session.captioner,
        session.training,
        session.cache_dir,
        mirrored=session.recipe.data.mirrored,
    )


def _epochs(session, settings, prepared):
    """Trains, judges and keeps, epoch by epoch; returns the history."""
    run, plan, captioner = session.run, session.plan, session.captioner
    patience, estimator = session.recipe.patience, captioner.estimator
    schedule = _schedule(session)
    per_epoch = schedule.steps_per_epoch
    with captioner.strategy.scope():
        building.compile_captioner(captioner, session.recipe, per_epoch * plan.epochs)
    updates.build(captioner)
    progress = run.progress()
    workers.check_progress(captioner.strategy, progress, run.folder)
    for stage in plan.until((progress.step - 1) // per_epoch):
        stage.enter(captioner, estimator)
    run.restore(captioner)
    if prepared or updates.has_workers(captioner.strategy):
        run.save_checkpoint(captioner, progress)
    workers.follow(run, captioner)
    names = session.training.file_names
    checkpoints = CheckpointCallback(run, progress, schedule, names)
    first = plan.first_judged(estimator)
    while (epoch := progress.step // per_epoch) < plan.epochs:
        if epoch - max(progress.best_epoch, first) > patience:
            break
        plan.at(epoch).enter(captioner, estimator)
        row = {"epoch": epoch + 1, **_fit(session, schedule, epoch, checkpoints)}
        row |= _judged(session)
        judged = plan.at(epoch).judged(estimator)
        if judged and row["val_bleu_4"] > progress.best:
            progress.best, progress.best_epoch = row["val_bleu_4"], epoch
            run.save_best(captioner, {"recipe": settings, **row})
        progress.history.append(row)
        run.save_history(progress.history)
        run.log(row)
        # Last: a run killed before this does the end of the epoch again.
        run.save_checkpoint(captioner, progress)
        if session.verbose:
            print(_line(row), flush=True)
    return progress.history


def _schedule(session):
    return pipeline.Schedule(
        session.training.captions,
        session.captioner.vocabulary,
        batch_size=session.recipe.data.batch_size,
        seed=session.seed,
        replicas=session.captioner.strategy.num_replicas_in_sync,
        # One for the whole run, or a step would mean something else after.
        together=session.captioner.encoder.network.trainable
        or session.plan.trains_the_trunk,
    )


def _fit(session, schedule, epoch, checkpoints):
    """The rest of one epoch of updates; what they came to."""
    step, per_epoch = checkpoints.progress.step, schedule.steps_per_epoch
    # Features while the trunk is frozen, then pixels.
    inputs, key = _inputs(session)
    several = updates.has_workers(session.captioner.strategy)
    fit = workers.fit if several else ShowAttendTell.fit
    logs = fit(
        session.captioner,
        pipeline.training_batches(inputs, schedule, key=key, start_step=step),
        initial_epoch=epoch,
        epochs=epoch + 1,
        steps_per_epoch=per_epoch - step % per_epoch,
        callbacks=[checkpoints],
        shuffle=False,
        verbose=session.verbose,
    )
    if several:
        return logs
    return {name: float(values[-1]) for name, values in logs.history.items()}


def _judged(session):
    """What the chief's validation came to."""
    strategy = session.captioner.strategy
    row = _validate(session) if workers.is_chief(strategy) else None
    return workers.told(strategy, row)


def _validate(session):
    captioner, validation = session.captioner, session.validation
    inputs, key = cached_inputs(captioner, validation, session.cache_dir)
    options = captioner.options(decoder="greedy", rerank=dict.fromkeys(RERANKERS))
    captions = predict(captioner, inputs, key, options)
    bleu_4 = scores.bleu4([c.caption for c in captions], validation.captions)
    health = diagnostics.attention_health([c.alpha for c in captions])
    if problem := diagnostics.warning(health):
        print(f"Warning: {problem}", file=sys.stderr)
    health = {f"val_attention_{name}": value for name, value in health.items()}
    return {"val_bleu_4": bleu_4, **health}


def _finish(session):
    """The best captioner, after what the stages do with it."""
    if isinstance(session.run, workers.Reader):  # the chief has done it
        return ShowAttendTell.from_preset(session.run.model)
    run, training = session.run, session.training
    best = ShowAttendTell.from_preset(run.model)
    inputs, key = cached_inputs(best, training, session.cache_dir)
    options = {"seed": session.seed, "verbose": session.verbose}
    for stage in session.plan.stages:
        if stage.finish(best, inputs, key, training.captions, **options):
            run.save_best(best, storage.read_metadata(run.model))
    return best


def _line(row):
    return "  ".join(
        f"{k} {v}" if isinstance(v, int) else f"{k} {v:.3f}" for k, v in row.items()
    )


def batches(captioner, split, *, batch_size=64, seed=17, cache_dir=None):
    """What `captioner.fit` takes to train on a split, shuffled anew in every epoch.

    What the captioner reads of the images is cached first: features of a frozen trunk,
    or pixels. Of a frozen trunk let `captioner.encoder.adapt` see some features too;
    `train` does both.

    Args:
        captioner: a `ShowAttendTell`.
        split: a `datasets.Split`.
        batch_size: captions.
        seed: of their order.
        cache_dir: by default `default_cache()`.

    Returns:
        an endless `tf.data.Dataset`, and the `steps_per_epoch` that give every caption
        once.
    """
    inputs, key = cached_inputs(captioner, split, cache_dir or default_cache())
    schedule = pipeline.Schedule(
        split.captions,
        captioner.vocabulary,
        batch_size=batch_size,
        seed=seed,
        replicas=captioner.strategy.num_replicas_in_sync,
        together=key == "image",
    )
    dataset = pipeline.training_batches(inputs, schedule, key=key)
    return dataset, schedule.steps_per_epoch
