"""What all measurements have in common: plan, estimators, data and start."""

import dataclasses
import pathlib

import keras

from sat_tf.captioner import ShowAttendTell
from sat_tf.estimators import ESTIMATORS
from sat_tf.presets import storage
from sat_tf.recipes import RECIPES, Recipe
from sat_tf.training import train

PAPER_NAME, RECOMMENDED = "paper", "recommended"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured, and on what.

    Attributes:
        out: folder of all results.
        data, data_dir: see `datasets.load`.
        recipe: a `Recipe`: optimizer, batch size, the recommended estimator; and the
            captioner, where there is no `model`.
        model: folder of the captioner to start from; `None` trains one, by soft
            attention for as long as the recipe warms up, and keeps it in `out/start`.
        encoder_weights: see `ShowAttendTell.from_preset`.
        cache_dir: see `train`.
        draws: gradients drawn per estimator.
        minutes: training time of a learning run.
        keep_decoder: learning starts from the model's attention and decoder, too.
    """

    out: pathlib.Path
    data: str
    recipe: Recipe
    data_dir: str | None = None
    model: str | None = None
    encoder_weights: str | None = None
    cache_dir: str | None = None
    draws: int = 200
    minutes: float = 5.0
    keep_decoder: bool = False

    def settings(self):
        """What results depend on, as JSON values; folders may move."""
        moving = {"out", "data_dir", "encoder_weights", "cache_dir"}
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in moving}


def variants(recipe):
    """Name -> (key of `ESTIMATORS`, its options): all that can be compared.

    Every registered estimator as it comes; `paper`, the whole update rule of p. 5 with
    entropy and semi-sampling (its plain core is `reinforce`); that core with the
    reward to go; and `recommended`, what the recipe says; it learns with the recipe's
    soft warm-up.
    """
    return {
        **{name: (name, {}) for name in ESTIMATORS},
        PAPER_NAME: _named(RECIPES["paper"].estimator),
        "reinforce_to_go": ("reinforce", {"reward": "to_go"}),
        RECOMMENDED: _named(recipe.estimator),
    }


def _named(options):
    """A recipe's estimator as its name and the other options."""
    return options["name"], {k: v for k, v in options.items() if k != "name"}


def make_estimator(plan, name):
    """A fresh estimator of that name in `variants`."""
    kind, options = variants(plan.recipe)[name]
    return ESTIMATORS[kind](**options)


def train_start(plan):
    """Trains the captioner that all measurements start from."""
    epochs = max(warm_up_epochs(plan.recipe), 1)
    stages = {"train": {"epochs": epochs}}
    recipe = plan.recipe.replace({"estimator": "soft", "stages": stages})
    _, history = train(
        recipe,
        plan.data,
        plan.out / "start",
        data_dir=plan.data_dir,
        encoder_weights=plan.encoder_weights,
        cache_dir=plan.cache_dir,
        verbose=0,
    )
    return {"history": history}


def warm_up_epochs(recipe):
    """How long a recipe trains softly before its estimator takes over."""
    return recipe.stages.get("warm_up", {}).get("epochs", 0)


def start_with(plan, estimator, kept, **changes):
    """The captioner all start from, rebuilt around an estimator.

    Args:
        plan: a `Plan`.
        estimator: an `Estimator` that no captioner has yet.
        kept: parts whose weights are kept, of `storage.named_weights`; the others are
            drawn anew.
        **changes: of the captioner's config.
    """
    model = plan.model or plan.out / "start"
    start = ShowAttendTell.from_preset(model, encoder_weights=plan.encoder_weights)
    config = {
        **start.get_config(),
        "estimator": keras.saving.serialize_keras_object(estimator),
        **changes,
    }
    captioner = ShowAttendTell.from_config(config)
    weights = storage.named_weights(start)
    for name, variable in storage.named_weights(captioner).items():
        if name.split("/")[0] in kept:
            variable.assign(weights[name])
    captioner.encoder.standardise.finalize_state()
    return captioner
