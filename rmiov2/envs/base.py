"""The contract that every environment keeps: vectorised, arrays only, agents stacked, never reset by itself."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, cast

import numpy as np

from rmiov2.seeding import derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Ints, Step, UserError

BOX_TOLERANCE = 1e-4  # what float32 arithmetic may leave beyond [-1, 1]


class Env(ABC):
    """num_envs games side by side.

    The last observation of an episode is delivered, with `terminated` or `truncated`; the next `step` ignores that
    row's action, starts its new episode and delivers the first observation with `first` and no reward. Where a game
    breaks, a row with `lost` stands in for the last observation: the episode was not decided, and nothing of it counts.
    """

    spec: EnvSpec
    num_envs: int
    facts: Mapping[str, Any] = MappingProxyType({})  # of its games, for the metrics of a run
    breakable = False  # games are programs of their own, which may break: their episodes can get lost (Step.lost)
    lost_episodes = 0  # so far

    @abstractmethod
    def reset(self, seed: int | None = None) -> Step:
        """Start a new episode in every row; the same seed gives the same games.

        Without a seed the first call takes the constructor's, and every later one a seed derived from it.
        """

    def restart(self, seed: int) -> Step:
        """Start a new episode in every row as reset does, but where a seed costs seconds, without it."""
        return self.reset(seed)

    @abstractmethod
    def step(self, act: Actions) -> Step:
        """Play act, (B, N) int64 or (B, N, A) float32 in [-1, 1]; raises UserError for an action not available."""

    @abstractmethod
    def close(self) -> None:
        """Free what the environment holds; harmless twice."""


class Adapter(Env):
    """What the adapters share: which seed a reset takes, and the checks of what goes in and what comes out."""

    def __init__(self, spec: EnvSpec, num_envs: int, seed: int) -> None:
        if num_envs < 1:
            raise UserError(f"{spec.name}: got num_envs = {num_envs}, expected at least 1")
        self.spec, self.num_envs = spec, num_envs
        self._seed, self._resets = seed, 0
        self._last: Step | None = None

    def reset(self, seed: int | None = None) -> Step:
        """Start a new episode in every row; see Env.reset."""
        if seed is None:
            seed = derive(self._seed, "reset", self._resets) if self._resets else self._seed
            self._resets += 1
        self._last = refuse_not_finite(self._begin(seed), self.spec)
        return self._last

    def step(self, act: Actions) -> Step:
        """Play act; see Env.step. Raises UserError before the first reset, and for an action that is not allowed."""
        if self._last is None:
            raise UserError(f"{self.spec.name}: step before the first reset; call reset first")
        restart = self._last.done
        if self._last.avail is None:
            refuse_outside(cast(Floats, act), ~restart, self.spec)
        else:
            refuse_illegal(cast(Ints, act), self._last.avail, ~restart, self.spec)
        self._last = refuse_not_finite(self._play(act, restart), self.spec)
        self.lost_episodes += int(self._last.lost.sum())
        return self._last

    def close(self) -> None:
        """Nothing to free, unless the suite says otherwise."""

    @abstractmethod
    def _begin(self, seed: int) -> Step:
        """The first row of new episodes."""

    @abstractmethod
    def _play(self, act: Actions, restart: Bools) -> Step:
        """The next row: where restart (B,) the first of a new episode, whatever act (B, N) or (B, N, A) says."""


def refuse_unknown(what: str, got: str, known: Iterable[str]) -> None:
    """Raise UserError, naming the nearest, unless got is one of the known names."""
    names = list(known)
    if got not in names:
        nearest = difflib.get_close_matches(got, names, n=1, cutoff=0.0)[0]
        raise UserError(f"unknown {what} {got!r}; did you mean {nearest!r}? `rmiov2 envs` lists what there is")


def legalise(act: Ints, avail: Bools, spec: EnvSpec) -> Ints:
    """Turn an illegal choice, act (B, N), into the first idle action that avail (B, N, A) allows."""
    legal = np.take_along_axis(avail, act[..., None], axis=-1)[..., 0]
    idle = np.asarray(spec.idle_actions)
    substitute = idle[np.argmax(avail[..., idle], axis=-1)]
    return np.where(legal, act, substitute)


def refuse_illegal(act: Ints, avail: Bools, playing: Bools, spec: EnvSpec) -> None:
    """Raise UserError for the first action of a row still playing, (B,), that its mask (B, N, A) forbids."""
    if act.shape != avail.shape[:2]:
        raise UserError(f"{spec.name}: got actions of shape {act.shape}, expected {avail.shape[:2]} (rows, agents)")
    if act.dtype.kind not in "iu":
        raise UserError(f"{spec.name}: got actions of type {act.dtype}, expected whole numbers 0..{spec.act_dim - 1}")
    if act.min() < 0 or act.max() >= spec.act_dim:
        raise UserError(f"{spec.name}: got action {act.min()}..{act.max()}, expected 0..{spec.act_dim - 1}")
    legal = np.take_along_axis(avail, act[..., None], axis=-1)[..., 0] | ~playing[:, None]
    if not legal.all():
        row, agent = np.argwhere(~legal)[0]
        raise UserError(
            f"{spec.name}: action {act[row, agent]} of agent {agent} in environment {row} is not available there;"
            f" expected one of {np.flatnonzero(avail[row, agent]).tolist()}"
        )


def refuse_outside(act: Floats, playing: Bools, spec: EnvSpec) -> None:
    """Raise UserError for an action (B, N, A) of a row still playing, (B,), that is not in [-1, 1]."""
    expected = (len(playing), spec.num_agents, spec.act_dim)
    if act.shape != expected:
        raise UserError(f"{spec.name}: got actions of shape {act.shape}, expected {expected} (rows, agents, width)")
    outside = ~(np.abs(act) <= 1 + BOX_TOLERANCE) & playing[:, None, None]
    if outside.any():
        row, agent, column = np.argwhere(outside)[0]
        raise UserError(
            f"{spec.name}: got {act[row, agent, column]} for action {column} of agent {agent} in environment {row},"
            " expected a number in [-1, 1]; clip the actions"
        )


def refuse_not_finite(step: Step, spec: EnvSpec) -> Step:
    """Pass the step on, or raise UserError if an observation, state or reward is NaN or infinite."""
    for name, value in (("observation", step.obs), ("state", step.state), ("reward", step.rew)):
        if not np.isfinite(value).all():
            raise UserError(f"{spec.name}: got a {name} that is not finite; the environment or its input is broken")
    return step


def facts_of(env: Env, lost: int) -> dict[str, Any]:
    """What metrics say of the games: {"game": env.facts and what got lost}, or {} where it has no facts."""
    return {"game": {**env.facts, "episodes_lost": lost}} if env.facts else {}


def blank(obs: Floats, seen: Bools) -> Floats:
    """obs * seen: what arrives of the observations (B, N, O) when only seen (B, N) came through."""
    return obs * seen[..., None]
