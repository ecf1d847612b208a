"""Settings that every test shares."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def pytest_collection_modifyitems(items):
    """The longest file first, or one worker runs it while the other has no work."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")
