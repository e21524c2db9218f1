"""Agents, replays and windows for the tests of QMIX and FACMAC."""

from typing import Any

import numpy as np
from learning_cases import composed, random_games

from rmiov2.agents.off_policy import Windows, draw
from rmiov2.agents.registry import make_agent
from rmiov2.config import Config
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.episodes import play
from rmiov2.replay.buffer import Replay
from rmiov2.training.collect import Sweep, random_policy
from rmiov2.training.pretrain import Pretraining
from rmiov2.types import Trajectory

SMALL = ("policy.hidden=32", "agent.mixer=16", "agent.hyper=16", "agent.batch=16")
CASES = [
    ("qmix", "toy/clock"),
    ("qmix_classic", "toy/lights"),
    ("facmac_discrete", "toy/clock"),
    ("facmac", "toy/dials"),
]


def settings(agent: str, env: str, *overrides: str) -> Config:
    """conf/agent/AGENT.yaml on a toy, with small networks."""
    critic = [] if agent.startswith("qmix") else ["policy.critic_hidden=32"]
    return composed("preset=toy", "env=toy_lights", f"agent={agent}", *SMALL, *critic, f"env.name={env}", *overrides)


def agent_and_replay(agent: str, env: str, *overrides: str) -> tuple[Any, Replay]:
    """A new agent and a replay of random play."""
    config, spec = settings(agent, env, *overrides), make_env(env, 1).spec
    replay = Replay(spec, 100_000)
    for game in random_games(env, 8):
        replay.add(game, game.rew)
    return make_agent(config, spec), replay


def some_windows(replay: Replay, length: int, batch: int = 16, mask: Any = None) -> Windows:
    """Windows of a replay, always the same."""
    return draw(replay, replay.spec, batch, length, np.random.default_rng(0), mask)


def trained(config: Config) -> Any:
    """The agent after a pre-training of its own."""
    env = make_env(config.env.name, config.collect.num_envs, config.seed)
    run = Pretraining(config, env, warm(config))
    while run.env_steps < config.pretrain.env_steps:
        run.sweep()
    return run.agent


def warm(config: Config) -> list[Trajectory]:
    """Random play, warmup_steps or a little more."""
    env = make_env(config.env.name, config.collect.num_envs, config.seed)
    policy, kept = random_policy(env.spec, np.random.default_rng(config.seed)), []
    while sum(map(len, kept)) < config.collect.warmup_steps:
        kept += [piece for pieces in Sweep(env, policy, len(kept), 10**6).pieces() for piece in pieces]
    return kept


def greedy(agent: Any, episodes: int = 64) -> dict[str, Any]:
    """What the trained team reaches with all its eyes, one row an episode."""
    env = make_env(agent.spec.name, 32)
    return play(env, agent.team(32, 0, "zeros"), "independent", 0.0, episodes, 5)
