"""Keras finds our classes after `import sat_tf`, which does not import them.

Importing them would take the seconds that TensorFlow takes. So Keras' registry has
stand-ins of them as soon as both it and this package are there. Which classes there are
is read from the sources.
"""

import importlib
import pathlib
import re
import sys

PACKAGE = pathlib.Path(__file__).parents[1]
_REGISTERED = re.compile(
    r'^@keras\.saving\.register_keras_serializable\("sat_tf"\)\nclass (\w+)', re.M
)


def registered():
    """Every class registered with Keras as "sat_tf>...": name -> its module's name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        names = _REGISTERED.findall(path.read_text("utf-8"))
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found |= dict.fromkeys(names, ".".join(parts).removesuffix(".__init__"))
    return found


class _StandIn:
    """Is in Keras' registry until the class itself takes its place.

    That is when anything is asked of it, or when its module is imported otherwise.
    """

    def __init__(self, name, module):
        self._name, self._module = name, module

    def _class(self):
        return getattr(importlib.import_module(self._module), self._name)

    def __getattr__(self, name):
        return getattr(self._class(), name)

    def __call__(self, *args, **kwargs):
        return self._class()(*args, **kwargs)


def _stand_in():
    registry = sys.modules["keras"].saving.get_custom_objects()
    for name, module in registered().items():
        registry.setdefault(f"sat_tf>{name}", _StandIn(name, module))


class _AfterKeras:
    """Sees to the stand-ins when Keras is imported, by whomever."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """What the other finders find; of Keras, with the stand-ins to follow."""
        if name != "keras":
            return None
        others = (
            f.find_spec(name, path, target) for f in sys.meta_path if f is not cls
        )
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                _stand_in()

            spec.loader.exec_module = exec_module
        return spec


def install():
    """Sees to the stand-ins now, or when Keras is imported."""
    if "keras" in sys.modules:
        _stand_in()
    else:
        sys.meta_path.insert(0, _AfterKeras)
