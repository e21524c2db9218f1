"""One StarCraft2Env, asked only what it can take: no two resets in a row, no step after the end, none after a crash.

How it behaves was seen by running smac 1.0.0: a crash in a step comes back as (0, True, {}), a defeat to all
appearances, and only `force_restarts` tells; a reset before the first battle has ended launches the game again and
spoils the scale of all rewards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[Any]  # () of row_type
NO_OP, STOP = 0, 1


class Broken(Exception):
    """The game broke. Nothing that its environment says from now on can be trusted, so the process goes with it."""


class Source(Protocol):
    """What makes StarCraft2Env of one map: rmiov2.envs.smac.starcraft.StarCraft, or a double of it."""

    facts: Mapping[str, Any]

    @property
    def note(self) -> str: ...

    def make(self, seed: int) -> Any: ...

    def settle(self, env: Any) -> None: ...


def row_type(info: Mapping[str, Any]) -> np.dtype[Any]:
    """One row of one game as it travels between processes; info: SMAC's get_env_info()."""
    n, actions = info["n_agents"], info["n_actions"]
    return np.dtype(
        [
            ("obs", np.float32, (n, info["obs_shape"])),
            ("state", np.float32, (info["state_shape"],)),
            ("avail", np.bool_, (n, actions)),
            ("rew", np.float32),
            *((flag, np.bool_) for flag in ("terminated", "truncated", "won", "lost")),
        ]
    )


def idle(avail: Any) -> Any:
    """(N,) no-op for the dead, stop for the living."""
    return np.where(np.asarray(avail)[:, NO_OP], NO_OP, STOP)


class Battle:
    """Battles of one game, one after the other, and their rows."""

    def __init__(self, source: Source) -> None:
        self._source, self._env = source, source.make(0)
        self.info: dict[str, Any] = dict(self._env.get_env_info())
        self._type = row_type(self.info)
        self._fresh = self._over = self._first = False

    def begin(self, seed: int) -> Row:
        """Launch the game with that seed, whatever was there before, and begin its first battle."""
        self._env.close()
        self._env = self._source.make(seed)
        self._first = True
        row = self._reset()
        self._source.settle(self._env)
        return row

    def next(self) -> Row:
        """Begin another battle of the game that is there; one that nobody has acted in yet is as good as new."""
        if self._fresh:
            return self._row()
        while self._first and not self._over:
            self.play(idle(self._env.get_avail_actions()))
        self._first = False
        return self._reset()

    def play(self, act: Any) -> Row:
        """The next row after act (N,); raises Broken."""
        timeouts = self._env.timeouts
        rew, over, info = self._env.step(act)
        self._refuse_broken(not info)
        self._fresh, self._over = False, bool(over)
        out_of_time = self._env.timeouts > timeouts
        return self._row(rew, over and not out_of_time, over and out_of_time, bool(info["battle_won"]))

    def _reset(self) -> Row:
        self._env.reset()
        self._refuse_broken(False)
        self._fresh, self._over = True, False
        return self._row()

    def _refuse_broken(self, silent: bool) -> None:
        if silent or self._env.force_restarts:
            raise Broken("the game broke and was launched again by SMAC, which tells of a lost battle")

    def _row(self, rew: float = 0.0, terminated: bool = False, truncated: bool = False, won: bool = False) -> Row:
        row = np.zeros((), self._type)
        row["obs"], row["state"] = self._env.get_obs(), self._env.get_state()
        row["avail"] = self._env.get_avail_actions()
        row["rew"], row["terminated"], row["truncated"], row["won"] = rew, terminated, truncated, won
        return row
