"""For all tests: few threads, and what takes longest is begun first, so that no worker is left alone with it."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MLFLOW_TRACKING_URI"] = "off"  # who tests tracking names a store of its own


LONGEST = ("test_pipeline", "test_kills", "test_tuning", "test_study", "test_remote", "test_training", "test_tracking")
LONGEST += ("test_mappo", "test_rmio", "test_policy", "test_world_model")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.hookimpl(optionalhook=True)  # without xdist there is nobody to ask
def pytest_xdist_auto_num_workers():
    """One more than there are cores: many a test waits for a server or for processes of its own."""
    from pipelines.studies.fan_out import our_cores

    return our_cores() + 1
