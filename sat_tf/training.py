"""A training run: a folder that can be killed at any moment and goes on."""

import contextlib
import dataclasses
import errno
import json
import math
import os
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from sat_tf import (
    diagnostics,
    distillation,
    grounding,
    metrics,
    origins,
    storage,
    updates,
    word_vectors,
)
from sat_tf.caches import default_cache
from sat_tf.captioner import ShowAttendTell
from sat_tf.datasets import load, pipeline
from sat_tf.encoder import Encoder, weights_name
from sat_tf.estimators import ESTIMATORS, Soft, kind_of
from sat_tf.evaluation import cached_inputs, predict
from sat_tf.files import alone, replacing
from sat_tf.memory import keep_freed_memory
from sat_tf.scheduled_sampling import rising
from sat_tf.vocabulary import Vocabulary

DTYPES = ("float32", "mixed_bfloat16")
SAVE_EVERY = 200  # updates between checkpoints: about a minute's work at paper size


# What an option needs beside it to change anything: in words, and whether a preset and
# its estimator have it.
_DRAWS = "an estimator that draws places", lambda preset, drawing: drawing.stochastic
_BEAMS = "beam=2 or more", lambda preset, _: preset.beam > 1
_START = (
    "initial_state=annotations",
    lambda preset, _: preset.initial_state != "learned",
)
_TEACHER = "a teacher", lambda preset, _: preset.teacher is not None
_TRAINED = (
    "a trunk that is trained: trunk=convnet, or fine_tune_after",
    lambda preset, _: preset.trunk == "convnet" or preset.fine_tune_after is not None,
)
NEEDS = {
    "warm_up": _DRAWS,
    "attention_rule": _DRAWS,
    "consensus": _BEAMS,
    "detection": _BEAMS,
    "grounding": _BEAMS,
    "initial_dropout": _START,
    "initial_gain": _START,
    "teacher_captions": _TEACHER,
    "encoder_rate": _TRAINED,
}


def refuse_unheard(preset, chosen):
    """Refuses options that somebody asked for and that would change nothing.

    What a preset brings along is no mistake: every recipe has all fields.

    Args:
        preset: a `Preset`.
        chosen: set of the names of the fields that were asked for.

    Raises:
        ValueError: the estimator does not take one, or something it needs is off.
    """
    kind, fields = kind_of(preset.estimator), dataclasses.asdict(preset)
    taken = {name: each.options(**fields) for name, each in ESTIMATORS.items()}
    for name in chosen:
        others = [other for other in taken if name in taken[other]]
        if others and preset.estimator not in others:
            raise ValueError(
                f"Expected options that the estimator {preset.estimator} takes: "
                f"{', '.join(sorted(taken[preset.estimator])) or 'it has none'}. "
                f"Received: {name}={fields[name]!r}. Leave it out, or choose an "
                f"estimator that takes it: {', '.join(others)}."
            )
    estimator = kind(**preset.estimator_options(kind))
    for name in chosen & NEEDS.keys():
        needed, there = NEEDS[name]
        if fields[name] and not there(preset, estimator):  # None and 0 say: off
            raise ValueError(
                f"Expected {needed}, without which {name} changes nothing. "
                f"Received: {name}={fields[name]!r}, estimator={preset.estimator!r}. "
                f"Leave {name} out, or set what it needs."
            )


def build(preset, captions, *, encoder_weights=None):
    """An untrained captioner.

    Args:
        preset: a `Preset`.
        captions: iterable of the training captions, for the vocabulary.
        encoder_weights: `imagenet` or a path, over the preset's.
    """
    words = _vocabulary(preset, captions)
    return _captioner(preset, words, encoder_weights)


def _vocabulary(preset, captions):
    return Vocabulary.from_captions(captions, preset.max_words, preset.min_count)


def _captioner(preset, vocabulary, encoder_weights):
    kind = kind_of(preset.estimator)
    if preset.dtype not in DTYPES:
        raise ValueError(
            f"Expected dtype to be one of {', '.join(DTYPES)}. "
            f"Received: dtype={preset.dtype!r}. Choose one of them."
        )
    encoder = Encoder(
        preset.trunk,
        weights=encoder_weights or preset.encoder_weights,
        image_size=preset.image_size,
        trainable=preset.trunk == "convnet" and preset.fine_tune_after is None,
        dtype=preset.dtype,
    )
    estimator = kind(**preset.estimator_options(kind))
    return ShowAttendTell(
        vocabulary,
        encoder=encoder,
        estimator=estimator,
        embedding_size=preset.embedding_size,
        hidden_size=preset.hidden_size,
        attention_size=preset.attention_size,
        dropout=preset.dropout,
        input_dropout=preset.input_dropout,
        output_activation=preset.output_activation,
        initial_state=preset.initial_state,
        initial_dropout=preset.initial_dropout,
        initial_gain=preset.initial_gain,
        detector_size=preset.detector_size,
        grounding_size=preset.grounding_size,
        label_smoothing=preset.label_smoothing,
        lambda_ds=preset.lambda_ds,
        attention_rule=preset.attention_rule if estimator.stochastic else None,
        encoder_rate=preset.encoder_rate,
        resize_mode=preset.resize_mode,
        dtype=preset.dtype,
    )


def make_optimizer(preset, total_steps):
    """The preset's optimizer, its rate falling on a cosine over `total_steps`."""
    rate = keras.optimizers.schedules.CosineDecay(
        preset.learning_rate, total_steps, preset.final_rate / preset.learning_rate
    )
    options = {"learning_rate": rate, "global_clipnorm": preset.clip_norm}
    if preset.optimizer == "adam":
        return keras.optimizers.Adam(**options)
    if preset.optimizer == "rmsprop":
        return keras.optimizers.RMSprop(
            rho=0.95, momentum=0.9, epsilon=1e-4, centered=True, **options
        )
    raise ValueError(
        "Expected optimizer to be adam or rmsprop. "
        f"Received: optimizer={preset.optimizer!r}. Choose one of them."
    )


@dataclasses.dataclass
class Progress:
    """Where a run stands; kept in its checkpoint."""

    step: int = 0
    best: float = -1.0
    best_epoch: int = -1
    fine_tuning: bool = False
    history: list = dataclasses.field(default_factory=list)


class Run:
    """The folder of a run.

    `preset.json` is the resolved recipe, `origins.json` tells the words and data it
    learns from, `model/` the best captioner so far, `checkpoint.npz` everything needed
    to go on, `history.json` one row per epoch, the same in `tensorboard/`, and
    `teacher.json` what a teacher said of the images.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.model = self.folder / "model"
        self._writer = None

    @property
    def begun(self):
        """Whether there is a checkpoint to go on from."""
        return (self.folder / "checkpoint.npz").is_file()

    @contextlib.contextmanager
    def alone(self):
        """Keeps other processes out, see `files.alone`."""
        with contextlib.ExitStack() as stack:
            with self._explained():
                stack.enter_context(alone(self.folder))
            yield

    def open(self, recipe):
        """Makes the folder, or checks that it holds a run of the same recipe."""
        path = self.folder / "preset.json"
        text = json.dumps(recipe, indent=1) + "\n"
        old = json.loads(path.read_text()) if path.is_file() and self.begun else None
        new = json.loads(text)
        if old is not None and old != new:
            changed = [k for k in {**old, **new} if old.get(k) != new.get(k)]
            raise ValueError(
                "Expected the recipe this run was started with, to resume it. "
                f"Received: out={str(self.folder)!r}, which differs in "
                f"{', '.join(changed)}. Choose another --out, or the same settings."
            )
        with self._explained(), replacing(path) as beside:
            beside.write_text(text)
        for left in self.folder.glob(".checkpoint.npz.*.tmp"):  # of a killed process
            left.unlink()

    def learn_from(self, note):
        """Keeps what `origins.note` says, or checks that a run under way said so too.

        Validation counts: the best captioner so far was chosen by it.
        """
        path = self.folder / "origins.json"
        if self.begun and path.is_file():
            found = origins.differences(json.loads(path.read_text()), note)
            if found:
                raise ValueError(
                    "Expected the words and data this run was begun with, as its "
                    "weights and its best score are of those. "
                    f"Received: out={str(self.folder)!r}, but {'; '.join(found)}. "
                    "Choose another --out to train anew, or put the data back."
                )
            return
        if self.begun:
            print(
                f"Warning: {self.folder} was begun by a version of sat_tf that did not "
                "note its words and data. It goes on with those of today, which may "
                "not be what it has learned from.",
                file=sys.stderr,
            )
        with self._explained(), replacing(path) as beside:
            beside.write_text(json.dumps(note) + "\n")

    def save_checkpoint(self, captioner, progress):
        """Every variable that is trained and the progress, in one file, at once."""
        variables = _all_variables(captioner)
        arrays = {f"{i:05d}": v.numpy() for i, v in enumerate(variables)}
        state = json.dumps(dataclasses.asdict(progress))
        with self._explained(), replacing(self.folder / "checkpoint.npz") as path:
            with open(path, "wb") as file:
                np.savez(file, progress=np.array(state), **arrays)
                file.flush()
                os.fsync(file.fileno())

    def save_best(self, captioner, metadata):
        """The captioner to be used after the run."""
        with self._explained():
            storage.save(captioner, self.model, metadata=metadata)

    def save_history(self, history):
        """One row per epoch, for people to read; the checkpoint has its own."""
        with self._explained(), replacing(self.folder / "history.json") as path:
            path.write_text(json.dumps(history, indent=1) + "\n")

    def teacher_captions(self, lesson, ask):
        """Image name -> captions, from `ask()` once for every `lesson`, a dict."""
        path = self.folder / "teacher.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        if kept.get("lesson") != lesson:
            kept = {"lesson": lesson, "captions": ask()}
            with self._explained(), replacing(path) as beside:
                beside.write_text(json.dumps(kept, indent=0) + "\n")
        return kept["captions"]

    def log(self, row):
        """An epoch's figures, for TensorBoard."""
        with self._explained():
            if self._writer is None:
                folder = str(self.folder / "tensorboard")
                self._writer = tf.summary.create_file_writer(folder)
            with self._writer.as_default(step=row["epoch"]):
                for name, value in row.items():
                    tf.summary.scalar(name, value)
            self._writer.flush()

    @contextlib.contextmanager
    def _explained(self):
        try:
            yield
        except (OSError, tf.errors.OpError) as error:
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise OSError(
                getattr(error, "errno", errno.EIO),
                "Expected room in the folder of the run, and the right to write. "
                f"Received: {reason}. Make room and run the same command "
                "again: it goes on from the last checkpoint, which is whole",
                str(self.folder),
            ) from error

    def load_checkpoint(self, captioner):
        """Restores what `save_checkpoint` wrote; a fresh `Progress` if nothing was."""
        if not self.begun:
            return Progress()
        with np.load(self.folder / "checkpoint.npz") as arrays:
            progress = Progress(**json.loads(str(arrays["progress"])))
            if progress.fine_tuning:
                captioner.fine_tune()
            variables = _all_variables(captioner)
            values = [arrays[n] for n in sorted(arrays.files) if n != "progress"]
            if [v.shape for v in values] != [tuple(v.shape) for v in variables]:
                raise ValueError(
                    "Expected the checkpoint to fit the captioner. Received: out="
                    f"{str(self.folder)!r}, whose checkpoint another version of "
                    "sat_tf wrote. Go on with that version, or choose another --out."
                )
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            return progress


def _all_variables(captioner):
    """All that changes in training: a frozen trunk's weights are where they were."""
    network = captioner.encoder.network
    frozen = set() if network.trainable else {id(v) for v in network.variables}
    optimizers = [captioner.optimizer, captioner.encoder_optimizer]
    owned = [v for o in optimizers if o is not None for v in o.variables]
    return [*(v for v in captioner.variables if id(v) not in frozen), *owned]


class Keep(keras.callbacks.Callback):
    """Saves a checkpoint every so many updates; stops at a loss that is no number.

    Not at the end of an epoch: `train` does that when the epoch has been judged, or
    a run killed in between would never judge it.
    """

    def __init__(self, run, progress, schedule, file_names):
        super().__init__()
        self.run, self.progress = run, progress
        self.schedule, self.file_names = schedule, file_names

    def on_train_batch_end(self, batch, logs=None):
        """Counts the update that was just made."""
        step = self.progress.step + 1
        ends = step % self.schedule.steps_per_epoch == 0
        saves = step % SAVE_EVERY == 0 and not ends
        if not math.isfinite(logs["loss"]):
            self._stop(f"loss={logs['loss']}")
        # The loss was taken before the update, which may have been no number itself.
        if (saves or ends) and not self._weights_are_finite():
            self._stop("weights that are not, with a loss that still was,")
        self.progress.step = step
        if saves:
            self.run.save_checkpoint(self.model, self.progress)

    def _weights_are_finite(self):
        weights = self.model.trainable_variables
        return all(np.isfinite(weight.numpy()).all() for weight in weights)

    def _stop(self, received):
        images = np.unique(self.schedule.batch(self.progress.step)[0])
        names = ", ".join(self.file_names[i] for i in images)
        raise FloatingPointError(
            "Expected a finite loss. "
            f"Received: {received} at step {self.progress.step}, in a batch of "
            f"{names}. The last good state is in "
            f"{self.run.folder / 'checkpoint.npz'}; "
            "lower learning_rate or set clip_norm=5 and choose another --out."
        )


def train(
    preset,
    data,
    out,
    *,
    data_dir=None,
    encoder_weights=None,
    seed=17,
    cache_dir=None,
    verbose="auto",
):
    """Trains a captioner, or goes on where a run in `out` was interrupted.

    Every epoch the validation images are captioned as they will be at test time; the
    captioner with the best BLEU-4 is kept in `out/model`.

    Args:
        preset: a `Preset`.
        data, data_dir: see `datasets.load`.
        out: folder of the run.
        encoder_weights: `imagenet` or a path, over the preset's.
        seed: of the weights, the order of the captions and the sampled locations.
        cache_dir: for features and pixels, by default `default_cache()`.
        verbose: as in `fit`.

    Returns:
        the best `ShowAttendTell`, and the history: one dict per epoch. The training
        figures of an epoch that was interrupted are means over what came after its
        last checkpoint; the validation figures are always of the whole.
    """
    keep_freed_memory()
    run = Run(out)
    with run.alone():
        return _train(
            run, preset, data, data_dir, encoder_weights, seed, cache_dir, verbose
        )


def _train(run, preset, data, data_dir, encoder_weights, seed, cache_dir, verbose):
    recipe = {
        **dataclasses.asdict(preset),
        "data": str(data),
        "seed": seed,
        # The checkpoint does not hold a frozen trunk: it must be the same again.
        "encoder_fingerprint": weights_name(encoder_weights or preset.encoder_weights),
    }
    if preset.teacher is not None:
        recipe["teacher_fingerprint"] = distillation.fingerprint(preset.teacher)
    run.open(json.loads(json.dumps(recipe)))
    cache_dir = cache_dir or default_cache()
    training, validation = (
        load(data, name, data_dir=data_dir) for name in ("train", "validation")
    )
    for note in training.notes:
        print(f"{data}: {note}", file=sys.stderr)
    people = training.captions  # whose words the vocabulary is made of
    words = _vocabulary(preset, (text for texts in people for text in texts))
    run.learn_from(origins.note(words, [training, validation]))
    if preset.teacher is not None:
        training = _taught(run, training, recipe, cache_dir, encoder_weights, verbose)
    # Now, as TFDS draws names for its files while it prepares data.
    keras.utils.set_random_seed(seed)
    captioner = _captioner(preset, words, encoder_weights)
    soft, hard = Soft(), captioner.estimator
    warm_up = preset.warm_up if hard.stochastic else 0
    if warm_up >= preset.epochs:
        raise ValueError(
            "Expected more epochs than the soft warm-up, which gives no captioner. "
            f"Received: epochs={preset.epochs}, warm_up={warm_up}. "
            "Set more epochs, or --set warm_up=0."
        )
    captioner.seeds.state.assign([seed, 0])
    if preset.word_vectors and not run.begun:
        coverage = word_vectors.set_embedding(captioner, preset.word_vectors)
        if verbose:
            print(coverage, flush=True)
    inputs, key = cached_inputs(captioner, training, cache_dir)
    # Now too: an image that is unfit must not be found out after an epoch's work.
    cached_inputs(captioner, validation, cache_dir)
    if key == "annotations":
        sample = np.random.default_rng(seed).choice(len(inputs), min(512, len(inputs)))
        captioner.encoder.adapt(inputs.read(np.sort(sample)))
    schedule = pipeline.Schedule(
        training.captions,
        captioner.vocabulary,
        batch_size=preset.batch_size,
        seed=seed,
        # One schedule for the whole run, or a step would mean something else after.
        together=key == "image" or preset.fine_tune_after is not None,
    )
    per_epoch = schedule.steps_per_epoch
    total_steps = per_epoch * preset.epochs
    optimizer = make_optimizer(preset, total_steps)
    captioner.compile(
        optimizer=optimizer,
        scheduled_sampling=rising(preset.scheduled_sampling, total_steps),
        decoder=preset.decoder_options(),
    )
    updates.build(captioner)
    progress = run.load_checkpoint(captioner)
    keep = Keep(run, progress, schedule, training.file_names)

    while (epoch := progress.step // per_epoch) < preset.epochs:
        if epoch - max(progress.best_epoch, warm_up) > preset.patience:
            break
        captioner.use(soft if epoch < warm_up else hard)
        if epoch == preset.fine_tune_after and not progress.fine_tuning:
            captioner.fine_tune()
            progress.fine_tuning = True
        # Features until then, pixels afterwards.
        inputs, key = cached_inputs(captioner, training, cache_dir)
        logs = captioner.fit(
            pipeline.training_batches(
                inputs, schedule, key=key, start_step=progress.step
            ),
            initial_epoch=epoch,
            epochs=epoch + 1,
            steps_per_epoch=per_epoch - progress.step % per_epoch,
            callbacks=[keep],
            shuffle=False,
            verbose=verbose,
        ).history
        row = {"epoch": epoch + 1, **{k: float(v[-1]) for k, v in logs.items()}}
        row |= _validate(captioner, validation, preset, cache_dir)
        if epoch >= warm_up and row["val_bleu_4"] > progress.best:
            progress.best, progress.best_epoch = row["val_bleu_4"], epoch
            run.save_best(captioner, {"recipe": recipe, **row})
        progress.history.append(row)
        run.save_history(progress.history)
        run.log(row)
        # Last: a run killed before this does the end of the epoch again.
        run.save_checkpoint(captioner, progress)
        if verbose:
            print(_line(row), flush=True)
    keras.utils.set_random_seed(seed)  # again: a run that goes on ends the same
    best = ShowAttendTell.from_preset(run.model)
    if best.grounding is not None and not best.grounding.fitted:
        # Now that attention has settled; of people's captions, as it is judged by them.
        inputs, key = cached_inputs(best, training, cache_dir)
        grounding.fit(best, inputs, key, people, seed=seed, verbose=verbose)
        metadata = json.loads((run.model / "metadata.json").read_text())
        run.save_best(best, metadata)
    return best, progress.history


def _taught(run, split, recipe, cache_dir, encoder_weights, verbose):
    names = ("teacher", "teacher_fingerprint", "teacher_captions", "data")
    said = run.teacher_captions(
        {name: recipe[name] for name in names} | {"images": split.fingerprint},
        lambda: distillation.teacher_captions(
            split,
            recipe["teacher"],
            recipe["teacher_captions"],
            cache_dir=cache_dir,
            encoder_weights=encoder_weights,
            progress=bool(verbose),
        ),
    )
    return distillation.taught(split, said)


def _validate(captioner, validation, preset, cache_dir):
    inputs, key = cached_inputs(captioner, validation, cache_dir)
    options = captioner.options(decoder="greedy", max_length=preset.max_length)
    captions = predict(captioner, inputs, key, options)
    bleu_4 = metrics.bleu4([c.caption for c in captions], validation.captions)
    health = diagnostics.attention_health([c.alpha for c in captions])
    if problem := diagnostics.warning(health):
        print(f"Warning: {problem}", file=sys.stderr)
    health = {f"val_attention_{name}": value for name, value in health.items()}
    return {"val_bleu_4": bleu_4, **health}


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
        together=key == "image",
    )
    dataset = pipeline.training_batches(inputs, schedule, key=key)
    return dataset, schedule.steps_per_epoch
