"""Games recorded as windows of the last l steps, each with what a remembering team did at its end."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from rmiov2.agents.base import Agent
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.envs.base import legalise
from rmiov2.envs.registry import make_env
from rmiov2.execution.window import Window
from rmiov2.types import Actions, Floats, Ints


def opinionated(agent: RMIOv2) -> RMIOv2:
    """The agent with a policy that answers differently to whatever it sees, which a little training does not make."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        agent.actor.head.weight.copy_(torch.randn(agent.actor.head.weight.shape, generator=generator))
    return agent


@dataclass
class Recorded:
    """Windows, and for each the team's act (M, ...), what it acted on (M, N, O), and how old the episode was (M,)."""

    windows: Window
    act: Actions
    completed: Floats
    age: Ints


def record(
    agent: Agent,
    teams: int,
    steps: int,
    p_loss: float,
    seed: int = 0,
    mode: str | None = None,
    instead: Callable[[Actions], Actions] | None = None,
) -> Recorded:
    """Play `steps` rows of `teams` games under loss; a window and the team's own decision for every row.

    instead: what is done where the team chose so, which the team is told; the windows hold what was done.
    """
    env, rng = make_env(agent.spec.name, teams), np.random.default_rng(seed)
    team, length = agent.team(teams, seed, mode), agent.config.execution.history
    step, age = env.reset(seed), np.zeros(teams, int)
    rows, acts, found = [], [], []
    for _ in range(steps):
        seen = rng.random(step.obs.shape[:2]) >= p_loss
        age = np.where(step.first, 0, age + 1)
        rows.append(np.where(seen[..., None], step.obs, np.nan).astype(np.float32))
        avail = None if step.avail is None else np.where(seen[..., None], step.avail, np.nan).astype(np.float32)
        act = team.act(step.obs, seen=seen, avail=step.avail, first=step.first)
        done_now = act if instead is None else instead(act)
        if instead is not None:
            team.did(done_now)
        acts.append(done_now)
        for b in range(teams):
            kept = min(age[b], length) + 1
            obs = np.full((length + 1, *step.obs.shape[1:]), np.nan, np.float32)
            done = np.zeros((length, *act.shape[1:]), act.dtype)
            obs[:kept] = [row[b] for row in rows[-kept:]]
            done[: kept - 1] = np.array([a[b] for a in acts[-kept:-1]]).reshape(kept - 1, *act.shape[1:])
            found.append((obs, done, None if avail is None else avail[b], kept, age[b] <= length, act[b],
                          team.completed[b], age[b]))  # fmt: skip
        played = done_now if step.avail is None else legalise(done_now, step.avail, env.spec)
        step = env.step(played)
    obs, done, avail, kept, start, act, completed, ages = zip(*found, strict=True)
    masks = None if avail[0] is None else np.stack(avail)
    windows = Window(np.stack(obs), np.stack(done), masks, np.array(kept), np.array(start))
    return Recorded(windows, np.stack(act), np.stack(completed), np.array(ages))
