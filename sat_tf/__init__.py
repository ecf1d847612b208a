"""Image captioning with attention you can trust: Show, Attend and Tell in TensorFlow.

Names are imported when first used, as TensorFlow takes seconds to load. Keras'
`load_model` finds our classes all the same, see `stand_ins`.
"""

import importlib

from sat_tf.runtime import stand_ins

_HOME = {
    "Caption": "sat_tf.decoding.generate",
    "DecodingOptions": "sat_tf.decoding",
    "ESTIMATORS": "sat_tf.estimators",
    "Encoder": "sat_tf.model.encoder",
    "RECIPES": "sat_tf.recipes",
    "RERANKERS": "sat_tf.reranking",
    "Recipe": "sat_tf.recipes",
    "Reinforce": "sat_tf.estimators",
    "ShowAttendTell": "sat_tf.captioner",
    "Soft": "sat_tf.estimators",
    "Vocabulary": "sat_tf.vocabulary",
    "evaluate": "sat_tf.evaluation.evaluate",
    "keep_freed_memory": "sat_tf.runtime.memory",
    "load_data": "sat_tf.datasets",
    "train": "sat_tf.training.loop",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'sat_tf' has no attribute {name!r}")
    attribute = {"load_data": "load"}.get(name, name)
    return getattr(importlib.import_module(_HOME[name]), attribute)


def __dir__():
    return __all__


stand_ins.install()
