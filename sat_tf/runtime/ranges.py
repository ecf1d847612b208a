"""Values that somebody gives by name, and which of them make sense."""

import math
import typing

# A type, which of its values make sense, in words, and whether one does.
Size = typing.Annotated[int, "1 or more", lambda x: x >= 1]
Count = typing.Annotated[int, "0 or more", lambda x: x >= 0]
Share = typing.Annotated[float, "from 0 to 1", lambda x: 0 <= x <= 1]
Rate = typing.Annotated[float, "from 0 to less than 1", lambda x: 0 <= x < 1]
Weight = typing.Annotated[float, "0 or more", lambda x: 0 <= x < math.inf]
Positive = typing.Annotated[float, "more than 0", lambda x: 0 < x < math.inf]
Bound = typing.Annotated[float | None, "more than 0", lambda x: x is None or x > 0]

# As people write them, in a recipe or behind `--set`.
AS_WRITTEN = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list such as [224, 224]",
    dict: 'options such as {"epochs": 5}',
    type(None): "null",
}


def checked(name, value, kind):
    """`value`, if it is what is asked for; lists become tuples, and 1 becomes 1.0.

    Args:
        name: of the value, for the message.
        kind: a type, several joined by `|`, or one of this module's.

    Raises:
        ValueError: it is of another type, or makes no sense.
    """
    where, makes_sense = "", None
    if typing.get_origin(kind) is typing.Annotated:
        kind, where, makes_sense = typing.get_args(kind)
    allowed = typing.get_args(kind) or (kind,)
    given = value
    value = tuple(value) if isinstance(value, list) else value
    value = float(value) if type(value) is int and float in allowed else value
    right = isinstance(value, allowed)
    right &= bool in allowed or not isinstance(value, bool)
    if not right or (makes_sense and not makes_sense(value)):
        first, *others = (AS_WRITTEN[each] for each in allowed)
        first = f"{first}, {where}" if where else first
        raise ValueError(
            f"Expected {name} to be {', or '.join([first, *others])}. "
            f"Received: {name}={given!r}. Give it such a value."
        )
    return value


def check(kind, **values):
    """Raises `ValueError` unless each of the named values is what is asked for.

    Unlike `checked` it leaves values as they are, and takes NumPy's numbers for
    Python's.
    """
    for name, value in values.items():
        checked(name, getattr(value, "item", lambda value=value: value)(), kind)


def check_choice(name, value, allowed):
    """Raises `ValueError` unless the value is one of the allowed."""
    if value not in allowed:
        raise ValueError(
            f"Expected {name} to be one of {', '.join(allowed)}. "
            f"Received: {name}={value!r}. Choose one of them."
        )
