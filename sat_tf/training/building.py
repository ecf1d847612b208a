"""From a recipe to a captioner and its optimizer."""

import dataclasses

import keras
import numpy as np

from sat_tf import reranking
from sat_tf.captioner import ShowAttendTell
from sat_tf.datasets.texts import Captions
from sat_tf.decoding import DecodingOptions
from sat_tf.estimators import ESTIMATORS
from sat_tf.model.encoder import Encoder
from sat_tf.model.initial_state import INITIAL_STATES
from sat_tf.recipes.base import check_options, make
from sat_tf.recipes.changes import parse
from sat_tf.reranking import RERANKERS
from sat_tf.reranking.base import Reranker
from sat_tf.training.stages import Plan
from sat_tf.training_step.scheduled_sampling import rising
from sat_tf.vocabulary import Vocabulary

DTYPES = ("float32", "mixed_bfloat16")
OPTIMIZERS = ("adam", "rmsprop")
SAMPLE = 512  # images whose features the encoder is standardised by


def build(recipe, captions, *, encoder_weights=None):
    """An untrained captioner.

    Args:
        recipe: a `Recipe`.
        captions: per image, its captions; for the vocabulary.
        encoder_weights: `imagenet` or a path, over the recipe's.
    """
    return make_captioner(recipe, vocabulary_of(recipe, captions), encoder_weights)


def vocabulary_of(recipe, captions):
    """The `Vocabulary` of captions, per image."""
    counts = Captions.of(captions).word_counts()
    return Vocabulary.from_counts(counts, recipe.data.max_words, recipe.data.min_count)


def make_captioner(recipe, vocabulary, encoder_weights=None):
    """An untrained captioner of a vocabulary."""
    model = recipe.model
    encoder = Encoder(**encoder_options(recipe, encoder_weights))
    return ShowAttendTell(
        vocabulary,
        encoder=encoder,
        estimator=make_estimator(recipe),
        embedding_size=model.embedding_size,
        hidden_size=model.hidden_size,
        attention_size=model.attention_size,
        dropout=model.dropout,
        input_dropout=model.input_dropout,
        output_activation=model.output_activation,
        initial_state=make_initial_state(recipe),
        rerankers=make_rerankers(recipe),
        dtype=model.dtype,
    )


def encoder_options(recipe, encoder_weights=None):
    """Arguments of the `Encoder` that training begins with, a dict."""
    model = recipe.model
    return {
        "trunk": model.trunk,
        "weights": encoder_weights or model.encoder_weights,
        "image_size": tuple(model.image_size),
        "resize_mode": model.resize_mode,
        # A trunk that starts from nothing has to learn, from the first stage on.
        "trainable": model.trunk == "convnet"
        and not Plan(recipe.stages).trains_the_trunk,
        "dtype": model.dtype,
    }


def standardise(encoder, features, seed):
    """Adapts an encoder to some of the features `[B, L, D]` that a cache has."""
    size = min(SAMPLE, len(features))
    sample = np.random.default_rng(seed).choice(len(features), size)
    encoder.adapt(features.read(np.sort(sample)))


def make_estimator(recipe):
    """The recipe's `Estimator`."""
    return make("estimator", ESTIMATORS, recipe.estimator)


def make_initial_state(recipe):
    """The recipe's `InitialState`."""
    return make("model.initial_state", INITIAL_STATES, recipe.model.initial_state)


def make_rerankers(recipe):
    """The recipe's `Reranker`s, those that learn."""
    return [
        make(f"model.rerankers.{name}", RERANKERS, {**options, "name": name})
        for name, options in recipe.model.rerankers.items()
    ]


def check(recipe, asked=()):
    """Raises `ValueError` for what nobody could train, before any data are read.

    Args:
        recipe: a `Recipe`.
        asked: dotted names of what somebody asked for, beside what the recipe says.
    """
    for name, value, known in (
        ("model.dtype", recipe.model.dtype, DTYPES),
        ("optimizer.name", recipe.optimizer.name, OPTIMIZERS),
    ):
        if value not in known:
            raise ValueError(
                f"Expected {name} to be one of {', '.join(known)}. "
                f"Received: {name}={value!r}. Choose one of them."
            )
    Plan(recipe.stages).check(make_estimator(recipe))
    make_initial_state(recipe)
    rerankers = make_rerankers(recipe)
    if "see" in recipe.stages and not any(each.locates for each in rerankers):
        raise ValueError(
            "Expected a reranker that locates words, for stages.see to teach. "
            f"Received: model.rerankers={', '.join(recipe.model.rerankers) or 'none'}. "
            "Set model.rerankers.alignment={}, or leave stages.see out."
        )
    _check_decoding(recipe.decoding, rerankers, asked)


def _check_decoding(decoding, rerankers, asked):
    fields = {
        field.name: field.default for field in dataclasses.fields(DecodingOptions)
    }
    check_options("decoding", "decoding", fields, decoding)
    said = decoding.get("rerank", {})
    chosen = {n: said[n] for n in said if f"decoding.rerank.{n}" in asked}
    strengths = reranking.chosen(rerankers, said, chosen)
    DecodingOptions(**{**decoding, "rerank": strengths})


def compile_captioner(captioner, recipe, total_steps):
    """Compiles a captioner as the recipe says, for `total_steps` updates."""
    objective, decoding = recipe.objective, dict(recipe.decoding)
    if not captioner.estimator.stochastic:
        decoding.pop("attention", None)  # it has nothing but expected contexts
    captioner.compile(
        optimizer=make_optimizer(recipe.optimizer, total_steps),
        decoder=decoding,
        label_smoothing=objective.label_smoothing,
        lambda_ds=objective.lambda_ds,
        encoder_rate=recipe.optimizer.encoder_rate,
        scheduled_sampling=rising(objective.scheduled_sampling, total_steps),
    )


def make_optimizer(settings, total_steps):
    """The recipe's optimizer, its rate falling on a cosine over `total_steps`."""
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate,
        total_steps,
        settings.final_rate / settings.learning_rate,
    )
    options = {"learning_rate": rate, "global_clipnorm": settings.clip_norm}
    if settings.name == "rmsprop":
        options |= {"rho": 0.95, "momentum": 0.9, "epsilon": 1e-4, "centered": True}
        return keras.optimizers.RMSprop(**options)
    return keras.optimizers.Adam(**options)


# What a part of a recipe needs beside it to change anything: in words, and whether a
# recipe and its estimator have it.
_DRAWS = "an estimator that draws locations", lambda recipe, drawing: drawing.stochastic
_BEAM = "decoding.decoder=beam"
NEEDS = {
    "stages.warm_up": _DRAWS,
    "decoding.attention": _DRAWS,
    "decoding.beam": (
        _BEAM,
        lambda recipe, _: _beams(recipe) > 0 or recipe.decoding["beam"] == 1,
    ),
    "decoding.rerank": (
        f"{_BEAM} and decoding.beam=2 or more",
        lambda recipe, _: _beams(recipe) > 1 or _guided(recipe),
    ),
    "model.rerankers.alignment.guiding": (
        "a search that alignment has a say in: decoding.rerank.consensus and "
        "decoding.rerank.alignment, and decoding.decoder=beam or greedy",
        lambda recipe, _: _guided(recipe),
    ),
    "model.rerankers": (
        "stages.fit_rerankers={}, in which some rerankers learn",
        lambda recipe, _: (
            "fit_rerankers" in recipe.stages
            or not any(_waits(name, recipe.stages) for name in recipe.model.rerankers)
        ),
    ),
    "optimizer.encoder_rate": (
        "a trunk that is trained: model.trunk=convnet, or stages.fine_tune.epochs",
        lambda recipe, _: (
            recipe.model.trunk == "convnet" or Plan(recipe.stages).trains_the_trunk
        ),
    ),
}


def _waits(name, stages):
    """Whether a reranker is still to be fitted when the last epoch is over."""
    kind = RERANKERS[name]
    return kind.fit is not Reranker.fit and not ("see" in stages and kind.locates)


def _guided(recipe):
    """Whether an alignment guides the search; see `reranking.chosen`."""
    asked = recipe.decoding.get("rerank")
    asked = asked if isinstance(asked, dict) else {}  # else refused where it is used
    on = {name for name, s in asked.items() if not RERANKERS[name].is_off(s)}
    guiding = recipe.model.rerankers.get("alignment", {}).get("guiding")
    searched = recipe.decoding.get("decoder", "greedy") != "sample"
    return bool(guiding) and searched and on >= {"alignment", "consensus"}


def _beams(recipe):
    decoding = {"decoder": "greedy", "beam": 3, **recipe.decoding}
    return decoding["beam"] if decoding["decoder"] == "beam" else 0


def refuse_unheard(recipe, changes):
    """Refuses what somebody asked for that nobody can do, or that changes nothing.

    What a recipe brings along is no mistake.

    Args:
        recipe: a `Recipe`, the changes made.
        changes: dotted names -> values that were asked for.

    Raises:
        ValueError: something that an option needs is off, or see `check`.
    """
    estimator = make_estimator(recipe)
    for name, value in changes.items():
        off = (parse(value) if isinstance(value, str) else value) in (None, 0, {})
        for part, (needed, there) in NEEDS.items():
            asked = name == part or name.startswith(f"{part}.")
            if asked and not off and not there(recipe, estimator):
                raise ValueError(
                    f"Expected {needed}, without which {name} changes nothing. "
                    f"Received: {name}={value!r}, estimator="
                    f"{recipe.estimator['name']!r}. Leave {name} out, or set what it "
                    "needs."
                )
    check(recipe, changes)
