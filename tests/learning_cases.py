"""Small settings, agents and batches that several tests share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipelines.params import compose_values, flat
from rmiov2 import config as configuration
from rmiov2.agents.registry import make_agent
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.config import Config
from rmiov2.envs.registry import make_env
from rmiov2.replay.buffer import Replay
from rmiov2.training.collect import Sweep, random_policy
from rmiov2.types import Trajectory

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2)))  # that a method has to learn a toy with


def settings(env: str, **changes: Any) -> Config:
    """params.yaml on a toy, small and single-threaded; changes as section__key=value."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["env"]["name"], values["threads"] = env, 1
    small: dict[str, Any] = {
        "world_model__deter": 32, "world_model__hidden": 32, "world_model__categoricals": 4, "world_model__classes": 4,
        "world_model__fusion_ffn": 32, "world_model__normalise_obs": False, "policy__hidden": 32,
        "policy__critic_hidden": 32, "policy__starts": 64, "world_model__batch": 12, "world_model__length": 10,
        "policy__horizon": 8,
    }  # fmt: skip
    for name, value in (small | changes).items():
        section, _, key = name.rpartition("__")
        (values[section] if section else values)[key] = value
    return configuration.parse(values, "test")


def of_agent(name: str) -> dict[str, Any]:
    """What conf/agent/NAME.yaml changes, for settings."""
    defaults, others = flat(compose_values()), flat(compose_values([f"agent={name}"]))
    return {key.replace(".", "__"): value for key, value in others.items() if defaults[key] != value}


def random_games(env_name: str, sweeps: int, num_envs: int = 4) -> list[Trajectory]:
    """Whole episodes of random play."""
    env = make_env(env_name, num_envs)
    policy = random_policy(env.spec, np.random.default_rng(0))
    return [piece for k in range(sweeps) for pieces in Sweep(env, policy, k, 10**6).pieces() for piece in pieces]


def agent_and_replay(config: Config, sweeps: int = 8) -> tuple[RMIOv2, Replay]:
    """A new agent and a replay of random play; the reward is learned as it is."""
    env = make_env(config.env.name, 1)
    replay = Replay(env.spec, 100_000)
    for game in random_games(config.env.name, sweeps):
        replay.add(game, game.rew)
    agent = make_agent(config, env.spec)
    assert isinstance(agent, RMIOv2)
    return agent, replay


def composed(*overrides: str) -> Config:
    """What conf/ makes of the overrides."""
    return configuration.parse(compose_values(overrides), "test")
