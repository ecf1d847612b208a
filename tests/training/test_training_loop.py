"""Training for hours, its arithmetic left out; test_cli.py kills real processes."""

import dataclasses
import itertools
import json
import types

import numpy as np
import own_run
import pytest
from own_run import EPOCHS, STEPS
from pictures import picture
from quick_run import (
    FINE_TUNED,
    HARD,
    loaded,
    own_recipe,
    train_on,
    trunk_of,
    vector_of,
)
from toy import toy

from sat_tf import ShowAttendTell, datasets
from sat_tf.datasets import cache, pipeline
from sat_tf.decoding import DecodingOptions
from sat_tf.decoding.generate import Caption
from sat_tf.evaluation.evaluate import cached_inputs
from sat_tf.recipes import Recipe
from sat_tf.reranking.alignment import Alignment
from sat_tf.training import building, loop


def test_batches_for_fit_hold_every_caption_once_an_epoch(quick, tmp_path):
    split = loaded("own", "train")
    captioner = building.build(own_recipe(), split.captions)
    dataset, steps = loop.batches(captioner, split, batch_size=8, cache_dir=tmp_path)
    wanted = sorted(
        captioner.vocabulary.encode(text) for texts in split.captions for text in texts
    )
    batches = list(dataset.take(2 * steps).as_numpy_iterator())
    rows = [[r[r > 0].tolist() for r in batch["tokens"]] for batch in batches]
    first, second = (list(itertools.chain(*rows[at : at + steps])) for at in (0, steps))
    assert sorted(first) == sorted(second) == wanted
    assert first != second
    assert batches[0]["image"].shape[1:] == (32, 32, 3)


def test_keeps_the_best_and_stops_when_patience_ends(quick, tmp_path):
    quick.bleu = {1: 50.0, 2: 3.0, 3: 7.0, 4: 5.0, 5: 6.0, 6: 99.0}
    recipe = {"stages.train.epochs": 8, "patience": 2}
    _, history = quick.train(tmp_path, recipe)
    # The warm-up's score is not the hard model's; two epochs are no better than 7.
    assert [row["val_bleu_4"] for row in history] == [50.0, 3.0, 7.0, 5.0, 6.0]
    metadata = json.loads((tmp_path / "model" / "metadata.json").read_text())
    assert (metadata["epoch"], metadata["val_bleu_4"]) == (3, 7.0)
    quick.train(tmp_path, recipe)
    assert len(quick.used) == 5 * STEPS  # nothing more to do


def test_an_unfit_validation_image_is_found_before_training(quick, tmp_path, capsys):
    own_run.write_own(tmp_path / "own")
    path = tmp_path / "own" / "images" / "validation2.png"
    picture(30, 32).save(path)
    options = [
        "--set",
        "model.resize_mode=none",
        "--cache-dir",
        str(tmp_path / "cache"),
    ]
    assert train_on(tmp_path / "own", tmp_path / "run", *options) == 2
    said = capsys.readouterr().err
    assert "size (32, 32)" in said and "validation2.png' of size (30, 32)" in said
    assert not quick.used


def test_caches_fit_whatever_the_data_are_called(quick, monkeypatch, tmp_path):
    """Two folders of one name; edited captions; other sizes; a slice of a split."""
    monkeypatch.setattr(loop, "load", datasets.load)
    cache_dir = tmp_path / "cache"
    a, b = tmp_path / "a" / "photos", tmp_path / "b" / "photos"

    def caches_after(data, out, *options):
        options = ["--cache-dir", str(cache_dir), *options]
        assert train_on(data, tmp_path / out, *options) == 0
        return {path.name for path in cache_dir.glob("*-pixels-*")}

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
    of_two_sizes = caches_after(a, "4", "--set", "model.image_size=[48,48]")
    assert len(of_two_sizes - of_both) == 2

    captioner = ShowAttendTell.from_preset(tmp_path / "1")
    for split in ("train[:3]", "train[3:]", "validation[:4]"):
        cached_inputs(captioner, datasets.load(a, split), cache_dir)
    assert len(list(cache_dir.glob("*-pixels-*"))) == len(of_two_sizes) + 2


def test_validation_sees_the_trunk_as_it_is_now(quick, small_trunk, tmp_path):
    """Not features cached when it was frozen."""
    captioner = building.build(own_recipe(FINE_TUNED), [["a red square"]])
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


@pytest.mark.parametrize("key", ["annotations", "image"])
def test_mirrored_records_are_of_an_image_or_its_mirror_image(
    quick, small_trunk, tmp_path, key
):
    captioner = building.build(own_recipe(FINE_TUNED), [["a red square"]])
    captioner.compile(optimizer="adam")
    split, size = loaded("own", "train"), captioner.encoder.image_size
    rows = np.arange(len(split))
    pixels = cache.keep(split, cache.pixels(size, "squash"), tmp_path).read(rows)
    wanted = [pixels, pixels[:, :, ::-1]]
    if key == "image":
        captioner.fine_tune()
    else:
        wanted = [captioner.encode(each).numpy() for each in wanted]
    captioner.encoder.resize_mode = "squash"
    inputs, found = cached_inputs(captioner, split, tmp_path, mirrored=True)
    assert found == key
    apart = [
        np.abs(inputs.read(rows) - each.astype("float32")).reshape(len(rows), -1).max(1)
        for each in wanted
    ]
    np.testing.assert_array_less(np.min(apart, axis=0), 1e-2)
    assert len(set(np.argmin(apart, axis=0))) == 2


def test_training_images_alone_are_mirrored_and_only_if_asked(
    quick, monkeypatch, tmp_path
):
    made = []

    class Watched(pipeline.Mirrored):
        def __init__(self, plain, mirror):
            super().__init__(plain, mirror)
            made.append(len(plain))

    monkeypatch.setattr("sat_tf.evaluation.evaluate.Mirrored", Watched)
    quick.train(tmp_path / "as it is", HARD)
    assert not made
    quick.train(tmp_path / "mirrored", {**HARD, "data.mirrored": True})
    assert set(made) == {len(loaded("own", "train"))}


def test_other_encoder_weights_are_refused_to_a_run_under_way(
    quick, small_trunk, tmp_path
):
    """By their content: the file may have moved."""
    for name, content in (("a.h5", b"a"), ("copy.h5", b"a"), ("b.h5", b"b")):
        (tmp_path / name).write_bytes(content)

    frozen = {"stages.fine_tune.epochs": 0}

    def run(name):
        options = {"encoder_weights": tmp_path / name, "cache_dir": tmp_path / "cache"}
        quick.train(tmp_path / "run", {**FINE_TUNED, **frozen}, **options)

    run("a.h5")
    run("copy.h5")
    with pytest.raises(ValueError, match="differs in encoder_fingerprint"):
        run("b.h5")
    with pytest.raises(FileNotFoundError, match="Expected a Keras weights file"):
        run("none.h5")


def test_starts_from_word_vectors_and_resumes_without_them(quick, tmp_path, capsys):
    path = tmp_path / "vectors.txt"
    path.write_text("red" + 8 * " 0.25" + "\nnobody" + 8 * " 1.5" + "\n")
    recipe = {**HARD, "model.word_vectors": str(path), "model.embedding_size": 8}
    captioner, _ = quick.train(tmp_path / "run", recipe)
    row = captioner.vocabulary.id_of("red")
    table = captioner.network.decoder.embedding.embeddings.numpy()
    np.testing.assert_array_equal(table[row], 8 * [0.25])
    assert (np.delete(table, row, axis=0) != 0.25).all()
    assert not capsys.readouterr().out  # verbose=0
    path.unlink()
    quick.train(tmp_path / "run", recipe)  # its checkpoint has them


def test_word_vectors_are_read_before_hours_of_caching(quick, tmp_path, monkeypatch):
    def cached(*args, **kwargs):
        pytest.fail("Caches were made first.")

    monkeypatch.setattr(loop, "cached_inputs", cached)
    recipe = {**HARD, "model.word_vectors": str(tmp_path)}
    with pytest.raises(FileNotFoundError, match="a folder. Give the file's path"):
        quick.train(tmp_path / "run", recipe)


def test_scheduled_sampling_is_handed_over(quick, tmp_path, monkeypatch):
    seen, compile = [], ShowAttendTell.compile

    def spy(self, *args, **kwargs):
        seen.append(kwargs["scheduled_sampling"])
        return compile(self, *args, **kwargs)

    monkeypatch.setattr(ShowAttendTell, "compile", spy)
    quick.train(tmp_path / "off", HARD)
    quick.train(tmp_path / "on", {**HARD, "objective.scheduled_sampling": 0.4})
    assert seen[0] == 0
    assert float(seen[1](EPOCHS * STEPS)) == pytest.approx(0.4)
    assert float(seen[1](EPOCHS * STEPS / 2)) == pytest.approx(0.2)


def test_decodes_as_the_recipe_says(quick, tmp_path):
    strengths = {"consensus": 0.3, "detection": 1.5}
    decoding = {"decoder": "beam", "beam": 4, "rerank": strengths}
    size = {"model.rerankers.detection.hidden_size": 3}
    trained, _ = quick.train(tmp_path, {"decoding": decoding, **size})
    options = trained.options()
    assert (options.decoder, options.beam) == ("beam", 4)
    assert dict(options.rerank) == strengths
    assert trained.rerankers[0].hidden_size == 3


def test_decoding_nobody_could_do_is_refused_before_training(quick, tmp_path):
    with pytest.raises(ValueError, match="beam to be a whole number, 1 or more"):
        quick.train(tmp_path, {"decoding.decoder": "beam", "decoding.beam": 0})
    assert not quick.used and not list(tmp_path.iterdir())


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
    monkeypatch.setattr(loop, "cached_inputs", lambda *_: (None, "annotations"))
    monkeypatch.setattr(loop, "predict", lambda *_: [caption])
    split = types.SimpleNamespace(captions=(("A red dog .",),))
    session = types.SimpleNamespace(
        captioner=toy(), validation=split, cache_dir=None, recipe=Recipe()
    )
    row = loop._validate(session)
    assert row["val_bleu_4"] >= 0
    assert row["val_attention_entropy_share"] == pytest.approx(1)
    assert "Warning: the attention has collapsed to uniform" in capsys.readouterr().err
    silent = dataclasses.replace(caption, caption="", words=(), alpha=uniform[:0])
    monkeypatch.setattr(loop, "predict", lambda *_: [silent])
    assert loop._validate(session).keys() == {"val_bleu_4"}


def test_validation_is_greedy_and_nobody_helps(monkeypatch):
    """However the captioner decodes by default: the epochs are judged, not the rest."""
    captioner = toy(rerankers=[Alignment(3, guiding=0.5)])
    rerank = {"consensus": 0.3, "alignment": 2.0}
    drawn = {"decoder": "sample", "temperature": 0.7, "top_k": 3, "rerank": rerank}
    captioner.compile(decoder=drawn)
    asked = []
    monkeypatch.setattr(loop, "cached_inputs", lambda *_: (None, "annotations"))
    monkeypatch.setattr(loop, "predict", lambda *given: asked.append(given[-1]) or [])
    monkeypatch.setattr(loop.scores, "bleu4", lambda *_: 0.0)
    split = types.SimpleNamespace(captions=())
    session = types.SimpleNamespace(
        captioner=captioner, validation=split, cache_dir=None, recipe=Recipe()
    )
    loop._validate(session)
    assert asked == [DecodingOptions(decoder="greedy")]


def test_seed_decides_weights_order_and_draws(quick, tmp_path):
    runs = [
        quick.train(tmp_path / str(i), seed=seed)[0] for i, seed in enumerate((1, 1, 2))
    ]
    kernels = [x.network.decoder.gates_word.kernel.numpy() for x in runs]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()
    assert (vector_of(runs[0]) == vector_of(runs[1])).all()
