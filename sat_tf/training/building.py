"""From a recipe to a captioner and its optimizer."""

import keras

from sat_tf.captioner import ShowAttendTell
from sat_tf.estimators import ESTIMATORS
from sat_tf.model.encoder import Encoder
from sat_tf.model.initial_state import INITIAL_STATES
from sat_tf.recipes.base import make
from sat_tf.reranking import RERANKERS
from sat_tf.training_step.scheduled_sampling import rising
from sat_tf.vocabulary import Vocabulary

DTYPES = ("float32", "mixed_bfloat16")


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
    texts = (text for texts in captions for text in texts)
    return Vocabulary.from_captions(texts, recipe.data.max_words, recipe.data.min_count)


def make_captioner(recipe, vocabulary, encoder_weights=None):
    """An untrained captioner of a vocabulary."""
    model = recipe.model
    if model.dtype not in DTYPES:
        raise ValueError(
            f"Expected model.dtype to be one of {', '.join(DTYPES)}. "
            f"Received: model.dtype={model.dtype!r}. Choose one of them."
        )
    encoder = Encoder(
        model.trunk,
        weights=encoder_weights or model.encoder_weights,
        image_size=model.image_size,
        resize_mode=model.resize_mode,
        # A trunk that starts from nothing has to learn, from the first stage on.
        trainable=model.trunk == "convnet" and "fine_tune" not in recipe.stages,
        dtype=model.dtype,
    )
    return ShowAttendTell(
        vocabulary,
        encoder=encoder,
        estimator=make("estimator", ESTIMATORS, recipe.estimator),
        embedding_size=model.embedding_size,
        hidden_size=model.hidden_size,
        attention_size=model.attention_size,
        dropout=model.dropout,
        input_dropout=model.input_dropout,
        output_activation=model.output_activation,
        initial_state=make("model.initial_state", INITIAL_STATES, model.initial_state),
        rerankers=[
            make(f"model.rerankers.{name}", RERANKERS, {**options, "name": name})
            for name, options in model.rerankers.items()
        ],
        dtype=model.dtype,
    )


def compile_captioner(captioner, recipe, total_steps):
    """Compiles a captioner as the recipe says, for `total_steps` updates."""
    objective = recipe.objective
    captioner.compile(
        optimizer=make_optimizer(recipe.optimizer, total_steps),
        decoder=recipe.decoding,
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
    if settings.name == "adam":
        return keras.optimizers.Adam(**options)
    if settings.name == "rmsprop":
        return keras.optimizers.RMSprop(
            rho=0.95, momentum=0.9, epsilon=1e-4, centered=True, **options
        )
    raise ValueError(
        "Expected optimizer.name to be adam or rmsprop. "
        f"Received: optimizer.name={settings.name!r}. Choose one of them."
    )


# What a part of a recipe needs beside it to change anything: in words, and whether a
# recipe and its estimator have it.
_DRAWS = "an estimator that draws locations", lambda recipe, drawing: drawing.stochastic
NEEDS = {
    "stages.warm_up": _DRAWS,
    "decoding.attention": _DRAWS,
    "decoding.rerank": (
        "decoding.decoder=beam and decoding.beam=2 or more",
        lambda recipe, _: (
            recipe.decoding.get("decoder") == "beam"
            and recipe.decoding.get("beam", 3) > 1
        ),
    ),
    "optimizer.encoder_rate": (
        "a trunk that is trained: model.trunk=convnet, or stages.fine_tune.epochs",
        lambda recipe, _: (
            recipe.model.trunk == "convnet"
            or recipe.stages.get("fine_tune", {}).get("epochs", 0) > 0
        ),
    ),
}


def refuse_unheard(recipe, changes):
    """Refuses what somebody asked for and what would change nothing.

    What a recipe brings along is no mistake.

    Args:
        recipe: a `Recipe`, the changes made.
        changes: dotted names -> values that were asked for.

    Raises:
        ValueError: something that an option needs is off.
    """
    estimator = make("estimator", ESTIMATORS, recipe.estimator)
    for name, value in changes.items():
        for part, (needed, there) in NEEDS.items():
            asked = name == part or name.startswith(f"{part}.")
            off = value in (None, 0, "0", "None", "null")
            if asked and not off and not there(recipe, estimator):
                raise ValueError(
                    f"Expected {needed}, without which {name} changes nothing. "
                    f"Received: {name}={value!r}, estimator="
                    f"{recipe.estimator['name']!r}. Leave {name} out, or set what it "
                    "needs."
                )
