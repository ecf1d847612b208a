"""The command line as a script meets it: real processes, exit statuses, files."""

import json
import re
import signal
import subprocess
import sys

import numpy as np
import own_run
import PIL.Image
import pytest
import tensorflow as tf
from small_captioner import small_captioner

from sat_tf import ShowAttendTell, cli
from sat_tf.cli import arguments, program
from sat_tf.cli.program import COMMANDS
from sat_tf.presets import storage
from sat_tf.recipes import Recipe
from sat_tf.reranking.alignment import Alignment
from sat_tf.reranking.detection import Detection
from sat_tf.reranking.grounding import Grounding

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run():
    """Folder of a finished run."""
    status, _, errors = own_run.trained().finished
    assert status == 0, errors
    return own_run.workplace() / "run"


@pytest.fixture
def here(monkeypatch):
    """The workplace, for commands called in this process."""
    for name, value in own_run.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(own_run.workplace())
    return own_run.workplace()


def refused(capsys, *arguments):
    """What a command says on its way out with status 2."""
    assert cli.main(list(map(str, arguments))) == 2
    output, errors = capsys.readouterr()
    assert not output
    return errors


# -------------------------------------------------------------------------- help


def test_help_of_every_command_loads_no_library():
    code = f"""
import sys
from sat_tf.cli import main
for command in {tuple(COMMANDS)}:
    try:
        main([command, "--help"])
    except SystemExit as exit:
        print(command, "exits", exit.code)
heavy = sys.modules.keys() & {{"tensorflow", "keras", "numpy", "PIL", "matplotlib"}}
print("loaded", sorted(heavy))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=own_run.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    for name in COMMANDS:
        assert f"usage: sat-tf {name}" in done.stdout
        assert f"{name} exits 0" in done.stdout
    assert "loaded []" in done.stdout
    reporting = [name for name in COMMANDS if name != "serve"]
    assert done.stdout.count("--json") >= 2 * len(reporting)


def test_without_a_command_it_says_which_there_are(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([])
    assert exit.value.code == 2
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    output, errors = capsys.readouterr()
    assert "required: COMMAND" in errors
    assert all(re.search(rf"^ +{name}\b", output, re.M) for name in COMMANDS)


# ------------------------------------------------------- a run that was stopped


def test_kill_and_interrupt_were_that():
    trained = own_run.trained()
    status, errors = trained.killed
    assert status == -signal.SIGKILL, errors
    status, errors = trained.interrupted
    assert status == 130, errors
    assert "What was saved is complete; repeat the command to resume." in errors
    assert "Traceback" not in errors


def test_a_run_stopped_twice_ends_with_the_same_weights(run, here):
    """As one in a single process: weights, optimizer, baseline, seeds, statistics."""
    status, output, errors = own_run.command(*own_run.train_arguments("whole"))
    assert status == 0, errors
    assert "Best captioner: whole/model" in output
    for file in ("checkpoint.npz", "model/weights.npz"):
        with np.load(here / "whole" / file) as whole, np.load(run / file) as found:
            assert whole.files == found.files
            for name in set(whole.files) - {"progress"}:
                np.testing.assert_array_equal(whole[name], found[name], err_msg=name)
    rows = [
        json.loads((here / x / "history.json").read_text()) for x in ("run", "whole")
    ]
    for row, expected in zip(*rows, strict=True):  # what an epoch's end measures
        ends = {k for k in row if k.startswith("val_")}
        assert {k: row[k] for k in ends} == {k: expected[k] for k in ends}
    assert not list(run.rglob(".*.tmp"))


# -------------------------------------------------- train -> caption -> evaluate


def test_train_prints_json_and_nothing_else(run):
    _, output, errors = own_run.trained().finished
    history = json.loads(output)
    assert history == json.loads((run / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2]
    assert "Traceback" not in errors
    soft, hard = history
    shown = {"loss", "log_likelihood", "perplexity", "attention_entropy"}
    shown |= {"attention_entropy_share", "attention_gradient", "val_bleu_4"}
    assert shown <= soft.keys() and "baseline" not in soft
    assert shown | {"baseline", "advantage", "advantage_variance"} <= hard.keys()
    health = {"entropy", "entropy_share", "peak", "shift", "repeats", "coverage"}
    assert {f"val_attention_{name}" for name in health} <= hard.keys()


def test_run_folder_holds_the_recipe_and_tensorboards_figures(run):
    recipe = json.loads((run / "preset.json").read_text())
    assert (recipe["dataset"], recipe["seed"]) == ("own", 17)
    assert recipe["model"]["image_size"] == [32, 32]
    assert recipe["estimator"]["reward"] == "to_go"
    own = {name: recipe[name] for name in Recipe().to_dict()}
    assert Recipe.from_dict(own).to_dict() == own
    metadata = json.loads((run / "model" / "metadata.json").read_text())
    assert metadata["recipe"] == recipe and "val_bleu_4" in metadata
    assert list((run / "tensorboard").glob("events*"))
    assert not list(run.rglob("*.tmp"))


def test_caption_prints_json_and_draws_where_it_looked(run, here, capsys):
    names = [f"own/images/test{i}.png" for i in range(2)]
    options = ["--json", "--figure", "look.png", "--beam", "2"]
    assert cli.main(["caption", *names, "--model", str(run), *options]) == 0
    rows = json.loads(capsys.readouterr().out)  # and nothing else
    assert [row["image"] for row in rows] == names
    for row in rows:
        h, w = row["grid"]
        assert row["caption"] == " ".join(row["words"])
        assert len(row["locations"]) == len(row["log_p_word"]) == len(row["words"])
        assert all(0 <= i < h * w for i in row["locations"])
        assert row["beams"][0]["caption"] == row["caption"]
        assert row["log_p"] <= 0
    with PIL.Image.open("look.png") as figure:
        assert min(figure.size) > 100
        assert np.asarray(figure.convert("L")).std() > 1


PICTURE = "own/images/test0.png"


def test_explain_prints_json_and_draws_where_words_are(run, here, capsys):
    sentence = "A red square on the zebra's left"
    asked = ["explain", PICTURE, "--caption", sentence, "--model", str(run)]
    assert cli.main([*asked, "--json", "--figure", "found.png"]) == 0
    found = json.loads(capsys.readouterr().out)  # and nothing else
    (wanted,) = ShowAttendTell.from_preset(run).explain(PICTURE, sentence)
    assert (found["image"], found["caption"]) == (PICTURE, sentence)
    assert found["words"] == "a red square on the zebra 's left".split()
    assert found["known"] == [True] * 5 + [False] * 2 + [True]
    assert found["locations"] == wanted.locations.tolist()
    for name in ("evidence", "support", "log_p_word"):
        np.testing.assert_allclose(found[name], getattr(wanted, name), atol=1e-4)
    assert list(np.shape(found["evidence"])) == [8, *found["grid"]]
    with PIL.Image.open("found.png") as figure:
        assert min(figure.size) > 100
        assert np.asarray(figure.convert("L")).std() > 1


def test_explain_for_people(run, here, capsys):
    asked = ["explain", PICTURE, "--caption", "a red zebra", "--model", str(run)]
    assert cli.main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a", "red", "zebra"]
    for line in lines:
        assert re.search(r"row \d+, column \d+ of \d+ x \d+", line)
    for line in lines[:2]:
        assert re.search(r"the image .+ \([+-]\d+\.\d nats\)$", line)
    assert lines[2].endswith("unknown to the vocabulary")


def test_what_explain_refuses(run, here, capsys):
    said = refused(capsys, "explain", PICTURE, "--caption", " . ", "--model", run)
    assert "strings with a word or more. Received: ' . '" in said
    said = refused(capsys, "explain", "no.png", "--caption", "a", "--model", run)
    assert "no.png" in said and "Expected" in said


def test_caption_for_people(run, here, capsys):
    status = cli.main(
        ["caption", "own/images/test0.png", "--model", str(run), "--attention=sample"]
    )
    output, _ = capsys.readouterr()
    assert status == 0 and output.startswith("own/images/test0.png: ")


@pytest.fixture(scope="module")
def evaluated(run):
    """One process that scores the test split, with JSON."""
    return own_run.command(
        "evaluate", run, "--data", "own", "--out", "scores", "--json", "--beam", 2
    )


def test_evaluate_writes_the_fixed_keys(evaluated):
    status, output, errors = evaluated
    assert status == 0, errors
    folder = own_run.workplace() / "scores"
    scores = json.loads(output)
    assert scores == json.loads((folder / "scores.json").read_text())
    assert {f"bleu_{n}" for n in (1, 2, 3, 4)} <= scores.keys()
    assert {"rouge_l", "cider_d", "meteor", "n_images", "attention"} <= scores.keys()
    assert scores["n_images"] == own_run.IMAGES["test"]
    assert (scores["attention"], scores["beam"]) == ("argmax", 2)
    assert (scores["data"], scores["split"]) == ("own", "test")
    assert scores["convention"]
    assert scores["meteor"] is None and "Java" in scores["meteor_note"]
    assert "pointing_accuracy" not in scores  # that is known of drawings only


def test_evaluate_leaves_files_anyone_can_score_again(evaluated):
    folder = own_run.workplace() / "scores"
    predictions = json.loads((folder / "predictions.json").read_text())
    references = json.loads((folder / "references.json").read_text())
    assert [set(p) for p in predictions] == [{"image_id", "caption"}] * 4
    ids = {image["id"]: image["file_name"] for image in references["images"]}
    assert {p["image_id"] for p in predictions} == set(ids)
    assert sorted(ids.values()) == [f"test{i}.png" for i in range(4)]
    texts = [a["caption"] for a in references["annotations"]]
    assert any(text.startswith("A ") and text.endswith(".") for text in texts)  # raw


@pytest.mark.parametrize(
    "said, used",
    [("0.5", {"consensus": 0.5}), ("off", {}), (None, {"consensus": 0.3})],
)
def test_consensus_is_the_captioners_own_unless_told(said, used, run, here, capsys):
    captioner = ShowAttendTell.from_preset(run)
    rerank = {"consensus": 0.3}
    captioner.decoder_options = {"decoder": "beam", "beam": 3, "rerank": rerank}
    captioner.save_to_preset(here / "agreeing")
    told = ["--consensus", said] if said else []
    out = ["--data", "own", "--out", "agreed", "--json", "--beam", "2"]
    assert cli.main(["evaluate", "agreeing", *out, *told]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["beam"], scores["rerank"]) == (2, used)


OWN = {"consensus": 0.3, "alignment": 2.0, "detection": 3.0, "grounding": 4.0}
TOLD = {"consensus": 0.4, "alignment": 0.5, "detection": 0.6, "grounding": 0.7}


@pytest.mark.parametrize(
    "told, used",
    [
        ([], OWN),
        ([f"--{name}={strength}" for name, strength in TOLD.items()], TOLD),
        (["--consensus", "off"], {}),
    ],
    ids=["own", "told", "off"],
)
def test_opinions_are_the_captioners_own_unless_told(told, used, here, capsys):
    captioner = small_captioner(rerankers=[Alignment(3), Detection(3), Grounding(3)])
    captioner.encoder.resize_mode = "squash"
    captioner.decoder_options = {"decoder": "beam", "beam": 3, "rerank": OWN}
    captioner.save_to_preset(here / "opinionated")
    out = ["--data", "own", "--out", "ranked", "--json"]
    assert cli.main(["evaluate", "opinionated", *out, *told]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["beam"], scores["rerank"]) == (3, used)


@pytest.mark.parametrize("name", ["consensus", "detection", "grounding"])
def test_greedy_has_nobody_to_agree_with(name, run, here, capsys):
    out = ["--data", "own", "--out", "refused"]
    said = refused(capsys, "evaluate", run, *out, f"--{name}", "0.3", "--beam", "1")
    assert "--beam 1" in said and "--beam 10" in said and f"--{name}" in said
    out = ["--out", "refused", f"--{name}", "0.3", "--decoder", "greedy"]
    said = refused(capsys, "export", run, *out)
    assert "--decoder greedy" in said and "--beam 10" in said and f"--{name}" in said
    out = ["--data", "own", "--out", "greedy", "--json", "--consensus", "off"]
    assert cli.main(["evaluate", str(run), *out]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert (scores["decoder"], scores["rerank"]) == ("greedy", {})


def test_greedy_is_guided_unless_that_is_off(here, capsys):
    """What `--alignment off` turns off, with one beam too, and the scores say which."""
    captioner = small_captioner(rerankers=[Alignment(3, guiding=0.5)])
    captioner.encoder.resize_mode = "squash"
    rerank = {"consensus": 0.3, "alignment": 2.0}
    captioner.decoder_options = {"decoder": "beam", "beam": 3, "rerank": rerank}
    captioner.save_to_preset(here / "guided")
    out = ["--data", "own", "--out", "led", "--json", "--beam", "1"]
    for told, used in (
        ([], {"alignment": 2.0}),
        (["--alignment", "3"], {"alignment": 3.0}),
        (["--alignment", "off"], {}),
        (["--alignment", "0"], {}),
        (["--consensus", "off"], {}),  # which it only adds to
    ):
        assert cli.main(["evaluate", "guided", *out, *told]) == 0
        scores = json.loads(capsys.readouterr().out)
        assert (scores["decoder"], scores["rerank"]) == ("greedy", used)


@pytest.mark.parametrize("off", ["off", "0"])
def test_what_is_turned_off_asks_for_no_beams(off):
    args = program.parse(["caption", "a.jpg", "--alignment", off])
    options = arguments.decoding_options(args)
    assert options == {"rerank": {"alignment": None if off == "off" else 0.0}}


def test_a_strength_is_a_number_or_off(capsys):
    with pytest.raises(SystemExit, match="2"):
        program.parse(["caption", "a.jpg", "--alignment", "on"])
    said = "argument --alignment: expected a number or off, received 'on'"
    assert said in capsys.readouterr().err


def test_trained_captioner_is_the_best_one(run):
    """`--model` takes the run, or the folder of the captioner in it."""
    assert storage.find(run) == storage.find(run / "model") == run / "model"


# ------------------------------------------------------------------------ errors


def test_another_recipe_in_the_same_folder_is_refused(run, here, capsys):
    arguments = own_run.train_arguments(
        "run", {"optimizer.learning_rate": "0.1", "model.dropout": "0"}
    )
    said = refused(capsys, *arguments)
    assert "differs in model.dropout (0.1 then, 0.0 now), optimizer.learn" in said
    assert "Choose another --out, or the same settings" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--data", "own", "--preset", "best"], "'best'. Choose one"),
        (["train", "--data", "nowhere", "--preset", "scenes"], "data='nowhere'"),
        (
            ["train", "--data", "own", "--preset", "scenes", "--estimator", "guess"],
            "Expected estimator to be one of soft, reinforce",
        ),
        (
            ["train", "--data", "own", "--preset", "scenes", "--set", "samples"],
            "Expected key=value. Received: --set samples",
        ),
        (
            ["train", "--data", "own", "--preset", "scenes", "--set", "sample=2"],
            "Received: sample. Did you mean estimator.samples",
        ),
        (
            [
                "train",
                "--data",
                "own",
                "--preset",
                "scenes",
                "--set",
                "data.batch_size=x",
            ],
            "Expected data.batch_size to be a whole number, 1 or more. Received: ",
        ),
        (
            ["train", "--data", "own", "--preset", "scenes", "--epochs", "1"],
            "WarmUp for 3, Train for 0. Set stages.train.epochs, or a larger --epochs",
        ),
    ],
)
def test_what_train_refuses(arguments, said, here, capsys):
    assert said in refused(capsys, *arguments, "--out", "refused")
    assert not (here / "refused" / "checkpoint.npz").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["train", "--seed", "-1"], "--seed: expected a whole number, from 0 to 42949"),
        (["train", "--epochs", "-1"], "--epochs: expected a whole number, 0 or more"),
        (["caption", "--seed", str(10**20)], f"to 4294967295, received '{10**20}'"),
        (["evaluate", "--seed", "1.5"], "0 to 4294967295, received '1.5'"),
        (["tune-trunk", "--seed", "x"], "0 to 4294967295, received 'x'"),
        (["demo", "--seed", str(2**32)], "0 to 4294967295, received '4294967296'"),
        (["cache-features", "--seed", "-1"], "0 to 4294967295, received '-1'"),
        (
            ["caption-archive", "--batch-size", "0"],
            "--batch-size: expected a whole num",
        ),
        (["caption-archive", "--part-size", "-5"], "1 or more, received '-5'"),
        (
            ["bench-estimators", "--draws", "0"],
            "--draws: expected a whole number, 1 or",
        ),
        (
            ["bench-estimators", "--minutes", "nan"],
            "a number, more than 0, received 'n",
        ),
        (
            ["bench-estimators", "--seeds", "0"],
            "--seeds: expected a whole number, 1 or",
        ),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, said, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(options)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_refused_recipe_does_not_block_its_folder(run, here, capsys):
    """The next command, with the mistake corrected, starts there."""
    arguments = own_run.train_arguments(
        "again", {"estimator.samples": "1"}
    )  # and leave_one_out
    assert "Expected two samples or more" in refused(capsys, *arguments)
    arguments = own_run.train_arguments("again", {"optimizer.name": "adagrad"})
    assert "Expected optimizer.name to be one of adam, rmsprop" in refused(
        capsys, *arguments
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("no.png", None, "no.png"),
        ("text.png", b"not an image", "text.png"),
        ("cut.png", "half", "cut.png"),
    ],
)
def test_wrong_image_files_are_named(name, content, said, run, here, capsys):
    if content == "half":
        content = (here / "own/images/test0.png").read_bytes()[:60]
    if content:
        (here / name).write_bytes(content)
    assert cli.main(["caption", name, "--model", str(run)]) == 1
    output, errors = capsys.readouterr()
    assert not output and "1 of 1 images could not be captioned" in errors
    assert said in errors and "Expected" in errors and "Received" in errors


def test_wrong_models_splits_and_weights(run, here, capsys):
    said = refused(capsys, "caption", "own/images/test0.png", "--model", "nothing")
    assert "Received: 'nothing'" in said
    out = ["--out", "refused"]
    said = refused(capsys, "evaluate", run, "--data", "own", "--split", "dev2", *out)
    assert "split='dev2'" in said and "test, train, validation" in said


def test_set_out_that_is_a_file(here, capsys):
    (here / "file").write_text("")
    said = refused(capsys, *own_run.train_arguments("file/run"))
    assert "Expected room in the folder of the run, and the right to write" in said


def test_traceback_on_request(here, monkeypatch):
    monkeypatch.setenv("SAT_TF_TRACEBACK", "1")
    with pytest.raises(ValueError, match="'best'"):
        cli.main(["train", "--data", "own", "--preset", "best", "--out", "refused"])


# ------------------------------------------------------- recipes on the command line


def recipe_of(*options):
    """The recipe that `sat-tf train` would train."""
    taken = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "sat_tf.training.loop.train",
            lambda recipe, *_, **options: taken.update(recipe=recipe) or (None, []),
        )
        named = ["--data", "own", "--out", "none", "--json", *options]
        assert cli.main(["train", *named]) == 0
    return taken["recipe"]


def test_epochs_and_estimator_have_options_of_their_own(capsys):
    recipe = recipe_of("--preset", "scenes", "--epochs", "7", "--estimator", "rloo")
    assert recipe.stages == {"warm_up": {"epochs": 3}, "train": {"epochs": 4}}
    assert recipe.estimator == {"name": "rloo"}
    recipe = recipe_of("--preset", "paper", "--estimator", "soft", "--epochs", "5")
    assert recipe.stages == {"train": {"epochs": 5}}
    assert recipe.estimator == {"name": "soft"}  # the paper's lambdas are dropped
    more = {"stages.train.epochs": "2", "stages.fine_tune.epochs": "2"}
    wanted = [*own_run.setting(more), "--epochs", "9"]
    recipe = recipe_of("--preset", "scenes", *wanted)
    each = {name: options["epochs"] for name, options in recipe.stages.items()}
    assert each == {"warm_up": 3, "train": 2, "fine_tune": 4}
    capsys.readouterr()


def test_an_old_name_is_told_the_new_one(tmp_path, capsys):
    out = ["--data", "own", "--preset", "scenes", "--out", tmp_path]
    said = refused(capsys, "train", *out, "--set", "learning_rate=0.1")
    assert "Write --set optimizer.learning_rate=... instead." in said
    said = refused(capsys, "train", *out, "--set", "teacher=runs/flickr")
    assert "sat-tf teach TEACHER" in said


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError])
def test_too_little_memory_is_said_in_a_sentence(error, here, monkeypatch, capsys):
    def fails(*args, **kwargs):
        raise error if isinstance(error, Exception) else error(None, None, "OOM, 8 GB")

    monkeypatch.setattr("sat_tf.datasets.load", fails)
    out = ["--data", "own", "--out", "large"]
    said = refused(capsys, "evaluate", "scenes_hard", *out)
    assert "Expected work that fits into memory" in said and "--beam" in said
    assert "OOM" in said or "too little memory" in said
