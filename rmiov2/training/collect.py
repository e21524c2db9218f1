"""Playing the real environment: sweeps, in which every row plays one episode from a fresh reset.

A sweep leaves nothing inside the environment, so a run can be saved between two sweeps and go on exactly there, on
simulators that cannot be saved too. All rows' episodes are kept whole: none is dropped for being long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from rmiov2.envs.base import Env
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Step, Trajectory

Policy = Callable[[Step], Actions]


def random_policy(spec: EnvSpec, rng: np.random.Generator) -> Policy:
    """Uniform over the available actions, or over [-1, 1]."""

    def choose(step: Step) -> Actions:
        if step.avail is None:
            return rng.uniform(-1, 1, (len(step.obs), spec.num_agents, spec.act_dim)).astype(np.float32)
        return np.asarray((rng.random(step.avail.shape) * step.avail).argmax(-1))

    return choose


@dataclass
class Sweep:
    """One episode in every row of env; iterate over pieces(), then read what was played."""

    env: Env
    policy: Policy
    seed: int
    segment: int
    rewards: list[Floats] = field(default_factory=list)
    playing: list[Bools] = field(default_factory=list)
    won: Bools = field(init=False)

    def pieces(self) -> Iterator[list[Trajectory]]:
        """Trajectories, each time `segment` steps have passed or all episodes have ended."""
        step = self.env.reset(self.seed)
        self.won = np.zeros(self.env.num_envs, bool)
        playing, begins = np.ones(self.env.num_envs, bool), True
        while playing.any():
            rows: list[Step] = [step]
            acts: list[Actions] = []
            alive: list[Bools] = []
            while playing.any() and len(acts) < self.segment:
                alive.append(playing)
                acts.append(self.policy(step))
                step = self.env.step(acts[-1])
                rows.append(step)
                self.rewards.append(step.rew)
                self.won |= step.won & playing
                playing = playing & ~step.done
            self.playing += alive
            yield cut(rows, acts, np.stack(alive), begins)
            begins = False

    def steps(self) -> int:
        """Environment steps played, idle rows not counted."""
        return int(np.stack(self.playing).sum())

    def returns_to_go(self, gamma: float) -> float:
        """The mean discounted return from every state played to its episode's end."""
        rew, playing = np.stack(self.rewards), np.stack(self.playing)
        to_go, total = np.zeros(rew.shape[1]), 0.0
        for k in reversed(range(len(rew))):
            to_go = np.where(playing[k], rew[k] + gamma * to_go, 0.0)
            total += float(to_go.sum())
        return total / int(playing.sum())

    def episode_returns(self) -> Floats:
        """(B,) undiscounted."""
        return (np.stack(self.rewards) * np.stack(self.playing)).sum(0)  # type: ignore[no-any-return]


def stacked(acts: list[Actions]) -> Actions:
    """(T, B, N) or (T, B, N, A)."""
    return cast(Actions, np.stack(acts))


def cut(rows: list[Step], acts: list[Actions], alive: Bools, begins: bool) -> list[Trajectory]:
    """The T steps of B rows as one trajectory per row that still played; alive (T, B) says until when."""
    obs, state, act = np.stack([r.obs for r in rows]), np.stack([r.state for r in rows]), stacked(acts)
    avail = None if rows[0].avail is None else np.stack([r.avail for r in rows])  # type: ignore[misc]
    rew = np.stack([r.rew for r in rows[1:]])
    con = 1 - np.stack([r.terminated for r in rows[1:]]).astype(np.float32)
    won = np.stack([r.won for r in rows[1:]])
    pieces = []
    for b, steps in enumerate(alive.sum(0)):
        if steps:
            pieces.append(
                Trajectory(
                    obs[: steps + 1, b],
                    None if avail is None else avail[: steps + 1, b],
                    state[: steps + 1, b],
                    act[:steps, b],
                    rew[:steps, b],
                    con[:steps, b],
                    begins,
                    bool(won[steps - 1, b]),
                )
            )
    return pieces
