"""The real replay B_r (Algorithm 1) in memory: whole trajectories in, windows of fixed length out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rmiov2.types import Batch, EnvSpec, Floats, Ints, Trajectory, UserError

FIRST_SIZE = 1024


class Replay:
    """The newest trajectories, at most `capacity` steps of them; the oldest are forgotten whole.

    What it holds and what it samples are functions of what was added and of the generator alone.
    """

    def __init__(self, spec: EnvSpec, capacity: int) -> None:
        if capacity <= 0:
            raise UserError(f"replay capacity: got {capacity} steps, expected at least 1; raise collect.capacity")
        self.spec = spec
        self.capacity = capacity
        self.steps = 0
        self._rows = _Ring({name: (shape, dtype) for name, (_, shape, dtype) in layout(spec).items()} | _TREND)
        self._trajectories = _Ring(_TRAJECTORY)

    @property
    def episodes(self) -> int:
        """Trajectories held."""
        return len(self._trajectories)

    def add(self, trajectory: Trajectory, trend: Floats) -> None:
        """Keep a trajectory of L steps and trend (L,), its reward as learned; raises UserError if malformed."""
        refuse_malformed(trajectory, self.spec)
        _refuse_array("trend", trend, (len(trajectory),), np.dtype(np.float32), self.spec)
        if len(trajectory) > self.capacity:
            raise UserError(
                f"a trajectory of {len(trajectory)} steps exceeds a replay of {self.capacity}; raise collect.capacity"
            )
        while self.steps + len(trajectory) > self.capacity:
            self._forget_oldest()
        self._append(trajectory, trend)
        self.steps += len(trajectory)

    def reward_variance(self) -> float:
        """The variance of the raw rewards held, 0 while empty; combined from trajectories (Chan et al. 1979)."""
        if not self.episodes:
            return 0.0
        held = self._trajectories.held()
        count, mean = self._trajectories.take("length", held), self._trajectories.take("mean", held)
        inside = self._trajectories.take("squares", held).sum()
        between = (count * (mean - np.average(mean, weights=count)) ** 2).sum()
        return float((inside + between) / count.sum())

    def sample(self, batch: int, length: int, rng: np.random.Generator, pad_ends: bool = False) -> Batch:
        """Draw `batch` windows of `length` rows; raises UserError while empty.

        Every window that shares a step with a trajectory is equally likely, and is then moved inside: with pad_ends
        only from before the first row, while one that goes on beyond the last is padded there. So no step, the last one
        included, is seen less often than one in the middle of a long episode, nor three times as often. Without
        pad_ends the end of an episode that is no shorter than a window is always at its last row, from which a
        recurrent model learns to expect it by the row and not by the game.
        """
        if not self.episodes or batch <= 0 or length <= 0:
            raise UserError(
                f"got a sample of {batch} windows of {length} rows from a replay of {self.steps} steps,"
                " expected at least one of each; collect first"
            )
        trajectory, offset = self._draw(batch, length, rng, pad_ends)
        return self._window(trajectory, offset, length)

    def trajectories(self, last: int) -> list[Trajectory]:
        """The newest ones, oldest of them first; fewer if fewer are held."""
        return [self._trajectory(index) for index in self._trajectories.held()[max(self.episodes - last, 0) :]]

    def _append(self, trajectory: Trajectory, trend: Floats) -> None:
        rows = {name: getattr(trajectory, name) for name in layout(self.spec)} | {"trend": trend}
        raw = trajectory.rew.astype(np.float64)
        self._trajectories.append(
            1,
            {
                "row": np.array([self._rows.end]),
                "length": np.array([len(raw)]),
                "start": np.array([trajectory.start]),
                "won": np.array([trajectory.won]),
                "mean": np.array([raw.mean()]),
                "squares": np.array([((raw - raw.mean()) ** 2).sum()]),
            },
        )
        self._rows.append(len(raw) + 1, rows)

    def _forget_oldest(self) -> None:
        length = int(self._trajectories.take("length", self._trajectories.held()[:1])[0])
        self._trajectories.drop(1)
        self._rows.drop(length + 1)
        self.steps -= length

    def _draw(self, batch: int, length: int, rng: np.random.Generator, pad_ends: bool) -> tuple[Ints, Ints]:
        """Which trajectory, and the first row in it, both (B,)."""
        held = self._trajectories.held()
        lengths = self._trajectories.take("length", held)
        visible = max(length - 1, 1)
        ends = np.cumsum(lengths + visible - 1)
        drawn = rng.integers(ends[-1], size=batch)
        chosen = np.searchsorted(ends, drawn, side="right")
        offset = drawn - ends[chosen] + lengths[chosen]
        latest = lengths[chosen] - 1 if pad_ends else np.maximum(lengths[chosen] + 1 - length, 0)
        return held[chosen], np.clip(offset, 0, latest)

    def _window(self, trajectory: Ints, offset: Ints, length: int) -> Batch:
        position = offset[:, None] + np.arange(length)
        last = self._trajectories.take("length", trajectory)[:, None]
        row = position <= last
        index = self._trajectories.take("row", trajectory)[:, None] + np.minimum(position, last)
        values: dict[str, Any] = {name: self._rows.take(name, index) for name in (*layout(self.spec), "trend")}
        for name, value in values.items():
            value[~row] = name == "avail"
        return Batch(
            **({"avail": None} | values),
            row=row,
            step=np.concatenate([row[:, 1:], np.zeros_like(row[:, :1])], axis=1),
            start=self._trajectories.take("start", trajectory) & (offset == 0),
        )

    def _trajectory(self, index: int) -> Trajectory:
        at = np.array([index])
        length, first = (int(self._trajectories.take(name, at)[0]) for name in ("length", "row"))
        values: dict[str, Any] = {
            name: self._rows.take(name, np.arange(first, first + length + extra))
            for name, (extra, _, _) in layout(self.spec).items()
        }
        start, won = (bool(self._trajectories.take(name, at)[0]) for name in ("start", "won"))
        return Trajectory(**({"avail": None} | values), start=start, won=won)


Column = tuple[tuple[int, ...], npt.DTypeLike]

_TREND: dict[str, Column] = {"trend": ((), np.float32)}
_TRAJECTORY: dict[str, Column] = {
    "row": ((), np.int64),
    "length": ((), np.int64),
    "start": ((), np.bool_),
    "won": ((), np.bool_),
    "mean": ((), np.float64),
    "squares": ((), np.float64),
}


class _Ring:
    """Named columns over entries begin..end-1, numbered for ever; entry i lies at i modulo the size."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.begin = self.end = 0
        self._size = FIRST_SIZE
        self._columns = {name: np.zeros((FIRST_SIZE, *shape), dtype) for name, (shape, dtype) in columns.items()}

    def __len__(self) -> int:
        return self.end - self.begin

    def held(self) -> Ints:
        """The numbers of all entries, oldest first."""
        return np.arange(self.begin, self.end)

    def append(self, count: int, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Put `count` entries at the end; a column given fewer values is zero in the rest of them."""
        while len(self) + count > self._size:
            self._grow()
        index = np.arange(self.end, self.end + count) % self._size
        for name, column in self._columns.items():
            column[index[: len(values[name])]] = values[name]
            column[index[len(values[name]) :]] = 0
        self.end += count

    def drop(self, count: int) -> None:
        """Forget the oldest entries."""
        self.begin += count

    def take(self, name: str, index: Ints) -> npt.NDArray[Any]:
        """A copy of the entries of those numbers, in the shape of index."""
        return self._columns[name][index % self._size]

    def _grow(self) -> None:
        held, old = self.held(), self._size
        self._size *= 2
        for name, column in self._columns.items():
            self._columns[name] = np.zeros((self._size, *column.shape[1:]), column.dtype)
            self._columns[name][held % self._size] = column[held % old]


def layout(spec: EnvSpec) -> dict[str, tuple[int, tuple[int, ...], np.dtype[Any]]]:
    """The arrays of a Trajectory: name -> (rows beyond its L steps, shape of a row, dtype)."""
    agents, floats = spec.num_agents, np.dtype(np.float32)
    arrays = {
        "obs": (1, (agents, spec.obs_dim), floats),
        "state": (1, (spec.state_dim,), floats),
        "act": (0, (agents,), np.dtype(np.int64)) if spec.discrete else (0, (agents, spec.act_dim), floats),
        "rew": (0, (), floats),
        "con": (0, (), floats),
    }
    return arrays | ({"avail": (1, (agents, spec.act_dim), np.dtype(np.bool_))} if spec.discrete else {})


def refuse_malformed(trajectory: Trajectory, spec: EnvSpec) -> None:
    """Raise UserError if a trajectory is empty, not of the shapes and dtypes of spec, not finite, or out of range."""
    if len(trajectory) == 0:
        raise UserError(f"{spec.name}: got a trajectory without a step, expected at least one; do not store it")
    for name, (extra, shape, dtype) in layout(spec).items():
        _refuse_array(name, getattr(trajectory, name), (len(trajectory) + extra, *shape), dtype, spec)
    if not np.isin(trajectory.con, (0, 1)).all():
        raise UserError(f"{spec.name}: got con other than 0 and 1; it is 0 where a step ended the game, else 1")
    if not trajectory.con[:-1].all():
        raise UserError(f"{spec.name}: got con 0 before the last step of a trajectory; store each episode on its own")
    if not spec.discrete:
        return
    assert trajectory.avail is not None
    if trajectory.act.min() < 0 or trajectory.act.max() >= spec.act_dim:
        raise UserError(
            f"{spec.name}: got actions {trajectory.act.min()}..{trajectory.act.max()}, expected 0..{spec.act_dim - 1}"
        )
    if not trajectory.avail.any(axis=-1).all():
        row, agent = np.argwhere(~trajectory.avail.any(axis=-1))[0]
        raise UserError(f"{spec.name}: agent {agent} has no available action in row {row}; allow it to do nothing")


def _refuse_array(name: str, value: Any, shape: tuple[int, ...], dtype: np.dtype[Any], spec: EnvSpec) -> None:
    if not isinstance(value, np.ndarray) or value.shape != shape or value.dtype != dtype:
        got = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise UserError(f"{spec.name}: {name} of a trajectory is {got}, expected {dtype} {shape} as EnvSpec says")
    if dtype.kind == "f" and not np.isfinite(value).all():
        raise UserError(f"{spec.name}: {name} of a trajectory is not finite; the environment or the policy is broken")
