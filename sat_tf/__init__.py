"""Image captioning with attention you can trust: Show, Attend and Tell in TensorFlow.

Names are imported when first used, as TensorFlow takes seconds to load. So that
`keras.saving.load_model` finds our classes all the same, Keras' registry has stand-ins
of them as soon as both it and this package are there.
"""

import importlib
import sys

_HOME = {
    "Caption": "sat_tf.generation",
    "DecodingOptions": "sat_tf.decoding",
    "ESTIMATORS": "sat_tf.estimators",
    "Encoder": "sat_tf.encoder",
    "PRESETS": "sat_tf.presets",
    "Preset": "sat_tf.presets",
    "Reinforce": "sat_tf.estimators",
    "ShowAttendTell": "sat_tf.captioner",
    "Soft": "sat_tf.estimators",
    "Vocabulary": "sat_tf.vocabulary",
    "evaluate": "sat_tf.evaluation",
    "keep_freed_memory": "sat_tf.memory",
    "load_data": "sat_tf.datasets",
    "train": "sat_tf.training",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'sat_tf' has no attribute {name!r}")
    attribute = {"load_data": "load"}.get(name, name)
    return getattr(importlib.import_module(_HOME[name]), attribute)


def __dir__():
    return __all__


# Every class registered with Keras as "sat_tf>...".
_REGISTERED = (
    "Attention Coordinates Critic Decoder Encoder Grounding GumbelSoftmax Inference "
    "Rebar Reinforce Rloo ShowAttendTell Soft StepMarginal StraightThrough Variational "
    "Vimco WordDetector WsRam"
).split()


class _StandIn:
    """Is in Keras' registry until the class itself takes its place.

    That is when anything is asked of it, or when its module is imported otherwise.
    """

    def __init__(self, name):
        self._name = name

    def _class(self):
        importlib.import_module("sat_tf.captioner")  # imports the modules of all
        return _registry()[self._name]

    def __getattr__(self, name):
        return getattr(self._class(), name)

    def __call__(self, *args, **kwargs):
        return self._class()(*args, **kwargs)


def _registry():
    return sys.modules["keras"].saving.get_custom_objects()


def _stand_in():
    for name in (f"sat_tf>{each}" for each in _REGISTERED):
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


if "keras" in sys.modules:
    _stand_in()
else:
    sys.meta_path.insert(0, _AfterKeras)
