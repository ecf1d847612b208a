"""Trains captioners on one device and on two replicas, and tells how they differ.

A program, as devices are divided before TensorFlow starts; prints a line of JSON.
"""

import contextlib
import functools
import io
import json
import os
import pathlib

import keras
import numpy as np
import own_run
import tensorflow as tf
from toy import WORDS, batch, toy

from sat_tf import Encoder, ShowAttendTell, cli
from sat_tf.estimators import ESTIMATORS, Reinforce, Rloo, Soft
from sat_tf.model import fused
from sat_tf.reranking.alignment import Alignment
from sat_tf.reranking.detection import Detection
from sat_tf.training import callbacks
from sat_tf.training.run import Run
from sat_tf.training.stages import See
from sat_tf.training_step import scheduled_sampling, updates

TABLE = np.random.default_rng(17).uniform(0.01, 0.99, [8, 4, 1, 4]).astype("float32")


def devices():
    """Two logical CPUs, as Python users have them; `run` has those of the commands."""
    cpu, halves = tf.config.list_physical_devices("CPU")[0], 2
    config = [tf.config.LogicalDeviceConfiguration()] * halves
    tf.config.set_logical_device_configuration(cpu, config)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def scope(strategy):
    """Of a strategy, if there is one."""
    return strategy.scope() if strategy else contextlib.nullcontext()


# --------------------------------------------------- where nothing is drawn at random


def draw_alike(estimator):
    """Draws that depend on the step, the sample and the logits alone."""
    table = tf.constant(TABLE)

    def gumbel(shape, seed, step):
        noise = -tf.math.log(-tf.math.log(table[step, : shape[0]]))
        return tf.broadcast_to(noise, shape)

    def draw(logits, seed, step):
        noise = gumbel(tf.shape(logits), seed, step)
        return tf.one_hot(tf.argmax(logits + noise, axis=-1), 4)

    def exponential(shape, seed):
        noise = -tf.math.log(table[: shape[2], : shape[0]])
        return tf.broadcast_to(tf.transpose(noise, [1, 2, 0, 3]), shape)

    estimator.draw = draw
    if hasattr(estimator, "noise"):
        rebar = isinstance(estimator, ESTIMATORS["rebar"])
        estimator.noise = exponential if rebar else gumbel


def sharing(model):
    """Batches of three images with one to four captions, and two rows of filling."""
    rng, encoder = np.random.default_rng(17), model.encoder
    for seed, rows in enumerate(([0, 0, 0, 0, 1, 2], [1, 0, 2, 1, 2, 2])):
        data = batch(model, lengths=(2, 4, 3, 1, 4, 2), seed=seed)
        if encoder.network is None:
            images = {"annotations": rng.normal(size=(3, encoder.locations, 3))}
        else:
            images = {"image": 255 * rng.random(size=(3, *encoder.image_size, 3))}
        yield {
            **{name: value.astype("float32") for name, value in images.items()},
            "tokens": np.pad(data["tokens"], ((0, 2), (0, 0))),
            "rows": np.array([*rows, 2, 2], "int32"),
        }


def alone(model):
    """Batches of captions with an image each: four, and one that was left over."""
    data = {k: v.numpy() for k, v in batch(model, lengths=(2, 4, 3, 3, 1)).items()}
    for chosen in (slice(0, 4), slice(4, 5)):
        yield {name: value[chosen] for name, value in data.items()}


def dataset(model, batches):
    """What `fit` takes, of batches that differ in size."""
    spec = {
        name: tf.TensorSpec([None, *(None for _ in v.shape[1:])], v.dtype)
        for name, v in next(batches(model)).items()
    }
    whole = tf.data.Dataset.from_generator(
        lambda: batches(model), output_signature=spec
    )
    options = tf.data.Options()
    options.autotune.enabled = False  # whose thread ends up to a minute later
    whole = whole.apply(tf.data.experimental.assert_cardinality(2))
    return whole.with_options(options)


def pictured():
    """A captioner whose trunk learns, with statistics of a batch."""
    encoder = Encoder(
        "convnet", image_size=(32, 32), resize_mode="squash", trainable=True
    )
    sizes = dict(embedding_size=3, hidden_size=4, attention_size=5, dropout=0.0)
    return ShowAttendTell(WORDS, encoder=encoder, estimator="soft", **sizes)


def opinionated():
    """A toy with rerankers that learn beside it, and that teach its attention."""
    rerankers = [Detection(3), Alignment(3, teaching=0.5)]
    model = toy(Reinforce(), rerankers=rerankers)
    rng = np.random.default_rng(17)
    for variable in rerankers[1].variables:  # as if it had learned of words
        variable.assign(rng.uniform(0.01, 0.3, variable.shape))
    return model


def of(kind, **options):
    """A toy with an estimator that has options."""
    return lambda: toy(kind(**options))


ADAM = dict(optimizer=lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1))


def decaying():
    """An optimizer inside another, with averages, and with weights that it lets be."""
    inner = keras.optimizers.AdamW(0.01, weight_decay=0.1, use_ema=True)
    inner.exclude_from_weight_decay(var_names=["bias"])
    return keras.optimizers.LossScaleOptimizer(inner)


CASES = {
    **{name: (of(kind), {}) for name, kind in ESTIMATORS.items()},
    "batch_sum": (of(Reinforce, batch_sum=True, lambda_e=0.1, reward="per_word"), {}),
    "to_go": (of(Rloo, reward="to_go", normalise_advantage=True), {}),
    "nvil": (of(Reinforce, baseline="nvil", reward="to_go"), {}),
    "soft_baseline": (of(Reinforce, baseline="soft"), {}),
    "inference": (of(ESTIMATORS["ws_ram"], proposal="inference"), {}),
    "step_sampled": (of(ESTIMATORS["step_marginal"], carry="sampled", top_k=2), {}),
    "no_rows": (of(Soft), ADAM),
    "optimizer": (of(Soft), dict(optimizer=decaying)),
    "graph": (of(Reinforce), dict(run_eagerly=False)),
    "objective": (
        opinionated,
        dict(label_smoothing=0.1, lambda_ds=0.3, scheduled_sampling=1.0),
    ),
    "mixed_bfloat16": (lambda: toy("soft", dtype="mixed_bfloat16"), {}),
    "encoder_rate": (pictured, dict(encoder_rate=0.5)),
}


def trained(name, strategy):
    """Figures, and weights, after two updates."""
    keras.utils.set_random_seed(17)
    make, options = CASES[name]
    options = {"run_eagerly": True, **options}
    optimizer = options.pop("optimizer", lambda: keras.optimizers.SGD(0.1, clipnorm=1))
    with scope(strategy):
        model = make()
        draw_alike(model.estimator)
        model.compile(optimizer=optimizer(), **options)
    if name != "graph" and not strategy:
        model.compiled_updates = type(model.optimizer).apply_gradients  # quicker
    data = dataset(model, alone if name == "no_rows" else sharing)
    history = model.fit(data, verbose=0, shuffle=False).history
    if name in ("graph", "no_rows"):
        history |= model.evaluate(data, verbose=0, return_dict=True)
    figures = np.array([np.squeeze(history[key]) for key in sorted(history)])
    return figures, *(v.numpy() for v in [*model.variables, *model.optimizer.variables])


def seen(strategy):
    """The weights of a reranker after the stage that has it see, which draws too."""
    keras.utils.set_random_seed(17)
    with scope(strategy):
        model = toy("soft", rerankers=[Alignment(4, dropout=0.5)])
    values = np.random.default_rng(17).normal(size=(40, 4, 3)).astype("float32")
    values = {"inputs": Array(values), "key": "annotations"}
    captions = [["red dog", "dog"], ["blue cat"]] * 20
    See().prepare(model, **values, captions=captions, seed=17, verbose=0)
    return [v.numpy() for v in model.variables]


class Array:
    """An array, as a cache of records is read."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def read(self, indices):
        """Records."""
        return self.values[indices]


def apart(name, two):
    """The largest difference, relative where numbers are larger than 1."""
    return furthest(trained(name, two), trained(name, None))


def furthest(ours, theirs):
    """The largest difference of arrays, relative where numbers are larger than 1."""
    return max(
        float(np.max(np.abs(a - b) / np.maximum(np.abs(b), 1.0), initial=0))
        for a, b in zip(ours, theirs, strict=True)
        if a.dtype.kind == "f"
    )


# ----------------------------------------------------------------- where it is drawn


def update(strategy, seed, copies=8192):
    """What one step moves, of a caption many times over, and what it drew.

    Returns:
        the update, a vector, and of every replica its locations and its annotations.
    """
    keras.utils.set_random_seed(seed)
    with scope(strategy):
        model = toy(Reinforce(baseline="none"), input_dropout=0.1)
        model.compile(optimizer=keras.optimizers.SGD(1.0), run_eagerly=True)
    seen, statistics = {}, model.estimator.statistics

    def look(trace):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seen[int(replica)] = trace.weights.numpy(), trace.annotations.numpy()
        return statistics(trace)

    model.estimator.statistics = look
    one = batch(model, lengths=(4,))
    data = {k: np.repeat(v, copies, axis=0) for k, v in one.items()}
    before = [v.numpy() for v in model.trainable_variables]
    model.train_on_batch(data)
    model.test_on_batch(data)
    after = [v.numpy() for v in model.trainable_variables]
    moved = [np.ravel(a - b) for a, b in zip(after, before, strict=True)]
    return np.concatenate(moved), [seen[replica] for replica in sorted(seen)]


def draws(two):
    """How alike the replicas draw, and how far apart the means of draws are."""
    (a, (whole,)), (b, _) = update(None, 1), update(None, 2)
    both, (first, second) = update(two, 1)
    size = np.linalg.norm(a)

    def alike(ours, theirs):
        return float(np.mean(np.all(ours == theirs, axis=-1)))

    return {
        "same_locations": alike(first[0], second[0]),
        "same_dropout": float(np.mean((first[1] == 0) == (second[1] == 0))),
        # TensorFlow draws many rows in several threads, each from where it begins.
        "first_as_one_device": alike(first[0][:, :256], whole[0][:, :256]),
        "seeds_apart": float(np.linalg.norm(a - b) / size),
        "replicas_apart": float(np.linalg.norm(a - both) / size),
    }


# ---------------------------------------------------------------------- what is refused


def refused(two):
    """What is said of what cannot be done."""
    outside, soft = toy("soft"), Soft()
    outside.compile("sgd")
    data = {k: v.numpy() for k, v in batch(outside, lengths=(2, 3, 4)).items()}
    central = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"])
    with two.scope():
        inside = toy("soft", rerankers=[Alignment(3)])
        inside.compile("sgd", run_eagerly=True)
        unscoped = toy("soft")
    with central.scope():
        other = toy("soft")
    reinforce = Reinforce()
    with two.scope():
        mixed = toy(reinforce)
    del soft
    said = {}

    def attempt(name, call, within=None):
        try:
            with scope(within):
                call()
            said[name] = "nothing"
        except ValueError as error:
            said[name] = str(error)

    unbatched = tf.data.Dataset.from_tensors(data)
    attempt("array", lambda: inside.fit(data, verbose=0))
    attempt("data set", lambda: inside.fit(unbatched, verbose=0, shuffle=False))
    attempt("on batch", lambda: inside.train_on_batch(data))
    attempt("outside", lambda: outside.fit(data, verbose=0), two)
    attempt("compiled outside", lambda: unscoped.compile("sgd"))
    attempt("estimator outside", lambda: mixed.compile("sgd"), two)
    attempt("central", lambda: other.compile("sgd"), central)
    attempt("predict", lambda: inside.predict(data, verbose=0))
    see = dict(inputs=Array(data["annotations"]), key="annotations")
    captions = [["dog"]] * 3
    attempt(
        "reranker", lambda: inside.rerankers[0].fit(inside, captions=captions, **see)
    )
    return said


def mixed_up():
    """What is said of a second strategy, after which TensorFlow sums no more."""
    other = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with other.scope():
        model = toy("soft", words=[*WORDS, "bird"])
        model.compile("sgd", run_eagerly=True)
    data = {k: v.numpy() for k, v in batch(model, lengths=(2, 3)).items()}
    try:
        model.fit(data, verbose=0)
    except ValueError as error:
        return str(error)
    return "nothing"


# ------------------------------------------------------------------ the command line

RUNS = "run", "whole"


def run():
    """A run that is begun on one device and ends on two, and one that is whole."""
    os.environ |= own_run.environment()
    os.chdir(own_run.workplace())
    changes = {
        "estimator": "soft",
        "model.dropout": "0",
        # Adam makes a whole step of what rounding leaves of a gradient that is zero.
        "optimizer.name": "rmsprop",
        "optimizer.learning_rate": "1e-4",
        "stages.warm_up.epochs": "0",
        **{f"estimator.{name}": None for name in ("reward", "baseline", "samples")},
    }
    recipe = {k: v for k, v in {**own_run.RECIPE, **changes}.items() if v}
    arguments = ["train", "--data", "own", "--preset", "scenes", "--json"]
    arguments += own_run.setting(recipe)
    mirrored = ["--strategy", "mirrored"]
    save, callbacks.SAVE_EVERY = Run.save_checkpoint, 1

    def stop(self, captioner, progress):
        save(self, captioner, progress)
        if progress.step == 2:
            raise KeyboardInterrupt

    errors, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        odd = ["--set", "data.batch_size=7", "--out", "odd"]
        cli.main([*arguments, *odd, *mirrored])
        Run.save_checkpoint = stop
        status = cli.main([*arguments, "--out", "run"])
        Run.save_checkpoint = save
        cli.main([*arguments, "--out", "run", *mirrored])
        cli.main([*arguments, "--out", "whole"])
    rows = [json.loads(pathlib.Path(f"{out}/history.json").read_text()) for out in RUNS]
    ours, theirs = (
        [arrays[n] for n in sorted(arrays.files) if n != "progress"]
        for arrays in (np.load(f"{out}/checkpoint.npz") for out in RUNS)
    )
    return {
        "stopped": status,
        "refused": errors.getvalue(),
        "bleu_4": [row["val_bleu_4"] for (row,) in rows],
        "apart": furthest(ours, theirs),
    }


def main():
    """Prints it all."""
    two = devices()
    scheduled_sampling.draw_words = lambda logits, seed: (
        tf.argmax(logits[..., 3:], axis=-1, output_type=tf.int32) + 3
    )
    found = {"apart": {"graph": apart("graph", two)}}
    found["apart"]["see"] = furthest(seen(two), seen(None))
    # To compile takes longer than the rest.
    for name, compiled in list(vars(fused).items()):
        if hasattr(compiled, "python_function"):
            setattr(fused, name, compiled.python_function)
    updates.compiled = functools.partial(tf.function, autograph=False)
    found["apart"] |= {name: apart(name, two) for name in CASES if name != "graph"}
    found |= {"draws": draws(two), "refused": refused(two), "run": run()}
    found["refused"]["two strategies"] = mixed_up()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
