"""Play whole episodes under observation loss, many side by side, and keep one row of numbers for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from rmiov2.envs.base import Env, blank, legalise
from rmiov2.envs.observation_loss import ObservationLoss
from rmiov2.evaluation.statistics import performance_interval
from rmiov2.seeding import derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Ints, Step, UserError

Columns = dict[str, npt.NDArray[Any]]
Progress = Callable[[int, int], None]  # episodes finished, episodes wanted
RECORDED = ("won", "return", "length", "messages", "bytes")


class Team(Protocol):
    """What is evaluated: num_envs teams that choose greedily; the legend is that of rmiov2.execution.team."""

    messages: Ints
    bytes: Ints

    def act(
        self, obs: Floats, seen: Bools | None = None, avail: Bools | None = None, first: Bools | None = None
    ) -> Actions: ...


TeamFactory = Callable[[int, int], Team]  # (num_envs, seed), as Agent.team


@dataclass(frozen=True)
class Turn:
    """One step of every row: step (the truth, and who saw it), act (as played, legal), after (what came of it)."""

    step: Step
    act: Actions
    after: Step


def turns(env: Env, team: Team, seed: int, true_availability: bool = False) -> Iterator[Turn]:
    """Play for ever. The team gets obs * seen, and no availability of blind agents unless true_availability."""
    step = env.reset(seed)
    while True:
        told = step.avail
        if step.avail is not None and not true_availability:
            told = step.avail & step.seen[..., None]
        act = team.act(blank(step.obs, step.seen), seen=step.seen, avail=told, first=step.first)
        act = playable(act, step, env.spec)
        after = env.step(act)
        yield Turn(step, act, after)
        step = after


def playable(act: Actions, step: Step, spec: EnvSpec) -> Actions:
    """What the environment accepts: illegal choices of discrete actions become idle ones."""
    if step.avail is None:
        return act
    return legalise(act.astype(np.int64), step.avail, spec)


def play(
    env: Env,
    team: Team,
    pattern: str,
    p_loss: float | npt.NDArray[np.floating[Any]],
    episodes: int,
    seed: int,
    *,
    groups: Ints | None = None,
    true_availability: bool = False,
    progress: Progress | None = None,
) -> Columns:
    """Play `episodes` episodes per group of rows; without groups (B,), the rows of one rate of p_loss are a group.

    How many episodes of each row count is fixed before the first is played (an even share, see quotas), so that short
    episodes are not over-represented; what a row plays beyond its share is dropped, and one that got lost, because its
    game broke, is played again. Columns, one entry per counted
    episode, ordered by group, row, time: group, row, episode (0.. within the group), p_loss, and those of RECORDED.
    """
    rates = np.broadcast_to(np.asarray(p_loss, dtype=np.float64), (env.num_envs,))
    if groups is None:
        groups = np.unique(rates, return_inverse=True)[1]
    tally = Tally(groups, quotas(groups, episodes))
    lossy = ObservationLoss(env, pattern, rates.astype(np.float32))
    for turn in turns(lossy, team, derive(seed, "env"), true_availability):
        tally.add(turn.after, team)
        if progress is not None and turn.after.done.any():
            progress(tally.finished, tally.wanted)
        if tally.finished == tally.wanted:
            break
    columns = tally.columns()
    return {"p_loss": rates[columns["row"]], **columns}


def quotas(groups: Ints, episodes: int) -> Ints:
    """(B,) how many episodes of each row count: `episodes` per group, spread evenly, first rows one more if need be."""
    if episodes < 1:
        raise UserError(f"episodes: got {episodes}, expected 1 at least")
    quota = np.zeros(len(groups), dtype=np.int64)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        quota[rows] = episodes // len(rows) + (np.arange(len(rows)) < episodes % len(rows))
    return quota


class Tally:
    """Adds up rewards and steps of every row and keeps the first quota (B,) episodes of each."""

    def __init__(self, groups: Ints, quota: Ints) -> None:
        self.groups, self.quota = groups, quota
        self.count = np.zeros_like(quota)
        self.returns = np.zeros(len(quota))
        self.lengths = np.zeros_like(quota)
        self._kept: list[Columns] = []

    @property
    def wanted(self) -> int:
        return int(self.quota.sum())

    @property
    def finished(self) -> int:
        return int(self.count.sum())

    def add(self, after: Step, team: Team) -> Bools:
        """Take in one step of every row; says which rows (B,) ended an episode that counts."""
        self.returns = np.where(after.first, 0.0, self.returns + after.rew)
        self.lengths = np.where(after.first, 0, self.lengths + 1)
        counted: Bools = after.done & ~after.lost & (self.count < self.quota)
        if counted.any():
            self._keep(np.flatnonzero(counted), after, team)
        return counted

    def _keep(self, rows: Ints, after: Step, team: Team) -> None:
        values = (after.won, self.returns, self.lengths, np.asarray(team.messages), np.asarray(team.bytes))
        ended = {name: value[rows].copy() for name, value in zip(RECORDED, values, strict=True)}
        self._kept.append({"group": self.groups[rows], "row": rows, "nth": self.count[rows], **ended})
        self.count[rows] += 1

    def columns(self) -> Columns:
        """The kept episodes in an order that does not depend on which ended first."""
        joined = {name: np.concatenate([kept[name] for kept in self._kept]) for name in self._kept[0]}
        order = np.lexsort((joined.pop("nth"), joined["row"], joined["group"]))
        columns = {name: values[order] for name, values in joined.items()}
        starts = np.searchsorted(columns["group"], columns["group"])
        return {"episode": np.arange(len(order)) - starts, **columns}


def performances(columns: Columns, measure: str) -> npt.NDArray[np.float64]:
    """(n,) what each episode adds to the measure: won (win_rate), or the return per step (step_return)."""
    if measure == "win_rate":
        return columns["won"].astype(np.float64)
    if measure == "step_return":
        return np.asarray(columns["return"] / columns["length"], dtype=np.float64)
    raise UserError(f"measure: got {measure!r}, expected win_rate or step_return")


def greedy_performance(
    env: Env, team_factory: TeamFactory, episodes: int, seed: int, resamples: int = 1000
) -> tuple[float, float, float]:
    """(performance, lo, hi) with full sight: a point of the learning curve with its 95 % interval."""
    team = team_factory(env.num_envs, derive(seed, "team"))
    values = performances(play(env, team, "independent", 0.0, episodes, seed), env.spec.measure)
    return float(values.mean()), *performance_interval(values, env.spec.measure, resamples)
