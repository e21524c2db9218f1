"""pettingzoo/MODULE:FACTORY: any parallel environment of PettingZoo's API; the one module that knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space, flatdim, flatten
from pettingzoo import ParallelEnv  # type: ignore[import-untyped]

from rmiov2.envs.base import Adapter
from rmiov2.importing import imported
from rmiov2.seeding import derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Step, UserError


@dataclass
class Game:
    """One game of the batch, agents in the order of possible_agents; the fields hold its present row."""

    env: ParallelEnv
    obs: Floats  # (N, O)
    avail: Bools  # (N, A)
    rew: float = 0.0
    terminated: bool = False
    truncated: bool = False


class PettingZoo(Adapter):
    """num_envs games of a user's parallel environment, stepped one after the other.

    Actions are all Discrete, or all Box of one dimension (then [-1, 1] is scaled to the bounds). A mask of available
    actions is taken from the observation's "action_mask" or from infos[agent]["action_mask"]. An agent that left sees
    zeros and has only the idle action 0. The reward is the mean over possible_agents, of which one that left earns
    nothing. When nobody is left, the game was truncated if any of the last agents was, else it terminated. The state is
    what env.state() gives, or nothing; episode_limit is 0 where the environment says none. Nothing is won. An illegal
    choice becomes the first action that is available.
    Raises UserError for a module or factory that is not there, and for spaces of other kinds.
    """

    def __init__(self, map_name: str, num_envs: int, seed: int = 0) -> None:
        make = imported(f"pettingzoo/{map_name}", map_name, "parallel_env")
        environments = [make() for _ in range(num_envs)]
        first = environments[0]
        self._agents: list[str] = list(first.possible_agents)
        self._act_spaces = [first.action_space(agent) for agent in self._agents]
        self._obs_spaces = [_observed(first.observation_space(agent)) for agent in self._agents]
        first.reset(seed=0)
        super().__init__(self._describe(map_name, first), num_envs, seed)
        spec = self.spec
        self._games = [
            Game(env, np.zeros((spec.num_agents, spec.obs_dim), np.float32), self._only_idle()) for env in environments
        ]

    def _describe(self, map_name: str, env: Any) -> EnvSpec:
        discrete = all(isinstance(space, Discrete) and space.start == 0 for space in self._act_spaces)
        if not discrete and not all(_bounded(space) for space in self._act_spaces):
            raise UserError(
                f"pettingzoo/{map_name}: got action spaces {self._act_spaces}, expected Discrete from 0 for every"
                " agent, or bounded Box of one dimension for every agent"
            )
        obs_widths = tuple(flatdim(space) for space in self._obs_spaces)
        idle = tuple(range(max(flatdim(space) for space in self._act_spaces))) if discrete else ()
        act_widths = tuple(int(cast(Any, space).n) if discrete else flatdim(space) for space in self._act_spaces)
        return EnvSpec(
            name=f"pettingzoo/{map_name}", num_agents=len(self._agents), obs_dim=max(obs_widths), obs_widths=obs_widths,
            act_dim=max(act_widths), act_widths=act_widths, discrete=discrete, state_dim=_state(env).size,
            episode_limit=_limit(env), measure="step_return", idle_actions=idle,
        )  # fmt: skip

    def _begin(self, seed: int) -> Step:
        for b, game in enumerate(self._games):
            self._restart(game, derive(seed, b) % 2**32)
        return self._step(np.ones(self.num_envs, bool))

    def _play(self, act: Actions, restart: Bools) -> Step:
        for b, game in enumerate(self._games):
            if restart[b]:
                self._restart(game, None)
            else:
                self._advance(game, act[b])
        return self._step(restart.copy())

    def _restart(self, game: Game, seed: int | None) -> None:
        obs, infos = game.env.reset(seed=seed)
        game.rew, game.terminated, game.truncated = 0.0, False, False
        self._read(game, obs, infos)

    def _advance(self, game: Game, act: Any) -> None:
        playing = set(game.env.agents)
        actions = {agent: self._native(i, act[i]) for i, agent in enumerate(self._agents) if agent in playing}
        obs, rewards, terminations, truncations, infos = game.env.step(actions)
        game.rew = float(sum(rewards.values())) / len(self._agents)
        over = all(terminations.get(agent, True) or truncations.get(agent, False) for agent in playing)
        game.truncated = over and any(truncations.get(agent, False) for agent in playing)
        game.terminated = over and not game.truncated
        self._read(game, obs, infos)

    def _read(self, game: Game, obs: Mapping[str, Any], infos: Mapping[str, Any]) -> None:
        """Take in what the agents see and may do; those that are gone see zeros and idle."""
        game.obs[:], game.avail = 0, self._only_idle()
        for i, agent in enumerate(self._agents):
            if agent not in obs:
                continue
            seen, mask = _split(obs[agent], infos.get(agent, {}))
            flat = flatten(self._obs_spaces[i], seen)
            game.obs[i, : len(flat)] = flat
            if self.spec.discrete and agent in game.env.agents:
                width = self.spec.act_widths[i]
                game.avail[i, :width] = True if mask is None else np.asarray(mask, bool)

    def _only_idle(self) -> Bools:
        return np.tile(np.arange(self.spec.act_dim) == 0, (self.spec.num_agents, 1))

    def _native(self, i: int, act: Any) -> Any:
        if self.spec.discrete:
            return int(act)
        space = cast(Box, self._act_spaces[i])
        share = np.clip(act[: self.spec.act_widths[i]], -1, 1)
        return ((space.high + space.low) / 2 + share * (space.high - space.low) / 2).astype(space.dtype)

    def _step(self, first: Bools) -> Step:
        games = self._games
        return Step(
            obs=np.stack([game.obs for game in games]),
            seen=np.ones((self.num_envs, self.spec.num_agents), bool),
            avail=np.stack([game.avail for game in games]) if self.spec.discrete else None,
            state=np.stack([_state(game.env) for game in games]),
            rew=np.array([game.rew for game in games], np.float32),
            terminated=np.array([game.terminated for game in games]),
            truncated=np.array([game.truncated for game in games]),
            won=np.zeros(self.num_envs, bool),
            first=first,
        )

    def close(self) -> None:
        """Close every game."""
        for game in self._games:
            game.env.close()


def _observed(space: Space[Any]) -> Space[Any]:
    """The space of what an agent sees, without the mask of what it may do."""
    return space["observation"] if isinstance(space, Dict) and "observation" in space.spaces else space


def _split(obs: Any, info: Mapping[str, Any]) -> tuple[Any, Any]:
    """What an agent sees, and its mask or None."""
    if isinstance(obs, Mapping) and "observation" in obs:
        return obs["observation"], obs.get("action_mask", info.get("action_mask"))
    return obs, info.get("action_mask")


def _bounded(space: Space[Any]) -> bool:
    return isinstance(space, Box) and len(space.shape) == 1 and space.is_bounded()


def _state(env: Any) -> Floats:
    """The global state, flat; empty where the environment has none."""
    try:
        return np.asarray(env.state(), np.float32).ravel()
    except NotImplementedError:
        return np.zeros(0, np.float32)


def _limit(env: Any) -> int:
    """The step limit, under one of the names that are in use; 0 where the environment says none."""
    for name in ("max_cycles", "max_steps", "episode_limit"):
        value = getattr(env.unwrapped, name, None)
        if value is not None:
            return int(value)
    return 0
