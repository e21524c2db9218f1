"""What is measured on: settings, agents, and data of the right shape."""

from __future__ import annotations

import numpy as np

from pipelines.params import compose_config
from pipelines.studies.workspace import overrides_of
from rmiov2.agents.registry import make_agent
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.config import Config
from rmiov2.envs.registry import make_env
from rmiov2.replay.buffer import Replay
from rmiov2.types import Actions, EnvSpec, Trajectory, UserError

SMAX, CHEETAH = "smax/3m", "mamujoco/HalfCheetah-2x3"
TRAJECTORIES = 32


def composed(*overrides: str, **choices: str) -> Config:
    """What conf/ makes of choices such as env="smax/3m", and of key=value; raises UserError where they do not fit."""
    return compose_config([*overrides_of(**choices), *overrides])


def as_run(params: Config, env: str) -> Config:
    """params.yaml, or its preset on another environment."""
    return params if params.env.name == env else composed(preset=params.preset, env=env)


def spec_of(env: str) -> EnvSpec:
    """The numbers of an environment; nothing is played."""
    made = make_env(env, 1)
    made.close()
    return made.spec


def untrained(config: Config, spec: EnvSpec) -> RMIOv2:
    """A new agent: what it costs does not depend on what it has learned."""
    agent = make_agent(config, spec)
    if not isinstance(agent, RMIOv2):
        raise UserError(
            f"agent: got {config.agent.name}, expected rmiov2, gawm or rmio, which is what is measured here"
        )
    return agent


def synthetic_replay(spec: EnvSpec, length: int) -> Replay:
    """Noise of the environment's shape, in trajectories so long that no window of `length` rows needs padding."""
    replay, rng = Replay(spec, TRAJECTORIES * 2 * length), np.random.default_rng(0)
    for _ in range(TRAJECTORIES):
        game = _noise(spec, 2 * length, rng)
        replay.add(game, game.rew)
    return replay


def _noise(spec: EnvSpec, steps: int, rng: np.random.Generator) -> Trajectory:
    rows, agents = steps + 1, spec.num_agents
    act: Actions = rng.integers(spec.act_dim, size=(steps, agents))
    if not spec.discrete:
        act = rng.uniform(-1, 1, (steps, agents, spec.act_dim)).astype(np.float32)
    return Trajectory(
        obs=rng.normal(size=(rows, agents, spec.obs_dim)).astype(np.float32),
        avail=np.ones((rows, agents, spec.act_dim), bool) if spec.discrete else None,
        state=np.zeros((rows, spec.state_dim), np.float32),
        act=act,
        rew=rng.normal(size=steps).astype(np.float32),
        con=np.ones(steps, np.float32),
        start=True,
        won=False,
    )
