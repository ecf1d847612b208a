"""A recipe: everything a training run needs to know besides its data."""

import dataclasses
import json

from sat_tf.recipes.changes import LISTS, by_full_name, changed
from sat_tf.recipes.sections import (
    SECTIONS,
    Data,
    Model,
    Objective,
    Optimizer,
    make_section,
)
from sat_tf.runtime.ranges import Count, checked
from sat_tf.runtime.registry import options_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training recipe; `--set section.name=value` changes any part of it.

    Attributes:
        model: `Model`. objective: `Objective`. optimizer: `Optimizer`. data: `Data`.
        estimator: a name in `ESTIMATORS`, and arguments of its constructor.
        stages: what training goes through, in this order: a name in `STAGES`, and
            arguments of its constructor.
        decoding: how the trained captioner decodes unless told otherwise, fields of
            `DecodingOptions`. Validation is greedy, for speed.
        patience: epochs without a better validation BLEU-4 before training stops.
    """

    model: Model = Model()
    estimator: dict = dataclasses.field(default_factory=lambda: {"name": "reinforce"})
    stages: dict = dataclasses.field(default_factory=lambda: {"train": {"epochs": 30}})
    objective: Objective = Objective()
    optimizer: Optimizer = Optimizer()
    data: Data = Data()
    decoding: dict = dataclasses.field(default_factory=lambda: {"decoder": "greedy"})
    patience: Count = 10

    def to_dict(self):
        """All of it, as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, content):
        """What `to_dict` made."""
        return _built(content)

    def replace(self, changes):
        """A copy with other values.

        Args:
            changes: dotted name -> value, as `--set` takes them; strings are read as
                the command line's. `estimator` changes the estimator by name, and
                keeps those of the recipe's options that the new one takes;
                `model.initial_state` starts with none. A stage that the recipe has
                not got is put where it usually comes. `None` takes a stage or a
                reranker out.

        Raises:
            ValueError: there is no such part, its value has another type, or the
                estimator does not take an option that was asked for.
        """
        changes = by_full_name(changes)
        content = changed(dataclasses.asdict(self), changes)
        content["estimator"] = _taken(content["estimator"], changes)
        return _built(content)

    def with_epochs(self, epochs):
        """A copy that is trained for so many epochs in all.

        The last stage with epochs gets what the others leave.
        """
        each = {n: o["epochs"] for n, o in self.stages.items() if o.get("epochs")}
        for name, value in each.items():
            checked(f"stages.{name}.epochs", value, Count)
        last = list(each)[-1] if each else "train"
        left = epochs - sum(each[name] for name in each if name != last)
        return self.replace({f"stages.{last}.epochs": max(left, 0)})


def _built(content):
    """A `Recipe` of its dict, its values checked."""
    kinds = {field.name: field.type for field in dataclasses.fields(Recipe)}
    parts = {
        name: make_section(name, value)
        if name in SECTIONS
        else checked(name, value, kinds[name])
        for name, value in content.items()
    }
    several_of = zip(LISTS, (parts["stages"], parts["model"].rerankers), strict=True)
    for name, several in several_of:
        for one, options in several.items():
            checked(f"{name}.{one}", options, dict)
    return Recipe(**parts)


def _taken(estimator, changes):
    """An estimator's options: those asked for, and those of the recipe it takes."""
    # Takes seconds, and --help must not wait for it.
    from sat_tf.estimators import ESTIMATORS

    estimator = {"name": None, **estimator}
    name = estimator["name"]
    taken = ESTIMATORS[name].options(**estimator)
    asked = changes.get("estimator", {}).keys() | {
        key.removeprefix("estimator.") for key in changes
    }
    for option in estimator:
        if option in asked and option not in (*taken, "name"):
            others = [
                k for k in ESTIMATORS if option in ESTIMATORS[k].options(**estimator)
            ]
            raise ValueError(
                f"Expected options that the estimator {name} takes: "
                f"{', '.join(sorted(taken)) or 'it has none'}. Received: "
                f"estimator.{option}={estimator[option]!r}. Leave it out"
                + (f", or choose one of {', '.join(others)}." if others else ".")
            )
    return {k: v for k, v in estimator.items() if k == "name" or k in taken}


def make(where, registry, options):
    """The registered thing called `options["name"]`, of the other options.

    Args:
        where: dotted name of the options in a recipe, for messages.
        registry: name -> class.
        options: `name`, and arguments of its constructor.

    Raises:
        ValueError: there is no such thing, it does not take such an option, or takes
            values of another type.
    """
    options = dict(options)
    name = options.pop("name", None)
    if name not in registry:
        raise ValueError(
            f"Expected {where} to be one of {', '.join(registry)}. "
            f"Received: {name!r}. Choose one of them."
        )
    kind = registry[name]
    check_options(where, name, options_of(kind), options)
    return kind(**options)


def check_options(where, what, taken, options):
    """Raises `ValueError` for an option that is not taken, or not of such a value.

    Args:
        where: dotted name of the options in a recipe. what: who takes them.
        taken: name -> value by default.
        options: name -> value that was given.
    """
    for option, value in options.items():
        if option not in taken:
            raise ValueError(
                f"Expected an option that {what} takes: {', '.join(taken) or 'none'}. "
                f"Received: {where}.{option}={value!r}. Leave it out."
            )
        if isinstance(taken[option], (bool, int, float, str)):
            checked(f"{where}.{option}", value, type(taken[option]))
