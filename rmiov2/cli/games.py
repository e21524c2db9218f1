"""The games that a command plays, and what is wrong with those that it cannot play."""

from __future__ import annotations

import rmiov2
from rmiov2.agents.base import Agent
from rmiov2.envs.base import Env
from rmiov2.envs.registry import list_envs
from rmiov2.types import EnvSpec, UserError


def make_game(name: str, num_envs: int, seed: int = 0) -> Env:
    """rmiov2.make_env; its UserError for a map without a suite names the suites that have one."""
    meant = [row.name for row in list_envs() if row.name.partition("/")[2] == name]
    if meant:
        raise UserError(f"got {name!r}, expected suite/map; did you mean {' or '.join(meant)}?")
    return rmiov2.make_env(name, num_envs, seed)


def game_for(agent: Agent, name: str | None, num_envs: int, seed: int) -> Env:
    """The game called name, or the one that the agent was trained on.

    Raises UserError, before anything is played, for one whose agents or widths are others than the agent's.
    """
    env = make_game(name or agent.spec.name, num_envs, seed)
    if _fits(env.spec) != _fits(agent.spec):
        env.close()
        raise UserError(
            f"got {env.spec.name}, of {_in_words(env.spec)}, expected a game like {agent.spec.name}, which the team was"
            f" trained on, of {_in_words(agent.spec)}; choose another --env, or train a team for {env.spec.name}"
        )
    return env


def _fits(spec: EnvSpec) -> tuple[bool, tuple[int, ...], tuple[int, ...]]:
    return spec.discrete, spec.obs_widths, spec.act_widths


def _in_words(spec: EnvSpec) -> str:
    kind = "discrete" if spec.discrete else "continuous"
    seen, acts = (_widths(widths) for widths in (spec.obs_widths, spec.act_widths))
    return f"{spec.num_agents} agents with {seen} numbers seen and {acts} {kind} actions each"


def _widths(widths: tuple[int, ...]) -> str:
    return str(widths[0]) if len(set(widths)) == 1 else "/".join(map(str, widths))
