"""A loss that no rate describes: once an episode the whole team goes dark, for so many steps and no longer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rmiov2.envs.base import Env
from rmiov2.envs.wrapper import Wrapper
from rmiov2.seeding import derive
from rmiov2.types import Ints, Step, UserError


class Blackout(Wrapper[Env]):
    """An environment in which nobody's observation arrives for steps (B,) in a row, once in every episode of row b.

    It begins at a step drawn evenly from those at which it still fits into the usual length of an episode, and at the
    first where it never fits; the end of the episode cuts it short. Only `seen` changes, as in
    envs.observation_loss.ObservationLoss, inside which it stands. Raises UserError for a length below 0 and a usual
    length below 1.

    endured: by row, how many steps were played in the dark, of every episode since the reset that was decided.
    """

    def __init__(self, env: Env, steps: int | Ints, usual_length: int) -> None:
        super().__init__(env)
        self.steps = np.broadcast_to(np.asarray(steps, np.int64), (env.num_envs,))
        if self.steps.min() < 0 or usual_length < 1:
            got = f"{self.steps.min()} steps in a usual {usual_length}"
            raise UserError(f"blackout: got {got}, expected 0 and 1 at least")
        self.endured: list[list[int]] = [[] for _ in range(env.num_envs)]
        self._within = np.maximum(1, usual_length - self.steps + 1)
        self._rng = np.random.default_rng(derive(0, "blackout"))
        self._clock = np.zeros(env.num_envs, np.int64)
        self._begins = np.zeros(env.num_envs, np.int64)

    def _before(self, seed: int | None) -> None:
        if seed is not None:
            self._rng = np.random.default_rng(derive(seed, "blackout"))
        self.endured = [[] for _ in range(self.num_envs)]

    def _shown(self, step: Step) -> Step:
        drawn = self._rng.integers(self._within)  # as many whatever `first` says
        self._begins = np.where(step.first, drawn, self._begins)
        self._clock = np.where(step.first, 0, self._clock + 1)
        since = self._clock - self._begins
        dark = (since >= 0) & (since < self.steps)
        for row in np.flatnonzero(step.done & ~step.lost):  # nobody acts on the row that ends an episode
            self.endured[row].append(int(np.clip(since[row], 0, self.steps[row])))
        return replace(step, seen=step.seen & ~dark[:, None])
