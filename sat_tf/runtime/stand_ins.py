"""Keras finds our classes after `import sat_tf`, which does not import them.

Importing them would take the seconds that TensorFlow takes. So Keras' registry has
stand-ins of them as soon as both it and this package are there.
"""

import importlib
import sys

# Every class registered with Keras as "sat_tf>...", and the modules that import them.
REGISTERED = (
    "Attention Consensus Coordinates Critic Decoder Detection Encoder FromMean "
    "Grounding GumbelSoftmax Inference Learned Rebar Reinforce Rloo ShowAttendTell "
    "Soft StepMarginal StraightThrough Variational Vimco WsRam"
).split()
MODULES = (
    "sat_tf.captioner",
    "sat_tf.reranking.consensus",
    "sat_tf.reranking.detection",
    "sat_tf.reranking.grounding",
)


class _StandIn:
    """Is in Keras' registry until the class itself takes its place.

    That is when anything is asked of it, or when its module is imported otherwise.
    """

    def __init__(self, name):
        self._name = name

    def _class(self):
        for module in MODULES:
            importlib.import_module(module)
        return _registry()[self._name]

    def __getattr__(self, name):
        return getattr(self._class(), name)

    def __call__(self, *args, **kwargs):
        return self._class()(*args, **kwargs)


def _registry():
    return sys.modules["keras"].saving.get_custom_objects()


def _stand_in():
    for name in (f"sat_tf>{each}" for each in REGISTERED):
        _registry().setdefault(name, _StandIn(name))


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
