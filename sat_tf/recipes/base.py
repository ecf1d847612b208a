"""A recipe: everything a training run needs to know besides its data."""

import dataclasses
import difflib
import json
import typing

from sat_tf.runtime.registry import options_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The captioner.

    Attributes:
        trunk, encoder_weights, image_size, resize_mode: see `Encoder`.
        embedding_size, hidden_size, attention_size, dropout, input_dropout,
            output_activation: see `ShowAttendTell`.
        initial_state: a name in `INITIAL_STATES`, and arguments of its constructor.
        rerankers: those that learn, by their name in `RERANKERS`, each with the
            arguments of its constructor.
        word_vectors: text file of pretrained word vectors of `embedding_size` numbers,
            GloVe's or word2vec's, to start the word embedding from.
        dtype: `float32` or `mixed_bfloat16`: half the memory traffic, and faster where
            the hardware has it; weights stay float32.
    """

    trunk: str = "vgg19"
    encoder_weights: str | None = "imagenet"
    image_size: tuple = (224, 224)
    resize_mode: str = "crop"
    embedding_size: int = 512
    hidden_size: int = 512
    attention_size: int = 512
    dropout: float = 0.5
    input_dropout: float = 0.0
    output_activation: str | None = None
    initial_state: dict = dataclasses.field(
        default_factory=lambda: {"name": "from_mean"}
    )
    rerankers: dict = dataclasses.field(default_factory=dict)
    word_vectors: str | None = None
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """What is maximised beside the estimator's surrogate; see `ShowAttendTell.compile`.

    Attributes:
        label_smoothing, lambda_ds: as there.
        scheduled_sampling: probability, at the end of training, that the captioner's
            own word goes in instead of the caption's; it rises linearly from 0 over
            all updates of all epochs. 0 = off.
    """

    label_smoothing: float = 0.0
    lambda_ds: float = 0.0
    scheduled_sampling: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How gradients move the weights.

    Attributes:
        name: `adam` or `rmsprop` (Graves 2013, as the authors').
        learning_rate, final_rate: first and last rate of a cosine; per update.
        clip_norm: global norm of the gradient at most; `None` = as it is.
        encoder_rate: factor on the learning rate for a trunk that is trained.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    final_rate: float = 1e-3
    clip_norm: float | None = None
    encoder_rate: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """How captions become batches.

    Attributes:
        max_words, min_count: the vocabulary, see `Vocabulary.from_captions`.
        batch_size: captions.
    """

    max_words: int = 10_000
    min_count: int = 1
    batch_size: int = 64


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
    patience: int = 10

    def to_dict(self):
        """All of it, as JSON values."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def replace(self, changes):
        """A copy with other values.

        Args:
            changes: dotted name -> value, as `--set` takes them; strings are read as
                the command line's. `estimator` changes the estimator by name, and
                keeps those of the recipe's options that the new one takes.

        Raises:
            ValueError: there is no such part, its value has another type, or the
                estimator does not take an option that was asked for.
        """
        content = dataclasses.asdict(self)
        for name, value in changes.items():
            name = "estimator.name" if name == "estimator" else name
            _change(content, name, _parse(value) if isinstance(value, str) else value)
        content["estimator"] = _taken(content["estimator"], changes)
        sections = {name: kind(**content.pop(name)) for name, kind in SECTIONS.items()}
        return Recipe(**content, **sections)

    def with_epochs(self, epochs):
        """A copy that is trained for so many epochs in all.

        The last stage with epochs gets what the others leave.
        """
        *others, last = [n for n, options in self.stages.items() if options["epochs"]]
        left = epochs - sum(self.stages[name]["epochs"] for name in others)
        return self.replace({f"stages.{last}.epochs": max(left, 0)})

    @classmethod
    def from_dict(cls, content):
        """What `to_dict` made."""
        return cls().replace(
            {
                f"{section}.{name}" if isinstance(values, dict) else section: value
                for section, values in content.items()
                for name, value in (
                    values.items() if isinstance(values, dict) else [(None, values)]
                )
            }
        )


SECTIONS = {
    "model": Model,
    "objective": Objective,
    "optimizer": Optimizer,
    "data": Data,
}
# What is looked up by name further down may have any names of its own.
OPEN = ("estimator", "stages", "decoding")


def _change(content, name, value):
    """Sets one dotted name in nested dicts."""
    section, *rest = name.split(".")
    whole = section == "patience" or section in OPEN and isinstance(value, dict)
    if section == "stages" and len(rest) == 1 and not isinstance(value, dict):
        raise ValueError(
            f"Expected what changes in a stage. Received: {name}={value!r}. Write, for "
            f"instance, --set {name}.epochs={value}."
        )
    if (rest and section in OPEN) or (whole and not rest):
        _put(content, [section, *rest], value)
        return
    if section not in SECTIONS or not rest:
        raise ValueError(_unknown(name))
    fields = {f.name: f for f in dataclasses.fields(SECTIONS[section])}
    if rest[0] not in fields:
        raise ValueError(_unknown(name))
    if len(rest) == 1:
        value = _checked(name, value, fields[rest[0]])
    elif not isinstance(content[section][rest[0]], dict):
        raise ValueError(_unknown(name))
    _put(content, [section, *rest], value)


def _put(content, path, value):
    for part in path[:-1]:
        content = content.setdefault(part, {})
        if not isinstance(content, dict):
            raise ValueError(_unknown(".".join(path)))
    content[path[-1]] = value


def _taken(estimator, changes):
    """An estimator's options: those asked for, and those of the recipe it takes."""
    from sat_tf.estimators import kind_of  # takes seconds, so not to print --help

    name = estimator["name"]
    taken = sorted(kind_of(name).options(**estimator))
    asked = {key.removeprefix("estimator.") for key in changes}
    for option in asked & set(estimator) - set(taken) - {"name"}:
        raise ValueError(
            f"Expected an option that {name} takes: {', '.join(taken) or 'none'}. "
            f"Received: estimator.{option}={estimator[option]!r}. Leave it out, or "
            "choose another estimator."
        )
    return {k: v for k, v in estimator.items() if k == "name" or k in taken}


def make(where, registry, options):
    """The registered thing called `options["name"]`, of the other options.

    Args:
        where: dotted name of the options in a recipe, for messages.
        registry: name -> class.
        options: `name`, and arguments of its constructor.

    Raises:
        ValueError: there is no such thing, or it does not take such an option.
    """
    options = dict(options)
    name = options.pop("name")
    if name not in registry:
        raise ValueError(
            f"Expected {where} to be one of {', '.join(registry)}. "
            f"Received: {name!r}. Choose one of them."
        )
    kind = registry[name]
    taken = options_of(kind)
    for option in set(options) - set(taken):
        raise ValueError(
            f"Expected an option that {name} takes: {', '.join(taken) or 'none'}. "
            f"Received: {where}.{option}={options[option]!r}. Leave it out."
        )
    return kind(**options)


def _parse(text):
    try:
        return json.loads("null" if text == "None" else text)
    except ValueError:
        return text


def _checked(name, value, field):
    """`value`, if it has the type of a section's field."""
    value = tuple(value) if isinstance(value, list) else value
    allowed = typing.get_args(field.type) or (field.type,)
    if type(value) is int and float in allowed:
        value = float(value)
    wrong_bool = isinstance(value, bool) and bool not in allowed
    if wrong_bool or not isinstance(value, allowed):
        names = ["None" if k is type(None) else k.__name__ for k in allowed]
        raise ValueError(
            f"Expected {name} to be {' or '.join(names)}. Received: {name}={value!r}."
        )
    return value


def _unknown(name):
    """What to say of a part that does not exist."""
    if name in MOVED:
        return (
            f"Expected a part of the recipe. Received: {name}, which is {MOVED[name]} "
            f"now. Write --set {MOVED[name]}=... instead."
        )
    known = [
        f"{section}.{field.name}"
        for section, kind in SECTIONS.items()
        for field in dataclasses.fields(kind)
    ]
    known += [f"{section}.NAME" for section in OPEN] + ["patience"]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known
    return (
        f"Expected a part of the recipe. Received: {name}. Did you mean "
        f"{', '.join(near)}?"
    )


# Recipes were flat once, and these names were printed.
MOVED = {
    **{
        field.name: f"{section}.{field.name}"
        for section, kind in SECTIONS.items()
        for field in dataclasses.fields(kind)
    },
    "optimizer": "optimizer.name",
    "initial_dropout": "model.initial_state.dropout",
    "initial_gain": "model.initial_state.scale",
    "detector_size": "model.rerankers.detection.hidden_size",
    "grounding_size": "model.rerankers.grounding.hidden_size",
    "attention_rule": "decoding.attention",
    "max_length": "decoding.max_length",
    "beam": "decoding.beam",
    **{
        name: f"decoding.rerank.{name}"
        for name in ("consensus", "detection", "grounding")
    },
    "warm_up": "stages.warm_up.epochs",
    "epochs": "stages.train.epochs",
    "fine_tune_after": "stages.fine_tune.epochs",
    "teacher": "a caption file that `sat-tf teach` writes",
    "teacher_captions": "the option --captions of `sat-tf teach`",
    **{
        name: f"estimator.{name}"
        for name in (
            "samples reward baseline lambda_r lambda_e semi_sampling coin batch_sum "
            "baseline_steps normalise_advantage temperature final_temperature "
            "anneal_steps carry top_k proposal"
        ).split()
    },
}
