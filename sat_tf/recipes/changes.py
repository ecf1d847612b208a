"""Changes of a recipe by dotted names, as `--set` makes them."""

import copy
import dataclasses
import difflib
import json

from sat_tf.recipes.sections import SECTIONS

# What is looked up by name further down may have any names of its own.
OPEN = ("estimator", "stages", "decoding")
# Chosen by name, and what else there is are its options.
CHOICES = ("estimator", "model.initial_state")
# A recipe may have any of these, and one that is taken out is gone.
LISTS = ("stages", "model.rerankers")
# Where a stage comes that a recipe has not got; others come last.
USUAL = ("see", "warm_up", "train", "fine_tune", "fit_rerankers", "fit_temperature")


def changed(content, changes):
    """A copy of a recipe's dict with other values.

    Args:
        content: as `dataclasses.asdict` makes it.
        changes: see `Recipe.replace`, by full names.

    Raises:
        ValueError: there is no such part.
    """
    before, content = content, copy.deepcopy(content)
    # What is chosen by name comes first, then its options.
    for name in sorted(changes, key=lambda name: not name.endswith(".name")):
        value = changes[name]
        value = parse(value) if isinstance(value, str) else copy.deepcopy(value)
        _check_exists(content, name)
        if name == "model.initial_state.name" and value != _start(before):
            content["model"]["initial_state"] = {}  # another takes other options
        _put(content, name, value)
    if "stages" not in changes:
        content["stages"] = _in_order(content["stages"], before["stages"])
    return content


def by_full_name(changes):
    """Changes by dotted names; `estimator=rloo` changes the estimator's name."""
    full = {}
    for name, value in changes.items():
        if name in CHOICES:
            value = parse(value) if isinstance(value, str) else value
            name += "" if isinstance(value, dict) else ".name"
        full[name] = value
    return full


def parse(text):
    """The value that a text of the command line stands for: JSON, or itself."""
    try:
        return json.loads("null" if text == "None" else text)
    except ValueError:
        return text


def _check_exists(content, name):
    section, *rest = name.split(".")
    known = name in ("patience", *OPEN)
    if rest and section in SECTIONS:
        known = rest[0] in content[section]
    elif rest:
        known = section in OPEN and (section != "estimator" or len(rest) == 1)
    if not known:
        raise ValueError(unknown(name, content))


def _start(content):
    return content["model"]["initial_state"].get("name")


def _put(content, name, value):
    *path, last = name.split(".")
    inside = content
    for part in path:
        inside = inside.setdefault(part, {})
        if not isinstance(inside, dict):
            raise ValueError(unknown(name, content))
    if value is None and ".".join(path) in LISTS:
        inside.pop(last, None)
    else:
        inside[last] = value


def _in_order(stages, before):
    """Stages that were added go where they usually come."""
    names = [name for name in before if name in stages]
    for name in stages:
        if name not in names:
            later = USUAL[USUAL.index(name) + 1 :] if name in USUAL else ()
            at = [i for i, other in enumerate(names) if other in later]
            names.insert(at[0] if at else len(names), name)
    return {name: stages[name] for name in names}


def unknown(name, content):
    """What to say of a part that does not exist."""
    said = f"Expected a part of the recipe. Received: {name}"
    if name in GONE:
        return f"{said}. {GONE[name]}"
    if name in MOVED:
        return (
            f"{said}, which is {MOVED[name]} now. "
            f"Write --set {MOVED[name]}=... instead."
        )
    known = sorted({*_names(content), *MOVED.values()})
    # By its last part too, which is what people remember.
    ends = {each.rsplit(".", 1)[-1]: each for each in reversed(known)}
    near = difflib.get_close_matches(name, [*known, *ends], n=3, cutoff=0.6)
    near = dict.fromkeys(ends.get(each, each) for each in near) or known
    return f"{said}. Did you mean {', '.join(near)}?"


def _names(content, inside=""):
    """Dotted names of all that nested dicts hold."""
    for name, value in content.items():
        if isinstance(value, dict) and value:
            yield from _names(value, f"{inside}{name}.")
        else:
            yield f"{inside}{name}"


# Recipes were flat once, and these names were printed.
MOVED = {
    **{
        field.name: f"{section}.{field.name}"
        for section, kind in SECTIONS.items()
        for field in dataclasses.fields(kind)
        if field.name != "name"
    },
    "optimizer": "optimizer.name",
    "initial_dropout": "model.initial_state.dropout",
    "initial_gain": "model.initial_state.scale",
    "detector_size": "model.rerankers.detection.hidden_size",
    "grounding_size": "model.rerankers.grounding.hidden_size",
    "attention_rule": "decoding.attention",
    "max_length": "decoding.max_length",
    **{
        name: f"decoding.rerank.{name}"
        for name in ("consensus", "detection", "grounding")
    },
    "warm_up": "stages.warm_up.epochs",
    **{
        name: f"estimator.{name}"
        for name in (
            "samples reward baseline lambda_r lambda_e semi_sampling coin batch_sum "
            "baseline_steps normalise_advantage temperature final_temperature "
            "anneal_steps carry top_k proposal"
        ).split()
    },
}
_TEACH = (
    "A teacher's captions come from a file now: write it with sat-tf teach TEACHER "
    "--captions N, and train --data on it."
)
GONE = {
    "epochs": "Give the total as --epochs, or write --set stages.train.epochs=... "
    "instead.",
    "fine_tune_after": "Write --set stages.train.epochs=... and --set "
    "stages.fine_tune.epochs=..., the epochs before and after, instead.",
    "beam": "Write --set decoding.decoder=beam --set decoding.beam=... instead.",
    "teacher": _TEACH,
    "teacher_captions": _TEACH,
}
