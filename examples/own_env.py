"""An environment of your own, whole: copy it, change it, and name it by module and class.

export PYTHONPATH=$PWD/examples
rmiov2 check-env python/own_env:Meeting
make params ARGS="env.name=python/own_env:Meeting preset=toy" && make run
"""

from __future__ import annotations

import numpy as np

from rmiov2.envs.base import Adapter
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Ints, Step

PLACES, LIMIT = 7, 4
MOVES = np.array([0, -1, 1])  # action 0 stays


class Meeting(Adapter):
    """Two agents on a line, who see where both stand, win by standing at one place within four steps.

    Blindly they seldom do. All num_envs games are stepped at once; arrays have a row for each.
    """

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        spec = EnvSpec(
            name="meeting", num_agents=2, obs_dim=2 * PLACES, obs_widths=(2 * PLACES,) * 2, act_dim=3,
            act_widths=(3, 3), discrete=True, state_dim=2 * PLACES, episode_limit=LIMIT, measure="win_rate",
            idle_actions=(0,),
        )  # fmt: skip
        super().__init__(spec, num_envs, seed)

    def _begin(self, seed: int) -> Step:
        self._rng = np.random.default_rng(seed)
        self._at, self._t = self._places(), np.zeros(self.num_envs, np.int64)
        return self._row(first=np.ones(self.num_envs, bool))

    def _play(self, act: Actions, restart: Bools) -> Step:
        moved = np.clip(self._at + MOVES[act], 0, PLACES - 1)
        # New places are drawn for every row at every step: a row's games must not hang on when the others end.
        self._at = np.where(restart[:, None], self._places(), moved)
        self._t = np.where(restart, 0, self._t + 1)
        return self._row(first=restart)

    def _places(self) -> Ints:
        """(B, 2), never the same."""
        one = self._rng.integers(PLACES, size=self.num_envs)
        return np.stack([one, (one + self._rng.integers(1, PLACES, size=self.num_envs)) % PLACES], axis=1)

    def _row(self, first: Bools) -> Step:
        mine: Floats = np.eye(PLACES, dtype=np.float32)[self._at]  # (B, 2, PLACES)
        obs = np.concatenate([mine, mine[:, ::-1]], axis=-1)
        met = self._at[:, 0] == self._at[:, 1]
        return Step(
            obs=obs,
            seen=np.ones((self.num_envs, 2), bool),  # `rmiov2` takes sight away, not the environment
            avail=np.ones((self.num_envs, 2, 3), bool),
            state=obs[:, 0],
            rew=met.astype(np.float32),
            terminated=met,
            truncated=~met & (self._t >= LIMIT),  # time ran out: what would have come still counts
            won=met,
            first=first.copy(),
        )
