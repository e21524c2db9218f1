"""Where smac/MAP is tested: in a double of StarCraft2Env everywhere, and where the public package is, in itself.

The package then plays with tests/starcraft, a stand-in for the game; both break as that package's modes say.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from starcraft.install import install, launched, running
from starcraft.modes import VARIABLE
from starcraft.needs import NEEDS_SMAC

from rmiov2.envs.registry import SUITES, Suite
from rmiov2.envs.smac.adapter import SOURCE, Smac
from rmiov2.envs.smac.process import ENVIRONMENT

TESTS = Path(__file__).parent
DOUBLE = "smac_double:Source"
WORLDS = [pytest.param(DOUBLE, id="double"), pytest.param(SOURCE, id="package", marks=NEEDS_SMAC)]
DEATH_S = 8.0  # by then whatever was killed has gone


@dataclass
class World:
    """Makes environments of one source, and knows the games that run for them."""

    source: str
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def modes(self, **modes):
        """What goes wrong from now on, see starcraft.modes."""
        self.monkeypatch.setenv(VARIABLE, json.dumps(modes))

    def make(self, num_envs=2, map_name="3m", seed=0, patience=20):
        return Smac(map_name, num_envs, seed, self.source, patience)

    @property
    def launches(self):
        return len(launched(self.folder))

    def nothing_left(self):
        """Whether all games end in time."""
        until = time.monotonic() + DEATH_S
        while running(self.folder) and time.monotonic() < until:
            time.sleep(0.05)
        return not running(self.folder)

    def reference(self, map_name, seed, battles, out):
        """Rows of battles without an adapter, see smac_reference."""
        command = [sys.executable, TESTS / "smac_reference.py", self.source, map_name, str(seed), str(battles), out]
        path = os.pathsep.join([str(TESTS.parent), str(TESTS), *filter(None, sys.path)])
        subprocess.run(command, env=os.environ | ENVIRONMENT | {"PYTHONPATH": path}, check=True)
        with np.load(out) as arrays:
            return dict(arrays)

    def register(self):
        """Let make_env("smac/…") play here."""
        self.monkeypatch.setitem(SUITES, "smac", Suite("smac_worlds:make", "smac", {}))
        self.monkeypatch.setattr(sys.modules[__name__], "make", lambda name, n, seed: self.make(n, name, seed))


def make(map_name, num_envs, seed):
    """What register puts into the registry."""
    raise AssertionError("World.register was not called")


def world(source, folder, monkeypatch):
    """A world with a game of its own in the folder."""
    if source == SOURCE:
        install(folder / "game")
    else:
        (folder / "game").mkdir()
    monkeypatch.setenv("SC2PATH", str(folder / "game"))
    monkeypatch.setenv(VARIABLE, "{}")
    return World(source, folder / "game", monkeypatch)
