"""A loss that no rate describes: once an episode the whole team goes dark, for so many steps and no longer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rmiov2.envs.base import Env
from rmiov2.seeding import derive
from rmiov2.types import Actions, Ints, Step, UserError


class Blackout(Env):
    """An environment in which nobody's observation arrives for steps (B,) in a row, once in every episode of row b.

    It begins at a step drawn evenly from the first `within` of the episode; one that ends before never sees it. Only
    `seen` changes, as in envs.observation_loss.ObservationLoss, inside which it stands. Raises UserError for a length
    below 0 and a `within` below 1.
    """

    def __init__(self, env: Env, steps: int | Ints, within: int, seed: int = 0) -> None:
        self.env, self.spec, self.num_envs = env, env.spec, env.num_envs
        self.steps = np.broadcast_to(np.asarray(steps, np.int64), (env.num_envs,))
        if self.steps.min() < 0 or within < 1:
            raise UserError(f"blackout: got {self.steps.min()} steps within {within}, expected 0 and 1 at least")
        self.within, self._seed = within, seed
        self._rng = np.random.default_rng(derive(seed, "blackout"))
        self._clock = np.zeros(env.num_envs, np.int64)
        self._begin = np.zeros(env.num_envs, np.int64)

    def reset(self, seed: int | None = None) -> Step:
        """Start a new episode in every row; the same seed gives the same games and the same blackouts."""
        if seed is not None:
            self._rng = np.random.default_rng(derive(self._seed, "blackout", seed))
        return self._mark(self.env.reset(seed))

    def step(self, act: Actions) -> Step:
        """Play act; see Env.step."""
        return self._mark(self.env.step(act))

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()

    def _mark(self, step: Step) -> Step:
        drawn = self._rng.integers(self.within, size=self.num_envs)  # as many whatever `first` says
        self._begin = np.where(step.first, drawn, self._begin)
        self._clock = np.where(step.first, 0, self._clock + 1)
        since = self._clock - self._begin
        dark = (since >= 0) & (since < self.steps)
        return replace(step, seen=step.seen & ~dark[:, None])
