"""Training for hours, its arithmetic left out; test_cli.py kills real processes."""

import dataclasses
import errno
import functools
import itertools
import json
import os
import re
import shutil
import types

import keras
import numpy as np
import own_run
import pytest
from own_run import EPOCHS, STEPS
from pictures import picture
from plain_decoder import in_common
from toy import toy

from sat_tf import cli, datasets, vocabulary
from sat_tf.decoding.generate import Caption
from sat_tf.estimators import Reinforce, Soft, Variational
from sat_tf.evaluation.evaluate import cached_inputs
from sat_tf.model import encoder
from sat_tf.recipes.base import ARCTIC, PAPER, PRESETS, Preset, get_preset
from sat_tf.training import distillation
from sat_tf.training import loop as training


def arrays_of(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files if name != "progress"}


@functools.cache
def loaded(data, split, *, data_dir=None):
    return datasets.load(data, split, data_dir=data_dir)


@pytest.fixture
def quick(monkeypatch):
    """`train` on the own data with updates that cost nothing but depend on order.

    Returns a namespace: `train(out, **changes)`; `bleu`, the validation scores to
    come; `used`, the estimator of every update; `read`, what it got of the images;
    `losses`, values to report.
    """
    for name, value in own_run.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(own_run.workplace())
    monkeypatch.setattr(training, "SAVE_EVERY", 1)
    monkeypatch.setattr(training, "load", loaded)
    state = types.SimpleNamespace(bleu={}, used=[], read=[], losses={})

    def fit(self, data, *, callbacks, steps_per_epoch, **_):
        for batch in data.take(steps_per_epoch).as_numpy_iterator():
            vector = self.attention.vector
            moved = float(np.sum(batch["tokens"] ** 2)) / 1e3
            vector.assign(0.7 * vector + moved)
            self.optimizer.iterations.assign_add(1)
            state.read.append("image" if "image" in batch else "annotations")
            if self.encoder_optimizer is not None:
                self.encoder_optimizer.iterations.assign_add(1)
                for weight in self.encoder.trainable_variables:
                    seen = float(np.mean(batch["image"])) / 1e3
                    steps = float(self.encoder_optimizer.iterations)
                    weight.assign(0.7 * weight + moved * seen + steps / 10)
            step = callbacks[0].progress.step
            state.used.append(type(self.estimator))
            callbacks[0].set_model(self)
            loss = state.losses.get(step, 1.0)
            if loss == "nan after":
                vector.assign(vector * np.nan)
                loss = 1.0
            callbacks[0].on_train_batch_end(0, {"loss": loss})
        return types.SimpleNamespace(history={"loss": [1.0]})

    def validate(captioner, *_):
        epoch = int(captioner.optimizer.iterations.numpy()) // STEPS
        return {"val_bleu_4": state.bleu.get(epoch, float(epoch))}

    monkeypatch.setattr(training.ShowAttendTell, "fit", fit)
    monkeypatch.setattr(training, "_validate", validate)
    recipe = {**own_run.RECIPE, "epochs": str(EPOCHS)}
    preset = PRESETS["scenes"].replace(**recipe)

    def train(out, cache_dir=None, encoder_weights=None, **changes):
        return training.train(
            preset.replace(**changes),
            "own",
            out,
            cache_dir=cache_dir,
            encoder_weights=encoder_weights,
            verbose=0,
        )

    state.train = train
    return state


def vector_of(captioner):
    return captioner.network.attention.vector.numpy()


def trunk_of(captioner):
    return [v.numpy() for v in captioner.encoder.network.weights]


@pytest.fixture
def small_trunk(monkeypatch):
    """A trunk that came trained, as far as anybody can tell: 2 x 2 places."""

    def network(trunk, weights, image_size):
        images = keras.Input((*image_size, 3))
        x = keras.layers.Rescaling(1 / 255)(images)
        x = keras.layers.Conv2D(4, 16, strides=16, activation="relu")(x)
        x = keras.layers.BatchNormalization()(x)
        return keras.Model(images, x, name=trunk)

    monkeypatch.setattr(encoder, "_network", network)


def test_batches_for_fit_hold_every_caption_once_an_epoch(quick, tmp_path):
    split = loaded("own", "train")
    captioner = training.build(
        PRESETS["scenes"].replace(**own_run.RECIPE),
        itertools.chain.from_iterable(split.captions),
    )
    dataset, steps = training.batches(
        captioner, split, batch_size=8, cache_dir=tmp_path
    )
    wanted = sorted(
        captioner.vocabulary.encode(text) for texts in split.captions for text in texts
    )
    batches = list(dataset.take(2 * steps).as_numpy_iterator())
    rows = [[r[r > 0].tolist() for r in batch["tokens"]] for batch in batches]
    first, second = (list(itertools.chain(*rows[at : at + steps])) for at in (0, steps))
    assert sorted(first) == sorted(second) == wanted
    assert first != second
    assert batches[0]["image"].shape[1:] == (32, 32, 3)


def test_soft_warm_up_then_hard(quick, tmp_path):
    captioner, history = quick.train(tmp_path, epochs=3, warm_up=1)
    assert quick.used == [Soft] * STEPS + [Reinforce] * 2 * STEPS
    assert isinstance(captioner.estimator, Reinforce)
    assert captioner.attention_rule == "argmax"
    assert [row["epoch"] for row in history] == [1, 2, 3]


def test_soft_alone_needs_no_warm_up(quick, tmp_path):
    """Its first epoch may be its best, and there is no captioner to wait for."""
    quick.bleu = {1: 9.0}
    options = {"estimator": "soft", "epochs": 2, "warm_up": 2}
    captioner, _ = quick.train(tmp_path, **options)
    assert captioner.attention_rule == "expected"
    metadata = json.loads((tmp_path / "model" / "metadata.json").read_text())
    assert metadata["epoch"] == 1


def test_keeps_the_best_and_stops_when_patience_ends(quick, tmp_path):
    quick.bleu = {1: 50.0, 2: 3.0, 3: 7.0, 4: 5.0, 5: 6.0, 6: 99.0}
    _, history = quick.train(tmp_path, epochs=9, warm_up=1, patience=2)
    # The warm-up's score is not the hard model's; two epochs are no better than 7.
    assert [row["val_bleu_4"] for row in history] == [50.0, 3.0, 7.0, 5.0, 6.0]
    metadata = json.loads((tmp_path / "model" / "metadata.json").read_text())
    assert (metadata["epoch"], metadata["val_bleu_4"]) == (3, 7.0)
    quick.train(tmp_path, epochs=9, warm_up=1, patience=2)
    assert len(quick.used) == 5 * STEPS  # nothing more to do


@pytest.fixture
def whole(quick, tmp_path, undisturbed=[]):  # noqa: B006, trained once
    """Vector and history of a run of two epochs that nothing disturbed."""
    if not undisturbed:
        captioner, history = quick.train(tmp_path / "whole", warm_up=0)
        undisturbed += [vector_of(captioner), history]
    return undisturbed


@pytest.mark.parametrize(
    "write", ["save_checkpoint", "save_best", "save_history", "log"]
)
def test_stopped_between_any_two_writes(write, quick, whole, tmp_path, monkeypatch):
    """Of an epoch's end, where there are four: it is judged once, and whole."""
    real, calls = getattr(training.Run, write), []

    def dies(self, *args):
        calls.append(write)
        # The checkpoint that ends the epoch, not those on the way.
        if len(calls) == (STEPS if write == "save_checkpoint" else 1):
            raise KeyboardInterrupt
        real(self, *args)

    monkeypatch.setattr(training.Run, write, dies)
    with pytest.raises(KeyboardInterrupt):
        quick.train(tmp_path / "stopped", warm_up=0)
    found, history = quick.train(tmp_path / "stopped", warm_up=0)
    np.testing.assert_array_equal(vector_of(found), whole[0])
    assert history == whole[1]
    written = json.loads((tmp_path / "stopped" / "history.json").read_text())
    assert written == history


FINE_TUNED = {
    "trunk": "mobilenet",
    "warm_up": 0,
    "epochs": 3,
    "fine_tune_after": 1,
    "encoder_rate": 0.1,
}


def test_the_trunk_is_trained_after_so_many_epochs(quick, small_trunk, tmp_path):
    """And a run killed before, at or after that moment ends with the same weights."""
    cache = tmp_path / "cache"  # features of another trunk are refused

    def run(out):
        return quick.train(tmp_path / out, cache_dir=cache, **FINE_TUNED)

    class Killed(Exception):
        pass

    def dying(after):
        calls = []

        def save(self, captioner, progress):
            real(self, captioner, progress)
            calls.append(progress.step)
            checkpoints[progress.step] = arrays_of(self.folder / "checkpoint.npz")
            if len(calls) == after:
                raise Killed

        return save

    real, checkpoints = training.Run.save_checkpoint, {}
    whole, history = run("whole")
    assert quick.read == ["annotations"] * STEPS + ["image"] * 2 * STEPS
    with pytest.MonkeyPatch.context() as patch:
        for saves in (1, STEPS - 1, 1):  # in epoch 1, at its end, in epoch 2
            patch.setattr(training.Run, "save_checkpoint", dying(saves))
            with pytest.raises(Killed):
                run("stopped")
    found, again = run("stopped")
    for mine, theirs in zip(trunk_of(found), trunk_of(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(vector_of(found), vector_of(whole))
    assert again == history
    # A frozen trunk is not kept again and again, only one that changes.
    kernel = trunk_of(whole)[0].shape
    kept = {
        step: any(array.shape == kernel for array in arrays.values())
        for step, arrays in checkpoints.items()
    }
    assert kept == {step: step > STEPS for step in range(1, STEPS + 2)}


def train_on(data, out, *options):
    """The exit status of `sat-tf train`."""
    arguments = own_run.train_arguments(out)
    arguments[arguments.index("own")] = str(data)
    return cli.main([*arguments, *options, "--json"])


def test_an_unfit_validation_image_is_found_before_training(quick, tmp_path, capsys):
    own_run.write_own(tmp_path / "own")
    path = tmp_path / "own" / "images" / "validation2.png"
    picture(30, 32).save(path)
    options = ["--set", "resize_mode=none", "--cache-dir", str(tmp_path / "cache")]
    assert train_on(tmp_path / "own", tmp_path / "run", *options) == 2
    said = capsys.readouterr().err
    assert "size (32, 32)" in said and "validation2.png' of size (30, 32)" in said
    assert not quick.used


def test_caches_fit_whatever_the_data_are_called(quick, monkeypatch, tmp_path):
    """Two folders of one name; edited captions; other sizes; a slice of a split."""
    monkeypatch.setattr(training, "load", datasets.load)
    cache_dir = tmp_path / "cache"
    a, b = tmp_path / "a" / "photos", tmp_path / "b" / "photos"

    def caches_after(data, out, *options):
        options = ["--cache-dir", str(cache_dir), *options]
        assert train_on(data, tmp_path / out, *options) == 0
        return {path.name for path in cache_dir.iterdir()}

    for data in (a, b):
        own_run.write_own(data)
    picture(32, 32).save(b / "images" / "train3.png")
    of_a = caches_after(a, "1")
    assert len(of_a) == 2 and any("photos-train-pixels-32x32-" in name for name in of_a)
    of_both = caches_after(b, "2")
    assert len(of_both - of_a) == 1  # their validation images are the same
    with open(a / "captions.csv", "a") as file:
        file.write("train0.png,And something else.,train\n")
    assert caches_after(a, "3") == of_both
    of_two_sizes = caches_after(a, "4", "--set", "image_size=[48,48]")
    assert len(of_two_sizes - of_both) == 2

    captioner = training.ShowAttendTell.from_preset(tmp_path / "1")
    for split in ("train[:3]", "train[3:]", "validation[:4]"):
        cached_inputs(captioner, datasets.load(a, split), cache_dir)
    assert len(list(cache_dir.iterdir())) == len(of_two_sizes) + 2


def test_validation_sees_the_trunk_as_it_is_now(quick, small_trunk, tmp_path):
    """Not features cached when it was frozen."""
    preset = PRESETS["scenes"].replace(**{**own_run.RECIPE, **FINE_TUNED})
    captioner = training.build(preset, ["a red square"])
    captioner.compile(optimizer="adam")
    split = loaded("own", "validation")
    before, key = cached_inputs(captioner, split, tmp_path)
    assert key == "annotations"
    captioner.fine_tune()
    captioner.encoder.network.weights[0].assign_add(
        np.ones(trunk_of(captioner)[0].shape)
    )
    inputs, key = cached_inputs(captioner, split, tmp_path)
    assert key == "image"
    rows = np.arange(len(split))
    now = captioner.network.features_of({key: inputs.read(rows)})
    assert np.abs(now - before.read(rows)).max() > 0.1


def test_other_encoder_weights_are_refused_to_a_run_under_way(
    quick, small_trunk, tmp_path
):
    """By their content: the file may have moved."""
    for name, content in (("a.h5", b"a"), ("copy.h5", b"a"), ("b.h5", b"b")):
        (tmp_path / name).write_bytes(content)

    def run(name):
        options = {"encoder_weights": tmp_path / name, "cache_dir": tmp_path / "cache"}
        quick.train(tmp_path / "run", **{**FINE_TUNED, "epochs": 1}, **options)

    run("a.h5")
    run("copy.h5")
    with pytest.raises(ValueError, match="differs in encoder_fingerprint"):
        run("b.h5")
    with pytest.raises(FileNotFoundError, match="Expected a Keras weights file"):
        run("none.h5")


def test_starts_from_word_vectors_and_goes_on_without_them(quick, tmp_path, capsys):
    path = tmp_path / "vectors.txt"
    path.write_text("red" + 8 * " 0.25" + "\nnobody" + 8 * " 1.5" + "\n")
    options = {"word_vectors": str(path), "warm_up": 0, "embedding_size": 8}
    captioner, _ = quick.train(tmp_path / "run", **options)
    row = captioner.vocabulary.id_of("red")
    table = captioner.network.decoder.embedding.embeddings.numpy()
    np.testing.assert_array_equal(table[row], 8 * [0.25])
    assert (np.delete(table, row, axis=0) != 0.25).all()
    assert not capsys.readouterr().out  # verbose=0
    path.unlink()
    quick.train(tmp_path / "run", **options)  # its checkpoint has them


@pytest.fixture
def teacher(quick, tmp_path):
    """The folder of a captioner of random weights that keeps three beams."""
    captions = itertools.chain.from_iterable(loaded("own", "train").captions)
    recipe = {**own_run.RECIPE, "epochs": "2"}
    captioner = training.build(PRESETS["scenes"].replace(**recipe), captions)
    rng = np.random.default_rng(17)
    for variable in captioner.variables:
        if len(variable.shape) > 1:  # large ones: it is to say different things
            width = 3 / np.sqrt(np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, width, variable.shape))
    options = {"beam": 3, "consensus": 0.3, "max_length": 4}
    captioner.compile(decoder={"decoder": "beam", **options})
    captioner.save_to_preset(tmp_path / "teacher")
    return tmp_path / "teacher"


def test_a_teachers_beams_are_learned_beside_what_people_say(
    quick, teacher, tmp_path, monkeypatch
):
    """Those it likes and people agree with; a run that goes on does not ask again."""
    captioner = training.ShowAttendTell.from_preset(teacher)
    split, folder = loaded("own", "train"), own_run.workplace() / "own" / "images"
    spoken = captioner.generate([folder / name for name in split.file_names])
    wanted = []
    for caption, people in zip(spoken, split.captions, strict=True):
        heard = [tuple(vocabulary.tokenise(text)) + ("<eos>",) for text in people]
        agreed = {
            beam.caption: beam.score
            + 3 * np.mean([in_common((*beam.words, "<eos>"), h, 4) for h in heard])
            for beam in caption.beams
        }
        wanted.append(sorted(agreed, key=agreed.get, reverse=True)[:2])
    plain = [[beam.caption for beam in caption.beams[:2]] for caption in spoken]
    assert len(set(map(tuple, wanted))) > 1 and wanted != plain
    options = {"warm_up": 0, "teacher": str(teacher), "teacher_captions": 2}
    seen, schedule = [], training.pipeline.Schedule

    def spy(captions, *args, **kwargs):
        seen.append(captions)
        return schedule(captions, *args, **kwargs)

    monkeypatch.setattr(training.pipeline, "Schedule", spy)
    found, _ = quick.train(tmp_path / "run", epochs=1, **options)
    assert [said[:2] for said in seen[0]] == list(split.captions)
    assert [list(said[2:]) for said in seen[0]] == wanted
    assert len(quick.used) == 2 * STEPS
    # The teacher says its words in other numbers; the vocabulary is people's.
    plain, _ = quick.train(tmp_path / "plain", epochs=1, warm_up=0)
    assert found.vocabulary.words == plain.vocabulary.words
    monkeypatch.setattr(distillation, "predict", None)
    (tmp_path / "run" / "checkpoint.npz").unlink()
    quick.train(tmp_path / "run", epochs=1, **options)
    assert seen[0] == seen[2]


def test_a_run_keeps_its_teacher(quick, teacher, tmp_path):
    options = {"warm_up": 0, "epochs": 1, "teacher": str(teacher)}
    with pytest.raises(ValueError, match="from 1 to 3, the beams.*teacher_captions=5"):
        quick.train(tmp_path / "run", **options)
    options["teacher_captions"] = 1
    quick.train(tmp_path / "run", **options)
    with pytest.raises(ValueError, match="a teacher that decodes by consensus"):
        quick.train(tmp_path / "else", **{**options, "teacher": "scenes_hard"})
    first = (tmp_path / "run" / "teacher.json").read_text()
    other = training.ShowAttendTell.from_preset(teacher)
    other.network.decoder.output_word.kernel.assign(-other.network.decoder.output_word.kernel)
    other.save_to_preset(teacher)
    with pytest.raises(ValueError, match="differs in teacher_fingerprint"):
        quick.train(tmp_path / "run", **options)
    (tmp_path / "run" / "checkpoint.npz").unlink()  # a new run in the old folder
    quick.train(tmp_path / "run", **options)
    assert (tmp_path / "run" / "teacher.json").read_text() != first
    with pytest.raises(ValueError, match="teacher='nobody', where none is"):
        quick.train(tmp_path / "else", **{**options, "teacher": "nobody"})


def test_grounding_is_fitted_at_the_end_and_once(quick, tmp_path, monkeypatch):
    """And a run that is killed then ends as one that was not."""
    options = {"warm_up": 0, "grounding_size": 3, "grounding": 0.5}
    options |= {"beam": 2, "consensus": 0.3}

    def weights(captioner):
        return [w.numpy() for w in captioner.grounding.weights]

    whole, _ = quick.train(tmp_path / "whole", **options)
    assert whole.grounding.fitted and whole.options().grounding == 0.5
    before = (tmp_path / "whole" / "model" / "metadata.json").read_text()
    fit = training.grounding.fit

    def dies(*args, **kwargs):
        fit(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(training.grounding, "fit", dies)
    again, _ = quick.train(tmp_path / "whole", **options)  # nothing more to do
    assert (tmp_path / "whole" / "model" / "metadata.json").read_text() == before
    with pytest.raises(KeyboardInterrupt):
        quick.train(tmp_path / "killed", **options)
    monkeypatch.setattr(training.grounding, "fit", fit)
    found, _ = quick.train(tmp_path / "killed", **options)
    for other in (again, found):
        for mine, theirs in zip(weights(other), weights(whole), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_scheduled_sampling_is_handed_over(quick, tmp_path, monkeypatch):
    seen, compile = [], training.ShowAttendTell.compile

    def spy(self, *args, **kwargs):
        seen.append(kwargs["scheduled_sampling"])
        return compile(self, *args, **kwargs)

    monkeypatch.setattr(training.ShowAttendTell, "compile", spy)
    quick.train(tmp_path / "off", warm_up=0)
    quick.train(tmp_path / "on", warm_up=0, scheduled_sampling=0.4)
    assert seen[0] == 0
    assert float(seen[1](EPOCHS * STEPS)) == pytest.approx(0.4)
    assert float(seen[1](EPOCHS * STEPS / 2)) == pytest.approx(0.2)


def test_stopped_in_and_after_a_warm_up(quick, tmp_path, monkeypatch):
    """The estimator that waits for its turn is in every checkpoint, in one place."""
    options = {"estimator": "variational", "warm_up": 1, "epochs": 2}
    whole, history = quick.train(tmp_path / "whole", **options)
    real, calls = training.Run.save_checkpoint, []

    def dies(self, *args):
        real(self, *args)
        calls.append(args)
        if len(calls) in (1, STEPS + 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Run, "save_checkpoint", dies)
    for used in (Soft, Variational):
        with pytest.raises(KeyboardInterrupt):
            quick.train(tmp_path / "stopped", **options)
        assert quick.used[-1] is used
    found, again = quick.train(tmp_path / "stopped", **options)
    assert again == history
    for ours, theirs in zip(found.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("file", ["checkpoint.npz", "model/weights.npz"])
def test_a_full_disk_leaves_the_last_checkpoint(
    file, quick, whole, tmp_path, monkeypatch
):
    """A real one: what the end of the first epoch writes goes to /dev/full."""
    save = training.Run.save_checkpoint

    def fills(self, captioner, progress):
        save(self, captioner, progress)
        if progress.step == STEPS - 1:
            beside = self.folder / file
            beside.parent.mkdir(exist_ok=True)
            beside = beside.with_name(f".{beside.name}.{os.getpid()}.tmp")
            beside.symlink_to("/dev/full")

    monkeypatch.setattr(training.Run, "save_checkpoint", fills)
    with pytest.raises(OSError, match="Expected room in the folder") as error:
        quick.train(tmp_path / "full", warm_up=0)
    assert error.value.errno == errno.ENOSPC
    assert error.value.filename == str(tmp_path / "full")
    assert "No space left on device" in str(error.value)
    with np.load(tmp_path / "full" / "checkpoint.npz") as arrays:
        assert json.loads(str(arrays["progress"]))["step"] == STEPS - 1
    assert not list((tmp_path / "full").rglob(".*.tmp"))

    monkeypatch.setattr(training.Run, "save_checkpoint", save)
    found, _ = quick.train(tmp_path / "full", warm_up=0)
    np.testing.assert_array_equal(vector_of(found), whole[0])


def test_a_folder_that_cannot_be_written(quick, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="the right to write.*Make room"):
        quick.train(tmp_path / "file" / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("not a folder")
    with pytest.raises(OSError, match="the right to write.*Make room"):
        quick.train(tmp_path / "run", warm_up=0)


def test_leftovers_of_a_killed_process_are_removed(quick, tmp_path):
    tmp_path.joinpath(".checkpoint.npz.4711.tmp").write_text("half")
    quick.train(tmp_path)
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), "nan after"])
def test_no_number_in_the_loss_stops_and_says_where(loss, quick, tmp_path):
    """And if only the update was none, it never reaches a checkpoint."""
    quick.losses = {1: loss}
    with pytest.raises(FloatingPointError, match="at step 1, in a batch of") as error:
        quick.train(tmp_path, warm_up=0)
    said = str(error.value)
    assert "nan" in said or "inf" in said or "weights" in said
    assert said.count(".png") == 4 and "train" in said  # the images of that batch
    checkpoint = tmp_path / "checkpoint.npz"
    assert str(checkpoint) in said
    assert all(np.isfinite(array).all() for array in arrays_of(checkpoint).values())


def test_decodes_as_the_recipe_says(quick, tmp_path):
    recipe = {"beam": 4, "consensus": 0.3, "detection": 1.5, "detector_size": 3}
    trained, _ = quick.train(tmp_path, **recipe)
    options = trained.options()
    assert (options.decoder, options.beam, options.consensus) == ("beam", 4, 0.3)
    assert options.detection == 1.5 and trained.detector.hidden_size == 3


def test_decoding_nobody_could_do_is_refused_before_training(quick, tmp_path):
    with pytest.raises(ValueError, match="beam a whole number >= 1"):
        quick.train(tmp_path, beam=0)
    assert not quick.used


def test_another_recipe_is_refused(quick, tmp_path):
    quick.train(tmp_path)
    before = (tmp_path / "checkpoint.npz").read_bytes()
    with pytest.raises(ValueError, match="differs in dropout, samples.*another --out"):
        quick.train(tmp_path, samples=3, dropout=0.5)
    assert (tmp_path / "checkpoint.npz").read_bytes() == before


def own_copy(folder):
    """The own data in a folder of their own, and the command that trains on them."""
    shutil.copytree(own_run.workplace() / "own", folder / "photos")
    command = own_run.train_arguments(folder / "run")
    command[command.index("--data") + 1] = str(folder / "photos")
    return folder / "photos" / "captions.csv", command


def replaced(old, new, *, times=-1):
    return lambda file: file.write_text(file.read_text().replace(old, new, times))


def edit_all_else(file):
    """Captions, images and pixels; the words stay the same, and as frequent."""
    images, rows = file.parent / "images", file.read_text().splitlines(True)
    of = {i: [row for row in rows if row.startswith(f"train{i}.png")] for i in (3, 5)}
    rows = [row for row in rows if row not in of[5]]
    rows += [row.replace("train5", "more") for row in of[5]]
    text = "".join(rows).replace(of[3][0], of[3][0].replace("A ", "a "))
    file.write_text(text.replace("validation1.png,A ", "validation1.png,one "))
    shutil.copy(images / "train5.png", images / "more.png")
    shutil.copy(images / "test0.png", images / "train0.png")


EDITS = {
    # As many words as before, which is how it once went unnoticed.
    replaced("red", "crimson"): [
        "words added: crimson; words removed: red;",
        "[0-9]+ images with other captions, e.g. train[0-9]+.png, in train",
    ],
    edit_all_else: [
        "but 1 image added, e.g. more.png, in train",
        "1 image removed, e.g. train5.png, in train",
        "1 image with other captions, e.g. train3.png, in train",
        "1 image with other pixels, e.g. train0.png, in train",
        "1 image with other captions, e.g. validation1.png, in validation",
    ],
}


def test_a_run_does_not_go_on_with_other_words_or_data(
    quick, tmp_path, capsys, monkeypatch
):
    """It says which, touches nothing, and goes on once they are back."""
    monkeypatch.setattr(training, "load", datasets.load)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("SAT_TF_CACHE", str(tmp_path / "cache"))
    file, command = own_copy(tmp_path)
    assert cli.main(command) == 0
    checkpoint = tmp_path / "run" / "checkpoint.npz"
    before, rows = checkpoint.read_bytes(), file.read_text()
    pixels = (file.parent / "images" / "train0.png").read_bytes()
    quick.used.clear()
    for edit, said in EDITS.items():
        edit(file)
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # as was once told
        capsys.readouterr()
        assert cli.main(command) == 2
        errors = capsys.readouterr().err
        for what in said:
            assert re.search(what, errors), errors
        assert "another --out" in errors and "put the data back" in errors
        file.write_text(rows)
        (file.parent / "images" / "train0.png").write_bytes(pixels)
    assert not quick.used and checkpoint.read_bytes() == before
    replaced("test0.png,A ", "test0.png,one ")(file)  # of which it knows nothing
    assert cli.main(command) == 0


def test_a_run_of_an_older_version_says_that_it_cannot_tell(quick, tmp_path, capsys):
    quick.train(tmp_path, warm_up=0)
    (tmp_path / "origins.json").unlink()
    quick.train(tmp_path, warm_up=0)
    assert "did not note its words and data" in capsys.readouterr().err
    quick.train(tmp_path, warm_up=0)  # now it did
    assert not capsys.readouterr().err


def test_the_same_words_with_other_ids(quick, tmp_path):
    """What another count of them makes of a vocabulary."""
    quick.train(tmp_path)
    path = tmp_path / "origins.json"
    note = json.loads(path.read_text())
    note["words"][3:5] = reversed(note["words"][3:5])
    path.write_text(json.dumps(note))
    with pytest.raises(ValueError, match="but words with other ids: .*, "):
        quick.train(tmp_path)


def test_a_checkpoint_of_another_layout_is_refused(quick, tmp_path):
    quick.train(tmp_path)
    path = tmp_path / "checkpoint.npz"
    with np.load(path) as arrays:
        kept = dict(arrays)
    del kept["00003"]
    np.savez(path, **kept)
    with pytest.raises(ValueError, match="whose checkpoint another version"):
        quick.train(tmp_path)


def test_a_second_run_in_one_folder_is_refused_and_names_the_first(
    quick, tmp_path, capsys
):
    """Before it writes a thing; a killed first is no hindrance."""
    command = own_run.train_arguments(tmp_path)
    code = (
        "import pathlib, sys, time; from sat_tf.runtime.files import alone\n"
        "with alone(sys.argv[1]): print('held', flush=True); time.sleep(600)"
    )
    first = own_run.sat_tf_process(tmp_path, code=code)
    try:
        assert first.stdout.readline() == "held\n"
        assert cli.main(command) == 2
        errors = capsys.readouterr().err
        assert f"in use by process {first.pid} on" in errors
        assert str(tmp_path) in errors and "another --out" in errors
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    finally:
        first.kill()
        first.communicate()
    assert cli.main(command) == 0
    assert cli.main(command) == 0  # the lock's file is still there


def test_a_file_system_without_locks_is_said_and_no_hindrance(
    quick, tmp_path, capsys, monkeypatch
):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("sat_tf.runtime.files.fcntl.flock", flock)
    quick.train(tmp_path)
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_validation_rows_hold_attention_health(monkeypatch, capsys):
    """From the captions as they were spoken; a collapse is said on standard error."""
    uniform = np.full((3, 2, 2), 0.25)
    caption = Caption(
        caption="a red dog",
        words=("a", "red", "dog"),
        score=0.0,
        log_p=0.0,
        log_p_word=np.zeros(3),
        locations=np.zeros(3, int),
        alpha=uniform,
        beta=np.ones(3),
    )
    monkeypatch.setattr(training, "cached_inputs", lambda *_: (None, "annotations"))
    monkeypatch.setattr(training, "predict", lambda *_: [caption])
    split = types.SimpleNamespace(captions=(("A red dog .",),))
    row = training._validate(toy(), split, Preset(), None)
    assert row["val_bleu_4"] >= 0
    assert row["val_attention_entropy_share"] == pytest.approx(1)
    assert "Warning: the attention has collapsed to uniform" in capsys.readouterr().err
    silent = dataclasses.replace(caption, caption="", words=(), alpha=uniform[:0])
    monkeypatch.setattr(training, "predict", lambda *_: [silent])
    assert training._validate(toy(), split, Preset(), None).keys() == {"val_bleu_4"}


def test_seed_decides_weights_order_and_draws(quick, tmp_path):
    preset = PRESETS["scenes"].replace(**own_run.RECIPE, epochs=2)
    runs = [
        training.train(preset, "own", tmp_path / str(i), seed=seed, verbose=0)[0]
        for i, seed in enumerate((1, 1, 2))
    ]
    kernels = [x.decoder.gates_word.kernel.numpy() for x in runs]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()
    assert (vector_of(runs[0]) == vector_of(runs[1])).all()


# ---------------------------------------------------------------------- recipes


def test_paper_and_arctic_differ_where_the_paper_and_its_code_do():
    """method.md, sections 1 to 3: the values of `capgen.train()` as it runs."""
    paper, arctic = dataclasses.asdict(PAPER), dataclasses.asdict(ARCTIC)
    assert {name: arctic[name] for name in paper if paper[name] != arctic[name]} == {
        "output_activation": "tanh",  # eq. 7 has none
        "reward": "per_word",  # RL_sumCost, a mean despite its name
        "lambda_r": 0.1,  # "/10."
        "lambda_e": 0.002,
        "batch_sum": True,  # known_grads is summed over the batch
        "coin": "step",  # Theano draws it anew at every step
        "attention_rule": "expected",  # generate_caps.py
        "batch_size": 16,
        "embedding_size": 100,
        "hidden_size": 1000,
        "dropout": 0.0,
    }
    for preset in (PAPER, ARCTIC):
        options = preset.estimator_options(Reinforce)
        assert (Reinforce(**options).samples, preset.semi_sampling) == (1, 0.5)
        assert (preset.baseline, preset.estimator) == ("moving_average", "reinforce")
        assert (preset.trunk, preset.optimizer) == ("vgg19", "rmsprop")
        assert (preset.warm_up, preset.lambda_ds, preset.clip_norm) == (0, 0.0, None)
        assert (preset.max_words, preset.patience) == (10_000, 10)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_an_estimator_and_an_optimizer(name):
    preset = get_preset(name)
    kind = training.ESTIMATORS[preset.estimator]
    estimator = kind(**preset.estimator_options(kind))
    assert estimator.samples == (preset.samples or 1)  # by default the estimator's
    optimizer = training.make_optimizer(preset, 100)
    assert float(optimizer.learning_rate) == pytest.approx(preset.learning_rate)
    assert Preset.from_json(preset.to_json()) == preset


VALUES = {
    "samples": 5,
    "reward": "to_go",
    "baseline": "none",
    "lambda_r": 0.3,
    "lambda_e": 0.02,
    "semi_sampling": 0.25,
    "coin": "step",
    "batch_sum": True,
    "baseline_steps": 7,
    "normalise_advantage": True,
    "temperature": 0.9,
    "final_temperature": 0.4,
    "anneal_steps": 30,
    "carry": "sampled",
    "top_k": 2,
    "proposal": "inference",
}


@pytest.mark.parametrize("name", training.ESTIMATORS)
def test_a_recipe_gives_an_estimator_all_that_its_bases_take(name):
    kind = training.ESTIMATORS[name]
    config = kind(**Preset(**VALUES).estimator_options(kind)).get_config()
    taken = kind.options(carry="sampled")
    assert taken <= VALUES.keys()
    for option in taken:
        assert config[option] == VALUES[option], option
    own = {k for k in config if k in VALUES} - set(kind.settled)
    assert taken == own  # nothing that is kept cannot be chosen


def test_the_papers_rule_with_another_baseline():
    """`--preset paper --estimator rloo` differs in nothing but the baseline."""
    rloo = training.ESTIMATORS["rloo"]
    estimator = rloo(**PAPER.estimator_options(rloo))
    for option in ("lambda_r", "lambda_e", "semi_sampling", "coin", "reward"):
        assert getattr(estimator, option) == getattr(PAPER, option)
    assert estimator.baseline == "leave_one_out"
    assert (estimator.lambda_e, estimator.semi_sampling) == (0.01, 0.5)


@pytest.mark.parametrize("command", ["train", "bench-estimators"])
@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (
            ("estimator=rloo", "temperature=0.3"),
            "Expected options that the estimator rloo takes: baseline_steps, "
            "batch_sum, coin, lambda_e, lambda_r, normalise_advantage, reward, "
            "samples, semi_sampling. Received: temperature=0.3.",
        ),
        (("estimator=rloo", "baseline=none"), "Received: baseline='none'"),
        (("estimator=rebar", "anneal_steps=9"), "gumbel_softmax, straight_through"),
        (("estimator=rebar", "semi_sampling=0.5"), "reinforce, rloo"),
        (("estimator=step_marginal", "samples=4"), "takes: carry, top_k. Received"),
        (("estimator=soft", "samples=4"), "soft takes: it has none. Received"),
        (("estimator=soft", "warm_up=2"), "Expected an estimator that draws places"),
        (("estimator=soft", "attention_rule=argmax"), "attention_rule changes nothing"),
        (("beam=1", "consensus=0.3"), "Expected beam=2 or more, without which"),
        (("teacher_captions=3",), "Expected a teacher"),
        (("trunk=vgg19", "encoder_rate=0.1"), "Expected a trunk that is trained"),
        (("initial_state=learned", "initial_gain=0.5"), "initial_state=annotations"),
    ],
)
def test_an_option_that_nothing_takes_is_refused(
    command, pairs, said, tmp_path, capsys
):
    """Before any data is read, and only if somebody asked for it."""
    out = tmp_path / "out"
    given = [command, "--preset", "scenes", "--data", "none", "--out", str(out)]
    given += [text for pair in pairs for text in ("--set", pair)]
    assert cli.main(given) == 2
    errors = capsys.readouterr().err
    assert said in errors and "Leave" in errors
    assert not out.exists()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("estimator", training.ESTIMATORS)
def test_what_a_preset_brings_along_is_no_mistake(name, estimator):
    preset = PRESETS[name].replace(estimator=estimator)
    training.refuse_unheard(preset, {"estimator"})
    off = {"beam": 1, "consensus": None, "detection": 0.0, "warm_up": 0}
    training.refuse_unheard(
        preset.replace(**off), off.keys()
    )  # as much as to say: without


def test_rate_falls_on_a_cosine_from_first_to_last():
    optimizer = training.make_optimizer(
        Preset(learning_rate=1e-2, final_rate=1e-4), total_steps=100
    )
    rates = []
    for step in (0, 50, 100, 200):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([1e-2, (1e-2 + 1e-4) / 2, 1e-4, 1e-4], rel=1e-4)


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("learning_rate=3e-4", "learning_rate", 3e-4),
        ("learning_rate=1", "learning_rate", 1.0),
        ("samples=4", "samples", 4),
        ("batch_sum=true", "batch_sum", True),
        ("clip_norm=None", "clip_norm", None),
        ("clip_norm=5", "clip_norm", 5.0),
        ("image_size=[64,48]", "image_size", (64, 48)),
        ("output_activation=tanh", "output_activation", "tanh"),
        ("encoder_weights=a=b.h5", "encoder_weights", "a=b.h5"),
    ],
)
def test_set_reads_a_value_of_the_fields_type(text, field, value):
    changed = Preset().replace(**dict([cli._key_value(text)]))
    assert getattr(changed, field) == value
    assert type(getattr(changed, field)) is type(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour=red", "Expected a field of the preset. Received: colour='red'"),
        ("samples=4.5", "Expected samples to be int or None. Received: samples=4.5"),
        ("samples=true", "Expected samples to be int or None. Received: samples=True"),
        ("batch_sum=1", "Expected batch_sum to be bool. Received: batch_sum=1"),
        ("reward=3", "Expected reward to be str. Received: reward=3"),
        ("image_size=64", "Expected image_size to be tuple. Received: image_size=64"),
        ("clip_norm=off", "Expected clip_norm to be float or None. Received:"),
        ("epochs", "Expected key=value. Received: --set epochs"),
    ],
)
def test_set_refuses_what_does_not_fit(text, said):
    with pytest.raises(ValueError) as error:
        Preset().replace(**dict([cli._key_value(text)]))
    assert said in str(error.value)
