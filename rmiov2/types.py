"""The legend: letters, shapes, the timeline, and the records that travel between the parts.

Letters
    B rows (teams, or sequences of a batch) · T time · N agents · O observation width (padded to the widest agent) ·
    A actions (discrete: their number; continuous: width) · S state width · D deterministic latent ·
    Z = C*K stochastic latent (C categoricals of K classes) · H imagination horizon · l history length.
    The layout is always batch-first: (B, T, N, .).

Timeline (an episode of L steps has L+1 observation rows)

    row      0          1          2                 L
    obs    o_0        o_1        o_2       ...      o_L
    act    a_0        a_1        a_2       ...       -
    rew    r_0        r_1        r_2       ...       -      r_t is earned by a_t, from o_t to o_{t+1}
    con    c_0        c_1        c_2       ...       -      c_t = 0 if that step ended the game (not: time ran out)

    The world model says r_t, c_t from (h_{t+1}, z_{t+1}): from row t+1, where the step has arrived (Alg. 1, line 15).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Actions = npt.NDArray[np.int64] | npt.NDArray[np.float32]


class UserError(Exception):
    """A mistake the user can mend: the message says what was got, what was expected, and how to fix it."""


@dataclass(frozen=True)
class EnvSpec:
    """What an environment is, in numbers; every width that a network needs comes from here."""

    name: str
    num_agents: int  # N
    obs_dim: int  # O, of the widest agent
    obs_widths: tuple[int, ...]  # (N,), the true widths; columns beyond them are zero
    act_dim: int  # A
    act_widths: tuple[int, ...]  # (N,); discrete: A for all
    discrete: bool
    state_dim: int  # S; 0 where the environment has no global state
    episode_limit: int  # steps
    measure: str  # "win_rate" | "step_return"
    idle_actions: tuple[int, ...] = ()  # what an illegal choice becomes: the first of these that is available

    @property
    def obs_mask(self) -> Bools:
        """(N, O) the agent has such a number; the rest is padding."""
        return np.arange(self.obs_dim) < np.asarray(self.obs_widths)[:, None]

    @property
    def act_mask(self) -> Bools:
        """(N, A) the agent has such an action, or such a component of it; the rest is padding."""
        return np.arange(self.act_dim) < np.asarray(self.act_widths)[:, None]


@dataclass
class Step:
    """One row of every environment of a batch, numpy, agents stacked.

    obs (B, N, O) float32 · seen (B, N) bool · avail (B, N, A) bool, None if continuous · state (B, S) float32 ·
    rew (B,) float32, earned by the action that led here · terminated, truncated, won (B,) bool ·
    first (B,) bool: a new episode begins at this row, and rew belongs to none ·
    lost (B,) bool: the game broke, so the episode stops here undecided, and nothing of it counts; none unless said.
    """

    obs: Floats
    seen: Bools
    avail: Bools | None
    state: Floats
    rew: Floats
    terminated: Bools
    truncated: Bools
    won: Bools
    first: Bools
    lost: Bools = None  # type: ignore[assignment]  # only until it is made

    def __post_init__(self) -> None:
        if self.lost is None:
            self.lost = np.zeros_like(self.first)

    @property
    def done(self) -> Bools:
        """(B,) the episode ended with this row, for whatever reason; the next one begins a new one."""
        return self.terminated | self.truncated | self.lost


@dataclass(frozen=True)
class Trajectory:
    """One episode, or one uninterrupted piece of a long one, of L steps; see the timeline above.

    obs (L+1, N, O) · avail (L+1, N, A) or None · state (L+1, S) · act (L, N) int64 or (L, N, A) float32 ·
    rew (L,) as the environment gave it · con (L,) 0 where the step terminated the episode, else 1 ·
    start: the piece begins an episode, so every memory begins empty · won: the episode was won (False for a piece
    that does not end one).
    """

    obs: Floats
    avail: Bools | None
    state: Floats
    act: Actions
    rew: Floats
    con: Floats
    start: bool
    won: bool

    def __len__(self) -> int:
        return len(self.rew)


@dataclass(frozen=True)
class Batch:
    """B windows of T rows of one trajectory each; where it has no row, before the window's last, there are zeros.

    obs (B, T, N, O) · avail (B, T, N, A) or None, all true in padding · state (B, T, S) · act (B, T, N) or (B, T, N, A)
    rew raw, trend smoothed, con (B, T) · row (B, T) bool: the row exists · step (B, T) bool: it has an action whose
    consequence is inside the window · start (B,) bool: the window begins an episode.
    """

    obs: Floats
    avail: Bools | None
    state: Floats
    act: Actions
    rew: Floats
    trend: Floats
    con: Floats
    row: Bools
    step: Bools
    start: Bools


class Sampler(Protocol):
    """What learning needs of a replay."""

    @property
    def episodes(self) -> int:
        """Trajectories held."""

    def trajectories(self, last: int) -> list[Trajectory]:
        """The newest ones, oldest of them first."""

    def sample(self, batch: int, length: int, rng: np.random.Generator, pad_ends: bool = False) -> Batch:
        """`batch` windows of `length` rows, inside an episode or, with pad_ends, beyond its end."""
