"""For all tests: few threads, and what takes longest comes last."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_TRACKING_URI"] = "off"  # who tests tracking names a store of its own


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.get_closest_marker("pipeline") is not None)
