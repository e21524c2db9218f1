"""Hand-written teams that play the toy games in a known way."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmiov2.envs.registry import make_env
from rmiov2.types import EnvSpec

LIGHTS = make_env("toy/lights", 1).spec
WAIT = LIGHTS.idle_actions[0]


class Reader:
    """Plays toy/lights by reading the light it is shown; who is shown none takes the action that `blind` names.

    blind="guess" is light 0's answer, which may be illegal; "wait" is always legal.
    """

    def __init__(self, num_envs: int, blind: str = "guess") -> None:
        self.mode = "completion"
        self.blind = 1 if blind == "guess" else WAIT
        self.messages = np.zeros(num_envs, np.int64)
        self.bytes = np.zeros(num_envs, np.int64)
        self.completed = np.zeros((num_envs, LIGHTS.num_agents, LIGHTS.obs_dim), np.float32)
        self.told: list[tuple[Any, Any, Any]] = []

    def act(self, obs: Any, seen: Any = None, avail: Any = None, first: Any = None) -> Any:
        self.told.append((obs, seen, avail))
        self.completed = obs
        self.messages = np.where(first, 0, self.messages) + (~seen).sum(axis=1)
        self.bytes = 8 * self.messages
        own = obs.reshape(*obs.shape[:2], LIGHTS.num_agents, -1).sum(axis=2)
        return np.where(seen, (2 * own.argmax(axis=-1) + 1) % 5, self.blind)


class Agent:
    """What the sweep asks of an agent: teams by mode."""

    own_mode = "completion"

    def team(self, num_envs: int, seed: int, mode: str | None = None, true_availability: bool = False) -> Reader:
        return Reader(num_envs, "wait" if mode == "zeros" else "guess")


class Still:
    """Acts zero, in continuous games."""

    def __init__(self, spec: EnvSpec, num_envs: int) -> None:
        self.messages = self.bytes = np.zeros(num_envs, np.int64)
        self.completed = np.zeros((num_envs, spec.num_agents, spec.obs_dim), np.float32)
        self.shape = (num_envs, spec.num_agents, spec.act_dim)

    def act(self, obs: Any, seen: Any = None, avail: Any = None, first: Any = None) -> Any:
        return np.zeros(self.shape, np.float32)


class StillAgent:
    own_mode = "completion"

    def team(self, num_envs: int, seed: int, mode: str | None = None, true_availability: bool = False) -> Still:
        return Still(make_env("toy/dials", 1).spec, num_envs)
