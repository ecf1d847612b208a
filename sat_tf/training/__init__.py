"""Training runs that can be killed at any moment and resumed."""

import importlib

_HOME = {
    "batches": "sat_tf.training.loop",
    "build": "sat_tf.training.building",
    "train": "sat_tf.training.loop",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module 'sat_tf.training' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
