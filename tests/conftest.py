"""Settings that every test shares."""

import os

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Every captioner that is trained has its update compiled: 2 s so, 7 s optimised.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)


def pytest_collection_modifyitems(items):
    """The longest file first, or one worker runs it while the other has no work."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(autouse=True)
def seeded():
    """A test that fails, fails again: initial weights are the same in every run."""
    import keras  # not at the top: it reads the environment set above

    keras.utils.set_random_seed(17)
