"""Settings that every test shares."""

import atexit
import gc
import os
import shutil
import tempfile

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Every captioner that is trained has its update compiled: 2 s so, 7 s optimised.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)
if "SAT_TF_CACHE" not in os.environ:  # what is kept of data is of these tests alone
    os.environ["SAT_TF_CACHE"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["SAT_TF_CACHE"], ignore_errors=True)


LONGEST = ["test_notebooks.py", "test_caching.py", "test_replicas.py"]
ORDER = {name: place for place, name in enumerate(LONGEST)}


def pytest_collection_modifyitems(items):
    """The longest files first, or one worker runs them while the other has no work."""
    items.sort(key=lambda item: ORDER.get(item.path.name, len(ORDER)))


def pytest_collection_finish():
    """What would take the tests more time than it saves them.

    TensorFlow runs graphs as they were traced: to optimise them takes a quarter. Cycles
    are looked for less often: of graphs they are many, and take a tenth.
    """
    import tensorflow as tf  # not at the top: it reads the environment set above

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture(autouse=True)
def seeded():
    """A test that fails, fails again: initial weights are the same in every run."""
    import keras  # not at the top: it reads the environment set above

    keras.utils.set_random_seed(17)
