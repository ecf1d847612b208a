"""From a recipe to a captioner, and what is refused on the way."""

import pytest

from sat_tf import cli
from sat_tf.estimators import ESTIMATORS
from sat_tf.recipes import RECIPES, Recipe
from sat_tf.recipes.sections import Optimizer
from sat_tf.training import building


def test_rate_falls_on_a_cosine_from_first_to_last():
    settings = Optimizer(learning_rate=1e-2, final_rate=1e-4)
    optimizer = building.make_optimizer(settings, total_steps=100)
    rates = []
    for step in (0, 50, 100, 200):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([1e-2, (1e-2 + 1e-4) / 2, 1e-4, 1e-4], rel=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_an_estimator_and_an_optimizer(name):
    recipe = RECIPES[name]
    building.check(recipe)
    estimator = building.make_estimator(recipe)
    assert type(estimator) is ESTIMATORS[recipe.estimator["name"]]
    assert estimator.samples == 1
    optimizer = building.make_optimizer(recipe.optimizer, 100)
    rate = recipe.optimizer.learning_rate
    assert float(optimizer.learning_rate) == pytest.approx(rate)


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


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_recipe_gives_an_estimator_all_that_its_bases_take(name):
    kind = ESTIMATORS[name]
    every = Recipe(estimator={"name": name, "carry": "sampled", **VALUES})
    recipe = every.replace({"estimator": name})  # which keeps what it takes
    config = building.make_estimator(recipe).get_config()
    taken = kind.options(carry="sampled")
    assert taken <= VALUES.keys()
    for option in taken:
        assert config[option] == VALUES[option], option
    own = {k for k in config if k in VALUES} - set(kind.settled)
    assert taken == own == recipe.estimator.keys() - {"name"}


def test_the_papers_rule_with_another_baseline():
    """`--preset paper --estimator rloo` differs in nothing but the baseline."""
    paper = RECIPES["paper"]
    one = building.make_estimator(paper)
    other = building.make_estimator(paper.replace({"estimator": "rloo"}))
    for option in ("lambda_r", "lambda_e", "semi_sampling", "coin", "reward"):
        assert getattr(one, option) == getattr(other, option)
    assert other.baseline == "leave_one_out"
    assert (other.lambda_e, other.semi_sampling) == (0.01, 0.5)


GUIDED = ("stages.see={}", "model.rerankers.alignment.guiding=0.5")
RANKED = ("decoding.rerank.consensus=0.3", "decoding.rerank.alignment=2")
REFUSED = [
    (
        ("estimator=rloo", "estimator.temperature=0.3"),
        "Expected options that the estimator rloo takes: baseline_steps, "
        "batch_sum, coin, lambda_e, lambda_r, normalise_advantage, reward, "
        "samples, semi_sampling. Received: estimator.temperature=0.3.",
    ),
    (("estimator=rloo", "estimator.baseline=none"), "Received: estimator.baseline="),
    (
        ("estimator=rebar", "estimator.anneal_steps=9"),
        "choose one of gumbel_softmax, straight_through.",
    ),
    (("estimator=rebar", "estimator.semi_sampling=0.5"), "choose one of reinforce, rl"),
    (
        ("estimator=step_marginal", "estimator.samples=4"),
        "takes: carry, top_k. Received",
    ),
    (("estimator=soft", "estimator.samples=4"), "soft takes: it has none. Received"),
    (
        ("estimator=soft", "stages.warm_up.epochs=2"),
        "Expected an estimator that draws locations, without which stages.warm_up.ep",
    ),
    (
        ("estimator=soft", "decoding.attention=argmax"),
        "decoding.attention changes nothing",
    ),
    (
        ("decoding.beam=1", "decoding.rerank.consensus=0.3"),
        "Expected decoding.decoder=beam and decoding.beam=2 or more, without which",
    ),
    (("decoding.beam=5",), "Expected decoding.decoder=beam, without which"),
    (
        ("model.trunk=vgg19", "optimizer.encoder_rate=0.1"),
        "Expected a trunk that is trained",
    ),
    (
        ("model.initial_state=learned", "model.initial_state.scale=0.5"),
        "Expected an option that learned takes: none. Received: "
        "model.initial_state.scale=0.5. Leave it out.",
    ),
    (
        ("model.rerankers.grounding.hidden_size=3",),
        "Expected stages.fit_rerankers={}, in which some rerankers learn",
    ),
    (
        ("model.rerankers.detection.size=3",),
        "Expected an option that detection takes: hidden_size, dropout, input_dropout. "
        "Received: model.rerankers.detection.size=3. Leave it out.",
    ),
    (
        ("stages.train.rate=3",),
        "Expected an option that train takes: epochs. Received: stages.train.rate=3. "
        "Leave it out.",
    ),
    (
        ("decoding.beams=3",),
        "Expected an option that decoding takes: decoder, beam, attention",
    ),
    (
        ("stages.see={}",),
        "Expected a reranker that locates words, for stages.see to teach. Received: "
        "model.rerankers=none. Set model.rerankers.alignment={}, or leave",
    ),
    (
        ("stages.see={}", "model.rerankers.detection.hidden_size=3"),
        "Received: model.rerankers=detection. Set model.rerankers.alignment={}",
    ),
    (
        ("model.rerankers.alignment.hidden_size=3",),
        "Expected stages.fit_rerankers={}, in which some rerankers learn",
    ),
    (
        ("decoding.decoder=beam", "decoding.rerank.detection=3"),
        "Expected consensus beside detection",
    ),
    (
        (*GUIDED, "decoding.rerank.consensus=0.3"),
        "Expected a search that alignment has a say in: decoding.rerank.consensus and "
        "decoding.rerank.alignment, and decoding.decoder=beam or greedy, without which "
        "model.rerankers.alignment.guiding changes nothing",
    ),
    (
        (*GUIDED, *RANKED, "decoding.rerank.alignment=0"),
        "model.rerankers.alignment.guiding changes nothing",
    ),
    (
        (*GUIDED, *RANKED, "decoding.decoder=sample"),
        "model.rerankers.alignment.guiding changes nothing",
    ),
    (("decoding.rerank=3",), "decoding.rerank changes nothing"),
    (
        (*GUIDED[:1], "model.rerankers.alignment.guiding=null", *RANKED),
        "decoding.rerank.consensus changes nothing",
    ),
    (
        (*GUIDED[:1], "model.rerankers.alignment.guiding=0", *RANKED),
        "decoding.rerank.consensus changes nothing",
    ),
]


@pytest.mark.parametrize("command", ["train", "bench-estimators"])
@pytest.mark.parametrize(("pairs", "said"), REFUSED)
def test_an_option_that_nothing_takes_is_refused(
    command, pairs, said, tmp_path, capsys
):
    """Before any data is read, and only if somebody asked for it."""
    out = tmp_path / "out"
    given = [command, "--preset", "scenes", "--data", "none", "--out", str(out)]
    given += [text for pair in pairs for text in ("--set", pair)]
    assert cli.main(given) == 2
    errors = capsys.readouterr().err
    assert said in errors and ("Leave" in errors or "leave" in errors)
    assert not out.exists()


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_a_recipe_brings_along_is_no_mistake(name, estimator):
    change = {"estimator": estimator}
    recipe = RECIPES[name].replace(change)
    building.refuse_unheard(recipe, change)
    off = {
        "decoding.beam": 1,
        "decoding.rerank.consensus": None,
        "decoding.rerank.detection": "0.0",
        "stages.warm_up.epochs": "0",
    }
    building.refuse_unheard(recipe.replace(off), off)  # as much as to say: without


@pytest.mark.parametrize("stage", ["see", "fit_rerankers"])
def test_an_alignment_learns_first_or_last(stage):
    change = {"model.rerankers.alignment.hidden_size": 3, f"stages.{stage}": {}}
    recipe = RECIPES["scenes"].replace(change)
    building.refuse_unheard(recipe, change)
    assert list(recipe.stages)[0 if stage == "see" else -1] == stage
    (alignment,) = building.build(recipe, [["a red dog"]]).rerankers
    assert alignment.hidden_size == 3 and alignment.locates


@pytest.mark.parametrize(
    "text", ["rloo", '"rloo"', '{"name": "rloo", "samples": 3}'], ids=str
)
def test_a_choice_may_be_written_with_its_options(text):
    recipe = RECIPES["paper"].replace({"estimator": text})
    assert recipe.estimator["name"] == "rloo"
    assert recipe.estimator.get("samples", 3) in (2, 3)


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_an_alignment_that_ranks_may_guide(decoder):
    """A greedy search too, of which nothing is ranked."""
    change = dict(pair.split("=", 1) for pair in (*GUIDED, *RANKED))
    change["decoding.decoder"] = decoder
    recipe = RECIPES["scenes"].replace(change)
    building.refuse_unheard(recipe, change)


def test_what_a_recipe_says_reaches_the_captioner():
    recipe = RECIPES["scenes"].replace(
        {
            "model.initial_state": {"name": "from_mean", "dropout": 0.5, "scale": 0.1},
            "model.rerankers.detection": {"hidden_size": 3, "dropout": 0.2},
            "model.input_dropout": 0.3,
            "objective.label_smoothing": 0.07,
            "objective.lambda_ds": 0.02,
            "optimizer.encoder_rate": 0.5,
            "decoding.max_length": 9,
            "data.min_count": 2,
        }
    )
    captioner = building.build(recipe, [["a red dog", "a red cat"], ["a blue dog"]])
    building.compile_captioner(captioner, recipe, 10)
    start, (detection,) = captioner.network.decoder.initial_state, captioner.rerankers
    assert (start.dropout, start.scale) == (0.5, 0.1)
    assert (detection.hidden_size, detection.dropout) == (3, 0.2)
    assert (captioner.label_smoothing, captioner.lambda_ds) == (0.07, 0.02)
    assert captioner.encoder_rate == 0.5 and captioner.encoder_optimizer is not None
    assert captioner.options().max_length == 9
    assert captioner.network.decoder.input_dropout == 0.3
    assert captioner.vocabulary.words[3:] == ("a", "dog", "red")


def test_soft_attention_has_no_location_rule_of_the_recipe():
    recipe = RECIPES["scenes"].replace(
        {"decoding.attention": "sample", "estimator": "soft"}
    )
    captioner = building.build(recipe, [["a red dog"]])
    building.compile_captioner(captioner, recipe, 10)
    assert captioner.options().attention == "expected"


def test_a_recipe_without_stages_is_told_so():
    recipe = Recipe().replace({"stages": "{}"})
    with pytest.raises(ValueError, match="Received: no stages. Set stages.train.epo"):
        building.check(recipe)
