"""From a name, suite/map, to an environment; a suite is imported only when it is chosen."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import NamedTuple, cast

from rmiov2.envs.base import Env, refuse_unknown
from rmiov2.types import UserError


@dataclass(frozen=True)
class Suite:
    target: str  # module:Class, called with (map, num_envs, seed)
    extra: str  # what `pip install 'rmiov2[...]'` adds; "" where nothing is needed
    maps: dict[str, str]  # those that the table shows, with a note each; the suite itself may know more


class Row(NamedTuple):
    """One line of the table of environments."""

    name: str
    needs: str
    notes: str


SMAC_MAPS = {
    "3m": "3 marines against 3; 60 steps",
    "8m": "8 marines against 8; 120 steps",
    "25m": "25 marines against 25; 150 steps",
    "5m_vs_6m": "5 marines against 6; 70 steps",
    "8m_vs_9m": "8 marines against 9; 120 steps",
    "10m_vs_11m": "10 marines against 11; 150 steps",
    "27m_vs_30m": "27 marines against 30; 180 steps",
    "MMM": "a medivac, 2 marauders and 7 marines against the same; 150 steps",
    "MMM2": "a medivac, 2 marauders and 7 marines against a marauder and a marine more; 180 steps",
    "2s3z": "2 stalkers and 3 zealots against the same; 120 steps",
    "3s5z": "3 stalkers and 5 zealots against the same; 150 steps",
    "3s5z_vs_3s6z": "3 stalkers and 5 zealots against one zealot more; 170 steps",
    "3s_vs_3z": "3 stalkers against 3 zealots; 150 steps",
    "3s_vs_4z": "3 stalkers against 4 zealots; 200 steps",
    "3s_vs_5z": "3 stalkers against 5 zealots; 250 steps",
    "1c3s5z": "a colossus, 3 stalkers and 5 zealots against the same; 180 steps",
    "2m_vs_1z": "2 marines against a zealot; 150 steps",
    "corridor": "6 zealots against 24 zerglings; 400 steps",
    "6h_vs_8z": "6 hydralisks against 8 zealots; 150 steps",
    "2s_vs_1sc": "2 stalkers against a spine crawler; 300 steps",
    "so_many_baneling": "7 zealots against 32 banelings; 100 steps",
    "bane_vs_bane": "4 banelings and 20 zerglings against the same; 200 steps",
    "2c_vs_64zg": "2 colossi against 64 zerglings; 400 steps",
}

SUITES = {
    "toy": Suite(
        "rmiov2.envs.toy:make",
        "",
        {
            "lights": "3 agents, discrete, 12 steps; best return 12, random 2.4",
            "dials": "3 agents, continuous, 12 steps; best reward a step 1, standing still 0.5",
            "clock": "2 agents, 3 to 7 steps; the reward and the observation name the step",
        },
    ),
    "smax": Suite(
        "rmiov2.envs.smax:Smax",
        "smax",
        {
            "3m": "3 marines against 3",
            "8m": "8 marines against 8",
            "25m": "25 marines against 25",
            "5m_vs_6m": "5 marines against 6",
            "10m_vs_11m": "10 marines against 11",
            "27m_vs_30m": "27 marines against 30",
            "2s3z": "2 stalkers and 3 zealots against the same",
            "3s5z": "3 stalkers and 5 zealots against the same",
            "3s5z_vs_3s6z": "3 stalkers and 5 zealots against one zealot more",
            "3s_vs_5z": "3 stalkers against 5 zealots",
            "6h_vs_8z": "6 hydralisks against 8 zealots",
            "corridor": "6 zealots against 24 zerglings; 200 steps",
            "smacv2_5_units": "5 random units against 5, random places",
            "smacv2_10_units": "10 random units against 10, random places",
            "smacv2_20_units": "20 random units against 20, random places",
        },
    ),
    "smac": Suite("rmiov2.envs.smac.adapter:Smac", "smac", SMAC_MAPS),
    "mamujoco": Suite(
        "rmiov2.envs.mamujoco:MaMujoco",
        "mamujoco",
        {
            "HalfCheetah-2x3": "front and back leg",
            "Ant-4x2": "one agent a leg",
            "ManySegmentSwimmer-4x2": "4 agents, 8 segments",
            "ManySegmentSwimmer-10x2": "10 agents, 20 segments",
        },
    ),
    "pettingzoo": Suite(
        "rmiov2.envs.pettingzoo:PettingZoo",
        "pettingzoo",
        {"MODULE:FACTORY": "any parallel environment; without :FACTORY its parallel_env"},
    ),
    "python": Suite("rmiov2.envs.own:own", "", {"MODULE:CLASS": "an rmiov2.envs.base.Adapter of your own"}),
}


def make_env(name: str, num_envs: int, seed: int = 0) -> Env:
    """num_envs games of the environment called suite/map; raises UserError for a wrong name or a missing package."""
    suite_name, _, map_name = name.partition("/")
    refuse_unknown("suite", suite_name, SUITES)
    if not map_name:
        raise UserError(f"got {name!r}, expected {suite_name}/MAP; `rmiov2 envs` lists what there is")
    suite = SUITES[suite_name]
    module_name, _, class_name = suite.target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "rmiov2":
            raise
        raise UserError(f"{name} needs {error.name}, which is missing; pip install 'rmiov2[{suite.extra}]'") from error
    return cast(Env, getattr(module, class_name)(map_name, num_envs, seed))


def list_envs() -> list[Row]:
    """Every environment by name, the pip extra it needs, and what it is."""
    return [
        Row(f"{suite_name}/{map_name}", f"rmiov2[{suite.extra}]" if suite.extra else "nothing else", note)
        for suite_name, suite in SUITES.items()
        for map_name, note in suite.maps.items()
    ]
