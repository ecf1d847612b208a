"""Recipes: what they hold, how they are changed, and what is refused."""

import dataclasses
import importlib
import json
import pathlib
import re
import subprocess
import sys

import pytest

from sat_tf.cli import arguments
from sat_tf.recipes import RECIPES, Recipe
from sat_tf.recipes.changes import GONE, MOVED
from sat_tf.recipes.sections import SECTIONS

RESULTS = pathlib.Path(__file__).parents[2] / "docs" / "results"


def changed(*pairs, recipe="scenes"):
    """A recipe after `--set` of these pairs."""
    changes = dict(arguments._key_value(pair) for pair in pairs)
    return RECIPES[recipe].replace(changes)


def leaf(recipe, name):
    """A part of a recipe by its dotted name."""
    found = dataclasses.asdict(recipe)
    for part in name.split("."):
        found = found[part]
    return found


# ----------------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_one_documented_file(name):
    module = importlib.import_module(f"sat_tf.recipes.{name}")
    assert RECIPES[name] is module.RECIPE and isinstance(module.RECIPE, Recipe)
    assert f"--preset {name}" in module.__doc__  # the command that trains it


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_json(name):
    recipe = RECIPES[name]
    text = json.dumps(recipe.to_dict())
    found = Recipe.from_dict(json.loads(text))
    assert found == recipe and found.to_dict() == recipe.to_dict()
    assert list(found.stages) == list(recipe.stages)  # dicts are equal in any order
    assert isinstance(found.model.image_size, tuple)


def test_strings_of_json_stay_strings():
    recipe = Recipe().replace({"model.word_vectors": '"17"'})
    assert recipe.model.word_vectors == "17"
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_the_names_come_without_tensorflow():
    code = (
        "import sys; from sat_tf.recipes import RECIPES; "
        "print(*RECIPES, *(sys.modules.keys() & {'tensorflow', 'keras', 'numpy'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == list(RECIPES)


def test_every_field_is_documented():
    for kind in (Recipe, *SECTIONS.values()):
        for field in dataclasses.fields(kind):
            assert re.search(rf"\b{field.name}\b", kind.__doc__), field.name


def test_unknown_recipes_are_refused():
    with pytest.raises(ValueError, match="one of paper, arctic, .*'best'. Choose"):
        RECIPES["best"]


def test_paper_and_arctic_differ_where_the_paper_and_its_code_do():
    """method.md, sections 1 to 3: the values of `capgen.train()` as it runs."""
    differences = {
        "model.output_activation": "tanh",  # eq. 7 has none
        "estimator.reward": "per_word",  # RL_sumCost, a mean despite its name
        "estimator.lambda_r": 0.1,  # "/10."
        "estimator.lambda_e": 0.002,
        "estimator.batch_sum": True,  # known_grads is summed over the batch
        "estimator.coin": "step",  # Theano draws it anew at every step
        "decoding.attention": "expected",  # generate_caps.py
        "data.batch_size": 16,
        "model.embedding_size": 100,
        "model.hidden_size": 1000,
        "model.dropout": 0.0,
    }
    paper, arctic = RECIPES["paper"], RECIPES["arctic"]
    assert paper.replace(differences) == arctic
    for name, value in differences.items():
        assert leaf(arctic, name) == value
        assert name.startswith(("estimator.", "decoding.")) or (
            leaf(paper, name) != value
        )
    for recipe in (paper, arctic):
        assert recipe.estimator["name"] == "reinforce"
        assert recipe.estimator["semi_sampling"] == 0.5
        assert not {"samples", "baseline"} & recipe.estimator.keys()  # as they come
        assert (recipe.model.trunk, recipe.optimizer.name) == ("vgg19", "rmsprop")
        assert list(recipe.stages) == ["train"]
        assert recipe.objective.lambda_ds == 0.0 and recipe.optimizer.clip_norm is None
        assert (recipe.data.max_words, recipe.patience) == (10_000, 10)


# -------------------------------------------------------------- what they have reached


def numbers_of(name):
    """All decimals in a recipe's docstring, in their order."""
    doc = importlib.import_module(f"sat_tf.recipes.{name}").__doc__
    return [float(number) for number in re.findall(r"\b\d+\.\d\b", doc)]


def results(name):
    return json.loads((RESULTS / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["flickr", "flickr_taught"])
def test_scores_of_photographs_are_those_of_the_results(name):
    rows = {row["captioner"]: row for row in results("photographs")["captioners"]}
    row = rows[f"`{name}`, `argmax`"]
    assert numbers_of(name) == [*row["by default"], *row["greedy"]]


def test_scores_of_scenes_are_those_of_the_results():
    rows = results("drawings")["demo"]
    test, unseen = (
        [row for row in rows if row["row"].startswith(split) and "seed" in row["row"]]
        for split in ("test", "combinations never seen")
    )
    told = [row["pointing"] for row in test]
    told += [row["captions"] for row in (*test, *unseen)]
    assert numbers_of("scenes") in ([], [float(x.removesuffix(" %")) for x in told])


# ---------------------------------------------------------------------------- changes


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("optimizer.learning_rate=3e-4", "optimizer.learning_rate", 3e-4),
        ("optimizer.learning_rate=1", "optimizer.learning_rate", 1.0),
        ("optimizer.clip_norm=None", "optimizer.clip_norm", None),
        ("optimizer.clip_norm=null", "optimizer.clip_norm", None),
        ("optimizer.clip_norm=5", "optimizer.clip_norm", 5.0),
        ("model.image_size=[64,48]", "model.image_size", (64, 48)),
        ("model.output_activation=tanh", "model.output_activation", "tanh"),
        ("model.encoder_weights=a=b.h5", "model.encoder_weights", "a=b.h5"),
        ("model.initial_state.dropout=0.5", "model.initial_state.dropout", 0.5),
        ("estimator.temperature=0.5", "estimator.temperature", 0.5),
        ("stages.warm_up.epochs=0", "stages.warm_up.epochs", 0),
        ("decoding.rerank.consensus=0.3", "decoding.rerank.consensus", 0.3),
        ("decoding.rerank.consensus=None", "decoding.rerank.consensus", None),
        ("data.batch_size=7", "data.batch_size", 7),
        ("patience=3", "patience", 3),
    ],
)
def test_set_reads_a_value_of_the_parts_type(text, name, value):
    found = leaf(changed(text), name)
    assert found == value and type(found) is type(value)


def test_set_changes_nothing_else():
    before = RECIPES["scenes"].to_dict()
    after = changed("data.batch_size=7").to_dict()
    assert after.pop("data") == {**before.pop("data"), "batch_size": 7}
    assert (
        after
        == before
        == {k: before[k] for k in RECIPES["scenes"].to_dict() if k != "data"}
    )
    given = {"train": {"epochs": 2}}
    RECIPES["scenes"].replace({"stages": given, "stages.train.epochs": 5})
    assert given == {"train": {"epochs": 2}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.colour=red", "Expected a part of the recipe. Received: model.colour"),
        ("data.batch_size=4.5", "Expected data.batch_size to be a whole number, 1 or"),
        ("data.batch_size=true", "1 or more. Received: data.batch_size=True. Give it"),
        ("data.batch_size=0", "1 or more. Received: data.batch_size=0. Give it"),
        ("data.min_count=-1", "to be a whole number, 0 or more. Received: data.min"),
        ("model.trunk=3", "Expected model.trunk to be text. Received: model.trunk=3"),
        ("model.image_size=64", "Expected model.image_size to be a list such as"),
        ("model.dropout=1", "model.dropout to be a number, from 0 to less than 1. R"),
        ("objective.scheduled_sampling=1.01", "to be a number, from 0 to 1. Received"),
        ("optimizer.learning_rate=0", "a number, more than 0. Received: optimizer."),
        ("optimizer.learning_rate=NaN", "a number, more than 0. Received: optimizer."),
        ("optimizer.final_rate=-1e-3", "a number, 0 or more. Received: optimizer."),
        ("optimizer.final_rate=Infinity", "a number, 0 or more. Received: optimizer."),
        ("estimator=[1]", "Expected estimator to be one of soft, reinforce"),
        ("estimator={}", "Expected estimator to be one of soft, reinforce"),
        ("optimizer.clip_norm=off", "to be a number, more than 0, or null. Received: "),
        ("optimizer.clip_norm=0", "to be a number, more than 0, or null. Received: "),
        ("patience=-1", "Expected patience to be a whole number, 0 or more. Received"),
        ("stages=3", "Expected stages to be options such as"),
        ("stages.train=3", "Expected stages.train to be options such as"),
        ("model.rerankers.detection=512", "model.rerankers.detection to be options"),
        ("decoding.beam.more=1", "Expected a part of the recipe. Received: decoding"),
        ("model.trunk.depth=1", "Expected a part of the recipe. Received: model.tru"),
        ("estimator=guess", "Expected estimator to be one of soft, reinforce"),
        ("patience.more=1", "Expected a part of the recipe. Received: patience.more"),
        ("model=1", "Expected a part of the recipe. Received: model."),
        ("stages.train.epochs", "Expected key=value. Received: --set stages.train."),
    ],
)
def test_set_refuses_what_does_not_fit(text, said):
    with pytest.raises(ValueError) as error:
        changed(text, recipe="flickr")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("data.batchsize", "data.batch_size"),
        ("optimiser.learning_rate", "optimizer.learning_rate"),
        ("stage.train.epochs", "stages.train.epochs"),
        ("hidden_sizes", "model.hidden_size"),
        ("sample", "estimator.samples"),
        ("decode.beam", "decoding.beam"),
    ],
)
def test_unknown_names_suggest_what_was_meant(name, meant):
    with pytest.raises(ValueError, match="Did you mean") as error:
        changed(f"{name}=2", recipe="flickr")
    assert meant in str(error.value)


def test_a_name_that_is_like_no_other_gets_the_list():
    with pytest.raises(ValueError) as error:
        changed("xyzzy=2")
    for name in ("model.trunk", "stages.train.epochs", "patience"):
        assert name in str(error.value)


OLD = (  # the fields that a flat recipe had
    "trunk encoder_weights image_size resize_mode encoder_rate fine_tune_after "
    "max_words min_count embedding_size hidden_size attention_size dropout "
    "input_dropout output_activation initial_state initial_dropout initial_gain "
    "detector_size grounding_size label_smoothing lambda_ds attention_rule "
    "word_vectors samples reward baseline lambda_r lambda_e semi_sampling coin "
    "batch_sum baseline_steps normalise_advantage temperature final_temperature "
    "anneal_steps carry top_k proposal warm_up teacher teacher_captions "
    "scheduled_sampling optimizer learning_rate final_rate clip_norm batch_size "
    "epochs dtype max_length beam consensus detection grounding"
).split()


@pytest.mark.parametrize("name", OLD)
def test_old_flat_names_say_the_new_one(name):
    """And the new one is there."""
    with pytest.raises(ValueError) as error:
        changed(f"{name}=1")
    said = str(error.value)
    assert f"Received: {name}" in said
    if name in GONE:
        assert GONE[name] in said and ("--set" in said or "sat-tf teach" in said)
        return
    assert f"which is {MOVED[name]} now. Write --set {MOVED[name]}=..." in said
    section = MOVED[name].split(".")[0]
    if section in SECTIONS and MOVED[name].count(".") == 1:
        leaf(Recipe(), MOVED[name])


def test_another_estimator_keeps_the_options_that_it_takes():
    recipe = Recipe(
        estimator={"name": "reinforce", "lambda_e": 0.01, "semi_sampling": 0.5}
    )
    for name, kept in (
        ("rloo", {"lambda_e": 0.01, "semi_sampling": 0.5}),
        ("rebar", {"lambda_e": 0.01}),
        ("soft", {}),
    ):
        for change in ("estimator", "estimator.name"):
            found = recipe.replace({change: name}).estimator
            assert found.pop("name") == name
            assert kept.items() <= found.items() and found.keys() <= {*kept}


def test_an_estimators_options_are_refused_in_any_order():
    for pairs in (
        ("estimator=rloo", "estimator.temperature=0.3"),
        ("estimator.temperature=0.3", "estimator=rloo"),
    ):
        with pytest.raises(ValueError, match="rloo takes: .*estimator.temperature=0.3"):
            changed(*pairs)


def test_another_initial_state_begins_with_its_own_options():
    taught = RECIPES["flickr"]
    assert taught.model.initial_state["dropout"] == 0.5
    learned = taught.replace({"model.initial_state": "learned"})
    assert learned.model.initial_state == {"name": "learned"}
    asked = {"model.initial_state.dropout": 0.25, "model.initial_state": "from_mean"}
    found = learned.replace(asked).model.initial_state
    assert found == {"name": "from_mean", "dropout": 0.25}
    kept = taught.replace({"model.initial_state.name": "from_mean"})
    assert kept.model.initial_state["dropout"] == 0.5


def test_stages_come_where_they_usually_do():
    paper = RECIPES["paper"]
    more = ("fit_rerankers", "fine_tune", "warm_up")
    changes = {f"stages.{name}": {} for name in more}
    found = paper.replace(changes)
    assert list(found.stages) == ["warm_up", "train", "fine_tune", "fit_rerankers"]
    own = {"fine_tune": {"epochs": 1}, "train": {"epochs": 1}}  # in their own order
    assert list(paper.replace({"stages": own}).stages) == ["fine_tune", "train"]
    without = found.replace({"stages.fine_tune": None})
    assert list(without.stages) == ["warm_up", "train", "fit_rerankers"]


def test_a_reranker_can_be_taken_out():
    recipe = RECIPES["flickr"].replace({"model.rerankers.detection": {}})
    recipe = recipe.replace({"model.rerankers.alignment": None})
    assert list(recipe.model.rerankers) == ["detection"]


@pytest.mark.parametrize(
    ("stages", "total", "wanted"),
    [
        ({"warm_up": 3, "train": 2}, 7, {"warm_up": 3, "train": 4}),
        ({"warm_up": 3, "train": 2}, 2, {"warm_up": 3, "train": 0}),
        (
            {"warm_up": 1, "train": 2, "fine_tune": 3},
            9,
            {"warm_up": 1, "train": 2, "fine_tune": 6},
        ),
        (
            {"warm_up": 1, "train": 2, "fine_tune": 0},
            9,
            {"warm_up": 1, "train": 8, "fine_tune": 0},
        ),
        ({"warm_up": 0, "train": 0}, 4, {"warm_up": 0, "train": 4}),
    ],
)
def test_epochs_are_the_total(stages, total, wanted):
    """The last stage that trains gets what is left."""
    epochs = {name: {"epochs": number} for name, number in stages.items()}
    recipe = Recipe(stages={**epochs, "fit_rerankers": {}}).with_epochs(total)
    found = {name: options for name, options in recipe.stages.items()}
    assert found.pop("fit_rerankers") == {}
    assert {name: options["epochs"] for name, options in found.items()} == wanted


def test_epochs_that_are_no_number_are_refused():
    recipe = changed("stages.train.epochs=many")
    with pytest.raises(ValueError, match="stages.train.epochs to be a whole number"):
        recipe.with_epochs(5)
