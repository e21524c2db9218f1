"""The public `smac` package and pysc2, as they are; the one module that knows them. Only a game's process imports it.

The generated protobuf code of pysc2 loads beside a current protobuf only with PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=
python, which is set in that process alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from rmiov2.envs.base import refuse_unknown
from rmiov2.types import UserError

DIFFICULTY, STEP_MUL = "7", 8  # SMAC's own: very hard, game loops of a step
BUILD, RELEASE = 75689, "4.10"  # what results are reported on since PyMARL2, SMACv2 and MAPPO
README = "the README's section SMAC has the commands"


class StarCraft:
    """What SMAC plays a map with: raises UserError, one sentence, for each thing that is missing.

    patience: seconds that the game may take for an answer, or to listen.
    """

    def __init__(self, map_name: str, patience: int) -> None:
        _refuse_without_packages(f"smac/{map_name}")
        with _importing(f"smac/{map_name}"):
            from absl import flags
            from pysc2 import maps, run_configs
            from smac.env.starcraft2 import starcraft2
            from smac.env.starcraft2.maps import smac_maps
        refuse_unknown("smac map", map_name, smac_maps.get_smac_map_registry())
        flags.FLAGS["sc2_timeout"].value = patience
        self.map_name, self._make = map_name, starcraft2.StarCraft2Env
        run = _installed(run_configs)
        folder = Path(run.data_dir, "Maps")
        where = folder / maps.get(map_name).path
        if not where.is_file():
            home = "github.com/oxwhirl/smac/releases"
            raise UserError(f"smac/{map_name}: no map at {where}; unpack SMAC_Maps.zip of {home} in {folder}")
        self.build = int(run.version.build_version)
        self.facts: dict[str, Any] = {
            "build": self.build, "difficulty": DIFFICULTY, "step_mul": STEP_MUL,
            "smac": metadata.version("smac"), "pysc2": metadata.version("pysc2"),
        }  # fmt: skip

    @property
    def note(self) -> str:
        """What whoever compares results must know; empty where there is nothing."""
        if self.build == BUILD:
            return ""
        return (
            f"this StarCraft II is build {self.build}, and results are not comparable between builds; those of others"
            f" since 2021 are of {RELEASE} (build {BUILD}), SMAC's paper's of 4.6.2 (69232). It plays, and the build is"
            " recorded; point SC2PATH at the other if you mean to compare"
        )

    def make(self, seed: int) -> Any:
        """An environment that has not launched its game yet; the seed is that of the launch."""
        return self._make(map_name=self.map_name, seed=seed, difficulty=DIFFICULTY, step_mul=STEP_MUL)

    def settle(self, env: Any) -> None:
        """Put the scale of rewards right after a launch: SMAC adds up its enemies anew while some are still to come."""
        health = sum(unit.health_max + unit.shield_max for unit in env.enemies.values())
        env.max_reward = env.n_enemies * env.reward_death_value + env.reward_win + health


def _refuse_without_packages(name: str) -> None:
    spec = importlib.util.find_spec("smac")
    if spec is None:
        raise UserError(f"{name} needs the package smac of github.com/oxwhirl/smac, which is missing; {README}")
    places = [Path(place) for place in spec.submodule_search_locations or []]
    if not any((place / "env" / "starcraft2").is_dir() for place in places):
        raise UserError(
            f"{name}: the smac at {', '.join(map(str, places)) or spec.origin} is another program of that name, SMAC3,"
            f" which pip finds in the registry; pip uninstall smac, then install oxwhirl's from GitHub: {README}"
        )
    if importlib.util.find_spec("pysc2") is None:
        raise UserError(f"{name} needs pysc2, which is missing; {README}")


@contextmanager
def _importing(name: str) -> Iterator[None]:
    """Raises UserError if a package that is there does not load."""
    try:
        yield
    except (ImportError, TypeError, AttributeError) as error:  # old generated code fails in each of these ways
        raise UserError(f"{name}: smac and pysc2 do not load ({error}); install them anew: {README}") from error


def _installed(run_configs: Any) -> Any:
    """pysc2's description of the game that is there; raises UserError if none is, or one that has no such interface."""
    from pysc2.lib.sc_process import SC2LaunchError

    try:
        run = run_configs.get()
    except (OSError, ValueError, SC2LaunchError) as error:
        raise UserError(
            f"no StarCraft II that can be played ({error}); set SC2PATH to the folder that holds its Versions and Maps,"
            f" of release {RELEASE} if you mean to compare: {README}"
        ) from error
    folder = Path(run.data_dir, f"Versions/Base{run.version.build_version:05d}")
    if not any(folder.glob("SC2*")):
        raise UserError(f"no StarCraft II in {folder}; set SC2PATH to a whole installation: {README}")
    return run
