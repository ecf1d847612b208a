"""Values that somebody gives by name, and which of them make sense."""

import math
import numbers
import typing

# A type, which of its values make sense, in words, and whether one does.
Size = typing.Annotated[int, "1 or more", lambda x: x >= 1]
Count = typing.Annotated[int, "0 or more", lambda x: x >= 0]
Share = typing.Annotated[float, "from 0 to 1", lambda x: 0 <= x <= 1]
Rate = typing.Annotated[float, "from 0 to less than 1", lambda x: 0 <= x < 1]
Weight = typing.Annotated[float, "0 or more", lambda x: 0 <= x < math.inf]
Positive = typing.Annotated[float, "more than 0", lambda x: 0 < x < math.inf]
Seed = typing.Annotated[int, "from 0 to 4294967295", lambda x: 0 <= x < 2**32]
Bound = typing.Annotated[float | None, "more than 0", lambda x: x is None or x > 0]

# As people write them, in a recipe or behind `--set`.
AS_WRITTEN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    tuple: "a list such as [224, 224]",
    dict: 'options such as {"epochs": 5}',
    type(None): "null",
}


def described(kind):
    """What is asked for, in words: "a whole number, 1 or more"."""
    kind, where, _ = _parts(kind)
    first, *others = (AS_WRITTEN[each] for each in kind)
    return ", or ".join([f"{first}, {where}" if where else first, *others])


def _parts(kind):
    """The types that are allowed, which of their values in words, and a test of one."""
    where, makes_sense = "", lambda value: True
    if typing.get_origin(kind) is typing.Annotated:
        kind, where, makes_sense = typing.get_args(kind)
    return typing.get_args(kind) or (kind,), where, makes_sense


def checked(name, value, kind):
    """`value`, if it is what is asked for, as plain Python's.

    Lists become tuples, 1 becomes 1.0 where any number will do, and NumPy's numbers
    become Python's.

    Args:
        name: of the value, for the message.
        kind: a type, several joined by `|`, or one of this module's.

    Raises:
        ValueError: it is of another type, or makes no sense.
    """
    allowed, _, makes_sense = _parts(kind)
    plain = tuple(value) if isinstance(value, list) else value
    if isinstance(plain, numbers.Number) and hasattr(plain, "item"):
        plain = plain.item()
    plain = float(plain) if type(plain) is int and float in allowed else plain
    right = isinstance(plain, allowed)
    right &= bool in allowed or not isinstance(plain, bool)
    if not right or not makes_sense(plain):
        raise ValueError(
            f"Expected {name} to be {described(kind)}. "
            f"Received: {name}={value!r}. Give it such a value."
        )
    return plain


def check(kind, **values):
    """Raises `ValueError` unless each of the named values is what is asked for."""
    for name, value in values.items():
        checked(name, value, kind)


def check_made(name, value, base, names=()):
    """Raises `ValueError` unless the value is an object of a class.

    Args:
        name: of the value, for the message.
        base: the class.
        names: what may be given instead of an object, for the message.
    """
    if not isinstance(value, base):
        kind = base.__name__
        article = "an" if kind[0] in "AEIOU" else "a"
        named = f", or one of {', '.join(names)}" if names else ""
        advice = "Choose one of them." if names else f"Make one: {kind}(...)."
        raise ValueError(
            f"Expected {name} to be {article} {kind}{named}. "
            f"Received: {name}={value!r}. {advice}"
        )


def check_choice(name, value, allowed):
    """Raises `ValueError` unless the value is one of the allowed."""
    if value not in allowed:
        raise ValueError(
            f"Expected {name} to be one of {', '.join(allowed)}. "
            f"Received: {name}={value!r}. Choose one of them."
        )


def check_dtype(policy):
    """Raises `ValueError` for a Keras policy whose weights are not in float32."""
    if policy.variable_dtype != "float32":
        raise ValueError(
            "Expected a dtype whose weights are in float32. Received: "
            f"dtype={policy.name!r}. Choose float32 or mixed_bfloat16, here or in "
            "keras.config.set_dtype_policy."
        )
