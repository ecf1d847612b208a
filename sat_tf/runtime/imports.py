"""What is imported for nothing, and what is said when it is imported."""

import contextlib
import importlib.abc
import importlib.machinery
import os
import sys
import tempfile

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


class Quietly(importlib.abc.MetaPathFinder):
    """On `sys.meta_path`, has modules imported without what they say on standard error.

    TensorFlow 2.21 greets with six lines of notices, whatever `TF_CPP_MIN_LOG_LEVEL`
    says (its issue 100442). Where the import fails, all that was said is shown.

    Args:
        names: of top-level modules.
    """

    def __init__(self, *names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        """As the path's own finder, with another way to execute the module."""
        if name not in self.names:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                with _put_aside(sys.__stderr__):
                    execute(module)

            spec.loader.exec_module = exec_module
        return spec


@contextlib.contextmanager
def _put_aside(stream):
    """What is written to a stream inside, by C++ too, is shown if that fails."""
    try:
        number = stream.fileno()
        said = tempfile.TemporaryFile()  # noqa: SIM115
    except (AttributeError, OSError):  # There is no stream, or no room.
        yield
        return
    with said:
        kept = os.dup(number)
        stream.flush()
        os.dup2(said.fileno(), number)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(kept, said.read())
            raise
        finally:
            stream.flush()
            os.dup2(kept, number)
            os.close(kept)
