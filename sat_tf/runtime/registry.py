"""Names for things that can be chosen, each imported when it is first asked for."""

import importlib
import inspect
from collections.abc import Mapping

from sat_tf.runtime.ranges import check_made


class Registry(Mapping):
    """A name -> the class or function it stands for.

    The command line lists the names without importing TensorFlow, which takes seconds.

    Args:
        kind: what the entries are, in the singular, for messages.
        **homes: name = `"module:attribute"`.
    """

    def __init__(self, kind, **homes):
        self.kind = kind
        self._homes = homes

    def register(self, name, home):
        """Adds an entry: `"module:attribute"`, or the class or function itself."""
        self._homes[name] = home

    def __getitem__(self, name):
        """The entry of that name; a `ValueError` lists the names there are."""
        home = self._homes.get(name) if isinstance(name, str) else None
        if home is None:
            raise ValueError(
                f"Expected {self.kind} to be one of {', '.join(self._homes)}. "
                f"Received: {self.kind}={name!r}. Choose one of them."
            )
        if isinstance(home, str):
            module, _, attribute = home.partition(":")
            home = getattr(importlib.import_module(module), attribute)
        return home

    def made(self, value, base):
        """An object: `value` itself, or of that name one with its defaults.

        Args:
            value: a `base`, or the name of an entry.
            base: the class that all entries are of.

        Raises:
            ValueError: it is neither.
        """
        if isinstance(value, str):
            return self[value]()
        check_made(self.kind, value, base, self)
        return value

    def __contains__(self, name):
        return isinstance(name, str) and name in self._homes

    def __iter__(self):
        return iter(self._homes)

    def __len__(self):
        return len(self._homes)


def options_of(kind):
    """What a class's constructor takes or hands on to those of its bases.

    Those of Keras' own classes do not count, nor those in the class's `settled`.

    Returns:
        name -> value by default, `None` where there is none.
    """
    found = {}
    for each in kind.__mro__:
        if each.__module__.startswith("keras"):
            break
        if "__init__" not in vars(each):
            continue
        parameters = list(inspect.signature(each.__init__).parameters.values())
        several = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        for one in parameters:
            if one.kind not in several:
                default = None if one.default is one.empty else one.default
                found.setdefault(one.name, default)
        if all(one.kind is not one.VAR_KEYWORD for one in parameters):
            break
    left = {"self", *getattr(kind, "settled", ())}
    return {name: default for name, default in found.items() if name not in left}
