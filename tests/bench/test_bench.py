"""The estimator bench: what it measures, its tables, and that it resumes."""

import csv
import dataclasses
import itertools
import json
import os
import pickle
import types

import keras
import numpy as np
import own_run
import pytest
import tensorflow as tf
from quick_run import own_recipe
from toy import all_paths, path_probability

from sat_tf import ShowAttendTell, cli, datasets
from sat_tf.bench import exact, learning, report, start, units
from sat_tf.bench import gradients as bench_gradients
from sat_tf.bench.gradients import Moments, bias_on_small_case, deriving, draw
from sat_tf.estimators import ESTIMATORS, Reinforce, Soft, Trace
from sat_tf.presets import storage
from sat_tf.recipes import RECIPES
from sat_tf.runtime.files import alone
from sat_tf.training import building
from sat_tf.vocabulary import tokenise

# ------------------------------------------------------------------------ moments


def test_moments_of_two_vectors_by_hand():
    moments = Moments()
    for vector in ([1.0, 2.0], [3.0, 6.0]):
        moments.add(vector)
    np.testing.assert_array_equal(moments.mean, [2, 4])
    assert moments.variance == 1 + 1 + 4 + 4
    assert moments.noise == 10 / 2
    assert moments.signal == 4 + 16 - 5


def exact_variance(model, data):
    """E|g - E g|^2 of f_att's gradient, g of the batch's mean, path by path."""
    weights = model.network.attention.trainable_variables
    total, rows = 0.0, len(data["tokens"])
    for row in range(exact.IMAGES):
        with tf.GradientTape(persistent=True) as tape:
            trace = all_paths(model, {name: x[row, None] for name, x in data.items()})
            p = path_probability(trace).numpy()[:, 0]
            paths = [
                Trace(*(x[k, None] for x in trace[:3]), trace.mask)
                for k in range(len(p))
            ]
            values = [model.estimator.surrogate(path)[0] for path in paths]
        each = [tape.gradient(value, weights) for value in values]
        each = np.array([np.concatenate([np.ravel(g) for g in one]) for one in each])
        total += p @ ((each - p @ each) ** 2).sum(1)
    return total / exact.IMAGES / rows


def test_variance_is_that_of_enumeration():
    """400 draws of a mean of 64: a standard error of some 5 %."""
    model, data = exact.small_case(Reinforce(baseline="none"))
    derive = deriving(model, data, lambda data: model.loss_of(data)[0])
    moments, seconds = draw(derive, 400)
    wanted = exact_variance(model, data)
    assert moments["attention"].variance == pytest.approx(wanted, rel=0.2)
    assert len(seconds) == 400 and min(seconds) > 0
    assert set(moments) == {
        *("logits", "attention", "lstm", "output", "initial_state", "embedding")
    }
    # The bias on a logit is d loss / d e_ti: summed over the places it is nothing.
    by_place = moments["logits"].mean.reshape(-1, exact.WORDS, 4)
    assert np.abs(by_place).max() > 100 * np.abs(by_place.sum(-1)).max()


def test_small_case_bound_is_that_of_all_paths():
    model, data = exact.small_case(Soft())
    trace = all_paths(model, data)
    total = tf.reduce_sum(trace.log_p_word, -1)
    wanted = tf.reduce_mean(tf.reduce_sum(path_probability(trace) * total, 0))
    got = exact.lower_bound(model, data)
    assert got.numpy() == pytest.approx(wanted.numpy(), rel=1e-5)


def test_bias_tells_right_from_wrong(monkeypatch):
    monkeypatch.setattr(bench_gradients, "SMALL_DRAWS", 300)
    right = bias_on_small_case(Reinforce(reward="to_go"))["attention"]
    assert right["bias"] < 2 * right["noise"] < 0.3
    halved = bias_on_small_case(Reinforce(reward="to_go", lambda_r=0.5))["attention"]
    assert halved["bias"] == pytest.approx(0.5, abs=0.15)
    soft = bias_on_small_case(Soft())["attention"]
    assert soft["bias"] < 1e-5

    class Other(Reinforce):
        unbiased_for = "something nobody wrote down"

    assert bias_on_small_case(Other()) == {}


# ------------------------------------------------------------------------- tables


def gradient_result(variance, ms, objective="lower_bound"):
    group = {"size": 10, "variance": variance, "noise": variance / 4, "signal": 2.0}
    return {
        "objective": objective,
        "unbiased": True,
        "ms": ms,
        "memory_mb": None,
        "groups": {"attention": group, "logits": group},
        "small": {"attention": {"bias": 0.02, "noise": 0.01}},
    }


def learning_result(scores, diverged=False):
    curve = [
        {
            "seconds": 60.0 * i,
            "updates": 10 * i,
            "log_likelihood": -2.0 + score,
            "pointing_accuracy": score,
        }
        for i, score in enumerate(scores)
    ]
    looks = {
        "generated": {"n": 2, "pointing": scores[-1], "middle": 0.5, "small": {"n": 0}},
        "given": {"n": 0, "small": {"n": 0}},
    }
    return {
        "attention": "argmax",
        "diverged": diverged,
        "curve": curve,
        "looks": {} if diverged else looks,
    }


@pytest.fixture
def measured(tmp_path):
    """A bench of two estimators and two seeds whose figures were made up."""
    results = {
        "gradients/paper": gradient_result(40.0, ms=100.0),
        "gradients/rival": gradient_result(4.0, ms=50.0),
        "learning/paper-0": learning_result([0.0, 0.1, 0.3]),
        "learning/paper-1": learning_result([0.0, 0.3, 0.5]),
        "learning/rival-0": learning_result([0.0, 0.8, 0.9]),
        "learning/rival-1": learning_result([0.0, 0.8], diverged=True),
    }
    for name, result in results.items():
        path = tmp_path / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(result))
    for name, mean in (("paper", [1.0, 2.0]), ("rival", [1.0, 0.0])):
        array = np.array(mean)
        np.savez(tmp_path / f"gradients/{name}.npz", attention=array, logits=array)
    return tmp_path


def read_csv(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_gradient_table_by_hand(measured):
    report.write(measured)
    rows = json.loads((measured / "gradients.json").read_text())
    paper, rival = (r for r in rows if r["group"] == "attention")
    assert (paper["estimator"], rival["estimator"]) == ("paper", "rival")
    assert paper["variance_each"] == 4.0
    assert paper["noise_to_signal"] == 20.0
    assert paper["variance_time"] == pytest.approx(40 * 0.1)
    assert paper["vs_paper"] == 1.0
    assert rival["vs_paper"] == pytest.approx(4 * 0.05 / (40 * 0.1))
    assert (rival["bias_small"], rival["bias_small_noise"]) == (0.02, 0.01)
    # |(1, 2) - (1, 0)| over |(1, 0)|; variances of the means 40 / 4 and 4 / 4.
    assert paper["bias_real_from"] == "rival"
    assert paper["bias_real"] == pytest.approx(2.0)
    assert paper["bias_real_noise"] == pytest.approx(np.sqrt(11))
    written = read_csv(measured / "gradients.csv")
    assert len(written) == len(rows)
    for text, row in zip(written, rows, strict=True):
        wanted = {k: "" if v is None else str(v) for k, v in row.items()}
        assert text == wanted


def test_bias_needs_another_of_the_same_objective(measured):
    path = measured / "gradients/rival.json"
    path.write_text(json.dumps(gradient_result(4.0, 50.0, "something else")))
    rows = report.gradient_rows(measured / "gradients")
    assert {row["bias_real"] for row in rows} == {None}


def test_summary_by_hand(measured):
    rival, paper = report.write(measured)
    assert (rival["estimator"], paper["estimator"]) == ("rival", "paper")
    assert paper["final_score"] == pytest.approx(0.4)
    assert (paper["final_low"], paper["final_high"]) == (0.3, 0.5)
    assert paper["final_log_likelihood"] == pytest.approx(-1.6)
    assert (paper["seconds_to_paper"], paper["share_of_paper"]) == (120.0, 1.0)
    # The mean curve passes 0.4 halfway through the first minute of two. A run that
    # diverged stays where it was.
    assert rival["seconds_to_paper"] == pytest.approx(30.0)
    assert rival["share_of_paper"] == pytest.approx(0.25)
    assert rival["final_score"] == pytest.approx(0.85)
    assert rival["attention_vs_paper"] == pytest.approx(0.05)
    assert paper["final_generated_pointing"] == pytest.approx(0.4)
    assert rival["final_generated_pointing"] == pytest.approx(0.9)
    assert rival["final_generated_middle"] == 0.5 and "final_given_middle" not in rival
    assert json.loads((measured / "summary.json").read_text()) == [rival, paper]


@pytest.mark.parametrize(
    "wanted, when", [(0.5, 15.0), (0.0, 0.0), (0.8, 20.0), (0.9, None)]
)
def test_first_time(wanted, when):
    assert report.first_time([0, 10, 20], [0.0, 0.2, 0.8], wanted) == when


def test_figures_are_drawn(measured):
    report.write(measured)
    for name in ("variance_time", "pointing_accuracy", "log_likelihood"):
        png = (measured / f"{name}.png").read_bytes()
        svg = (measured / f"{name}.svg").read_text()
        assert png.startswith(b"\x89PNG") and len(png) > 10_000
        assert "<svg" in svg
    figure = report.learning_figure(
        report.learning_rows(measured / "learning"), "pointing_accuracy"
    )
    panels = {panel.get_title(): panel for panel in figure.axes}
    assert list(panels) == ["rival", "paper"]  # best at the end first
    dashed, own = panels["rival"].lines
    (_, paper) = panels["paper"].lines
    assert dashed.get_linestyle() == "--" and own.get_linestyle() == "-"
    for line in (dashed, paper):
        np.testing.assert_allclose(line.get_ydata(), [0.0, 0.2, 0.4])
        np.testing.assert_allclose(line.get_xdata(), [0.0, 1.0, 2.0])
    assert max(own.get_ydata()) > 0.4


# -------------------------------------------------------------------- whole bench


def test_every_variant_can_be_made():
    paper = RECIPES["paper"]
    for recipe in RECIPES.values():
        plan = start.Plan(out=None, data="own", recipe=recipe)
        made = {n: start.make_estimator(plan, n) for n in start.variants(paper)}
        wanted = dict(recipe.estimator)
        assert type(made["recommended"]) is ESTIMATORS[wanted.pop("name")]
        config = made["recommended"].get_config()
        assert {name: config[name] for name in wanted} == wanted
    assert made["paper"].semi_sampling == paper.estimator["semi_sampling"] > 0
    assert made["reinforce"].unbiased_for == "lower_bound"


@pytest.fixture(scope="module")
def small_start():
    """A captioner of the own data's images, with the weights it was born with."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own_run.environment().items():
            patch.setenv(name, value)
        split = datasets.load(own_run.workplace() / "own", "train")
        captioner = building.build(own_recipe(), split.captions)
        storage.save(captioner, own_run.workplace() / "start")
    return own_run.workplace() / "start"


@pytest.fixture
def quick(monkeypatch, small_start):
    """Units in this process, of few draws; a list of those that were worked on.

    The clock of learning runs counts a second per update.
    """
    for name, value in own_run.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(own_run.workplace())
    monkeypatch.setattr(bench_gradients, "SMALL_DRAWS", 3)
    monkeypatch.setattr(bench_gradients, "SETTLE", 3)
    monkeypatch.setattr(learning, "EVALUATIONS", 2)
    clock = types.SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr(learning, "time", clock)
    worked = []

    def work_on(unit):
        unit = pickle.loads(pickle.dumps(unit))  # as into a process of its own
        worked.append(f"{unit.path.parent.name}/{unit.path.stem}")
        unit.path.parent.mkdir(exist_ok=True)
        unit.path.write_text(json.dumps(unit.work(*unit.arguments)))

    monkeypatch.setattr(units, "work_on", work_on)
    return worked


ARGUMENTS = ["bench-estimators", "--data", "own", "--preset", "scenes"]
ARGUMENTS += ["--model", "start", "--draws", "3", "--minutes", "0.2", "--seeds", "1"]
ARGUMENTS += own_run.setting(own_run.RECIPE)


def test_one_command_measures_resumes_and_reports(quick, capsys):
    out = own_run.workplace() / "bench"
    arguments = [*ARGUMENTS, "--out", str(out), "--json", "--estimators"]
    assert cli.main([*arguments, "soft"]) == 0
    assert quick == ["gradients/soft", "learning/soft-0"]
    soft = json.loads(capsys.readouterr().out)
    assert [row["estimator"] for row in soft] == ["soft"]
    quick.clear()
    assert cli.main([*arguments, "reinforce,soft"]) == 0
    assert quick == ["gradients/reinforce", "learning/reinforce-0"]
    summary = json.loads(capsys.readouterr().out)
    assert {row["estimator"] for row in summary} == {"soft", "reinforce"}
    assert [row for row in summary if row["estimator"] == "soft"] == soft

    rows = json.loads((out / "gradients.json").read_text())
    groups = {row["group"] for row in rows}
    assert groups >= {"logits", "attention", "lstm", "output", "encoder"}
    for row in rows:
        assert row["ms"] > 0 and row["memory_mb"] >= 0
        drawn = row["variance"] > 1e-6 * row["signal"]
        assert drawn == (row["estimator"] != "soft"), row
    curve = json.loads((out / "learning.json").read_text())
    for name, rule in (("soft", "expected"), ("reinforce", "argmax")):
        points = [row for row in curve if row["estimator"] == name]
        assert {row["attention"] for row in points} == {rule}
        assert [row["updates"] for row in points] == [0, 6, 12]
        assert [row["seconds"] for row in points] == [0, 6, 12]
        assert points[0]["log_likelihood"] < points[2]["log_likelihood"] < 0
        assert all(0 <= row["bleu_4"] <= 100 for row in points)
    starts = [r["log_likelihood"] for r in curve if r["updates"] == 0]
    assert len(starts) == 2  # the same fresh weights, judged by another rule
    assert starts[0] == pytest.approx(starts[1], rel=0.1)
    assert {p.suffix for p in out.iterdir()} >= {".csv", ".json", ".png", ".svg"}

    assert cli.main([*arguments, "soft", "--set", "optimizer.learning_rate=0.1"]) == 2
    assert "which differs in recipe" in capsys.readouterr().err
    (out / "gradients" / "soft.json").write_text("{")
    assert cli.main([*arguments, "soft"]) == 2
    assert "Expected a result as the bench keeps it. R" in capsys.readouterr().err
    (out / "plan.json").write_text("{")
    assert cli.main([*arguments, "soft"]) == 2
    assert "Expected the settings of a bench. Received" in capsys.readouterr().err
    assert cli.main([*arguments, "soft,unicorn"]) == 2
    assert "Received: 'unicorn'" in capsys.readouterr().err


def test_a_second_bench_in_one_folder_is_refused(quick, capsys, tmp_path):
    with alone(tmp_path):
        assert cli.main([*ARGUMENTS, "--out", str(tmp_path)]) == 2
    assert f"in use by process {os.getpid()} on" in capsys.readouterr().err
    assert not quick and [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("name, wrong", [("--data", "nowhere"), ("--model", "none")])
def test_a_slip_of_the_pen_does_not_become_the_plan(name, wrong, quick, capsys):
    out = own_run.workplace() / "slip"
    arguments = [*ARGUMENTS, "--out", str(out)]
    arguments[arguments.index(name) + 1] = wrong
    assert cli.main(arguments) != 0
    assert wrong in capsys.readouterr().err
    assert not quick and not out.exists()


def test_learning_starts_alike_and_leaves_the_encoder(quick, small_start):
    plan = start.Plan(out=None, data="own", recipe=RECIPES["scenes"], model=small_start)
    kept = ("encoder", "standardise")
    built = []
    for estimator in (Soft(), Reinforce()):
        keras.utils.set_random_seed(3)
        built.append(storage.named_weights(start.start_with(plan, estimator, kept)))
    with np.load(small_start / "weights.npz") as weights:
        for name in weights.files:
            if name.startswith("estimator/"):
                continue
            one, other = (named[name].numpy() for named in built)
            np.testing.assert_array_equal(one, other)
            if name.split("/")[0] in kept:
                np.testing.assert_array_equal(one, weights[name])
    name = "attention/vector"
    with np.load(small_start / "weights.npz") as weights:
        assert np.abs(weights[name] - built[0][name].numpy()).max() > 0.01


def test_looks_are_asked_for_where_regions_are_known(quick, small_start, monkeypatch):
    """Here every word's region is the whole image: nobody can miss it."""
    plan = start.Plan(out=None, data="own", recipe=RECIPES["scenes"], model=small_start)
    captioner = ShowAttendTell.from_preset(small_start)
    assert learning._looks(captioner, *learning._judged(plan, captioner)) == {}
    image = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)

    def with_regions(*args, **kwargs):
        split = datasets.load(*args, **kwargs)
        regions = [
            tuple((image,) * len(tokenise(text)) for text in texts)
            for texts in split.captions
        ]
        return dataclasses.replace(split, regions=tuple(regions))

    monkeypatch.setattr(learning, "load", with_regions)
    judged = learning._judged(plan, captioner)
    given = learning._looks(captioner, *judged)["given"]
    words = [
        word
        for texts in datasets.load("own", "validation").captions
        for text in texts
        for word in tokenise(text)
    ]
    assert given["n"] == len(words) and given["pointing"] == given["middle"] == 1.0


def leave_out_judging(monkeypatch):
    monkeypatch.setattr(learning, "_trace", lambda *_: None)
    monkeypatch.setattr(learning, "_looks", lambda *_: {})
    monkeypatch.setattr(
        learning, "_judge", lambda *_: lambda: {"log_likelihood": -1.0, "bleu_4": 0.0}
    )


def test_a_run_that_diverges_is_reported_and_ends(quick, small_start, monkeypatch):
    leave_out_judging(monkeypatch)
    recipe = own_recipe(
        {"optimizer.learning_rate": "1e30", "optimizer.clip_norm": "None"}
    )
    plan = start.Plan(out=None, data="own", recipe=recipe, model=small_start)
    result = learning.learn(plan, "reinforce", 0)
    assert result["diverged"] and len(result["curve"]) == 1


def test_networks_of_an_estimator_learn_too(quick, small_start, monkeypatch):
    leave_out_judging(monkeypatch)
    networks = []

    def start_with(*args):
        captioner = start.start_with(*args)
        networks.extend((v, v.numpy()) for v in captioner.estimator.weights)
        return captioner

    monkeypatch.setattr(learning, "start_with", start_with)
    plan = start.Plan(
        out=None, data="own", recipe=own_recipe(), model=small_start, minutes=0.02
    )
    assert not learning.learn(plan, "variational", 0)["diverged"]
    learned = [np.abs(v.numpy() - before).max() for v, before in networks]
    assert learned and min(learned) > 0


def test_only_the_recommended_recipe_learns_with_a_warm_up(
    quick, small_start, monkeypatch
):
    used = []  # by each update
    leave_out_judging(monkeypatch)
    monkeypatch.setattr(tf, "function", lambda step, **_: step)
    monkeypatch.setattr(
        ShowAttendTell,
        "train_step",
        lambda c, _: used.append(type(c.estimator)) or {"loss": 1.0},
    )
    recipe = own_recipe({"stages.train.epochs": 3})
    plan = start.Plan(
        out=None, data="own", recipe=recipe, model=small_start, minutes=0.2
    )
    learning.learn(plan, "recommended", 0)
    assert used == [Soft] * 3 + [Reinforce] * 9
    used.clear()
    learning.learn(plan, "reinforce", 0)
    assert used == [Reinforce] * 12


def test_the_start_is_a_soft_warm_up(monkeypatch, tmp_path):
    asked = {}

    def train(recipe, data, out, **options):
        asked.update(recipe=recipe, data=data, out=out)
        return None, [{"epoch": 1}]

    monkeypatch.setattr(start, "train", train)
    plan = start.Plan(out=tmp_path, data="own", recipe=RECIPES["scenes"])
    assert start.train_start(plan) == {"history": [{"epoch": 1}]}
    assert asked["recipe"].estimator == {"name": "soft"}
    assert asked["recipe"].stages == {"train": RECIPES["scenes"].stages["warm_up"]}
    assert asked["out"] == tmp_path / "start"


@pytest.fixture(autouse=True)
def _no_bench_left_running():
    yield
    keras.backend.clear_session()
