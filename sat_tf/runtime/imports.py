"""What is imported for nothing."""

import sys

PLOTTING = "matplotlib"


def import_keras():
    """Imports Keras without matplotlib, for a program that has one caption to make.

    Where matplotlib is there, Keras imports it for figures of its own, which takes as
    long as ten photographs. Whoever draws later imports it then; Keras' own
    figures say that it is missing, so this is not for the processes of others.
    """
    if PLOTTING not in sys.modules:
        sys.modules[PLOTTING] = None  # which import takes for "not there"
        try:
            import keras  # noqa: F401
        finally:
            del sys.modules[PLOTTING]
