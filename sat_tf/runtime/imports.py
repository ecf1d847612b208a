"""What is imported for nothing."""

import sys

NOT_NEEDED = ("matplotlib", "IPython")


def import_keras():
    """Imports Keras without matplotlib and IPython, where one caption is to be made.

    Where they are there, Keras imports them for figures of its own and for showing its
    files in notebooks, which takes as long as ten photographs. Whoever draws later
    imports matplotlib then; Keras' own figures say that it is missing, so this is not
    for the processes of others.
    """
    absent = [name for name in NOT_NEEDED if name not in sys.modules]
    # Which import takes for "not there".
    sys.modules.update(dict.fromkeys(absent))
    try:
        import keras  # noqa: F401
    finally:
        for name in absent:
            del sys.modules[name]
