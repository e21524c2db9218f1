"""A decision from a window alone: what a team makes of its last l steps when nobody kept a memory of them.

For a window that reaches back to the episode's first row this is what Team does, which remembers. Later, the policy's
own memory begins l steps ago, while a Team's goes back to the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rmiov2.config import Config
from rmiov2.execution.completion import Completion
from rmiov2.execution.history import LARGEST, History, refuse_actions
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Ints, UserError


@dataclass(frozen=True)
class Window:
    """The last l steps and the present row of B teams, left-aligned: row rows-1 is the present, the rest is ignored.

    obs (B, l+1, N, O), all NaN where an observation was lost · act (B, l, N) or (B, l, N, A), done after each row ·
    avail (B, N, A) 0 or 1 at the present row, NaN where unknown, as that of a blind agent is; None if continuous ·
    rows (B,) from 1 to l+1 · start (B,) bool: row 0 is the first of its episode.
    """

    obs: Floats
    act: Actions
    avail: Floats | None
    rows: Ints
    start: Bools


class Decider(Protocol):
    """What a decision needs of an agent: see rmiov2.agents.base.Agent."""

    config: Config
    spec: EnvSpec

    @property
    def own_mode(self) -> str:
        """completion, or zeros."""

    def start(self, num_envs: int) -> Any:
        """An empty memory."""

    def act(
        self, memory: Any, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Any]:
        """Actions and the memory after them."""

    def did(self, memory: Any, act: Actions) -> Any:
        """The memory of a team that did act."""

    def completion(self, history: History) -> Completion:
        """What completes observations and masks at every row."""

    def predicted_avail(self, memory: Any, obs: Floats, first: Bools) -> Bools | None:
        """Masks at a row of a method that has its own idea of them."""


def shapes(spec: EnvSpec, steps: int) -> dict[str, tuple[int, ...]]:
    """The shape of every part of a window of `steps` steps, without B; avail only where actions are discrete."""
    n, a = spec.num_agents, spec.act_dim
    common: dict[str, tuple[int, ...]] = {"obs": (steps + 1, n, spec.obs_dim), "rows": (), "start": ()}
    if spec.discrete:
        return common | {"act": (steps, n), "avail": (n, a)}
    return common | {"act": (steps, n, a)}


def decide(agent: Decider, window: Window) -> tuple[Actions, Floats]:
    """The greedy joint action (B, N) or (B, N, A), and the present observations (B, N, O), own or reconstructed.

    A blind agent's choice may be illegal, since its mask was lost too: the caller turns it into what the game does with
    it (rmiov2.envs.base.legalise). An agent whose own mode is zeros acts on zeros where an observation was lost; it
    claims nothing by that, so the observation stays NaN. Raises UserError for a window that cannot be one.
    """
    refuse_impossible(window, agent.spec, agent.config.execution.history)
    history = _history(window, agent.spec)
    said, said_avail = _stand_in(agent, history)
    completed = np.where(history.seen[..., None], history.obs, said)
    present = np.arange(len(window.rows)), window.rows - 1
    seen, said_now = history.seen[present], None if said_avail is None else said_avail[present]
    memory, rng = agent.start(len(window.rows)), np.random.default_rng(0)
    chosen: Actions | None = None
    for t in range(int(window.rows.max())):
        first, last = np.full(len(window.rows), t == 0), window.rows == t + 1
        idea = agent.predicted_avail(memory, completed[:, t], first) if said_now is None and last.any() else said_now
        act, memory = agent.act(memory, completed[:, t], _mask(window, seen, idea), first, rng, greedy=True)
        memory = agent.did(memory, history.act[:, t])
        chosen = act if chosen is None else np.where(last.reshape(-1, *[1] * (act.ndim - 1)), act, chosen)
    assert chosen is not None
    if agent.own_mode != "completion":
        completed = np.where(history.seen[..., None], completed, np.float32(np.nan))
    return chosen, completed[present]


def _history(window: Window, spec: EnvSpec) -> History:
    """The window as completion takes it: zeros and unseen where nothing arrived or the window had not begun."""
    steps = window.act.shape[1]
    exists = np.arange(steps + 1) < window.rows[:, None]
    seen = ~np.isnan(window.obs).any(-1) & exists[..., None]
    acted = exists[:, 1:].reshape(*exists[:, 1:].shape, *[1] * (window.act.ndim - 2))
    act = History.empty(spec, len(window.rows), steps).act
    act[:, :-1] = np.where(acted, window.act, 0)
    return History(np.where(seen[..., None], window.obs, np.float32(0)), seen, act, window.rows, window.start)


def _stand_in(agent: Decider, history: History) -> tuple[Floats, Bools | None]:
    """For every row and agent: its observation and what it may do, where its own did not arrive."""
    if agent.own_mode != "completion":
        return np.zeros_like(history.obs), None
    said = np.zeros_like(history.obs)
    longest = int(history.rows.max())
    said[:, :longest], avail = agent.completion(history).every_row()
    return said, avail


def _mask(window: Window, seen: Bools, said: Bools | None) -> Bools | None:
    """(B, N, A) what counts as available now; anything for a blind agent of whom nobody says what it may do."""
    if window.avail is None:
        return None
    return np.where(seen[..., None], window.avail == 1, True if said is None else said)


def refuse_impossible(window: Window, spec: EnvSpec, steps: int) -> None:
    """Raise UserError for the first part of a window whose shape or content cannot be."""
    teams = len(window.rows)
    if teams == 0:
        raise UserError("got no window, expected one at least")
    for name, shape in shapes(spec, steps).items():
        got, expected = np.shape(getattr(window, name)), (teams, *shape)
        if got != expected:
            raise UserError(f"{name}: got shape {got}, expected {expected} for {teams} windows of {spec.name}")
    if window.rows.min() < 1 or window.rows.max() > steps + 1:
        raise UserError(f"rows: got {window.rows.min()}..{window.rows.max()}, expected 1..{steps + 1}")
    exists = np.arange(steps + 1) < window.rows[:, None]
    _refuse_obs(window.obs[exists])
    refuse_actions(window.act[exists[:, 1:]], spec)
    seen = ~np.isnan(window.obs[np.arange(teams), window.rows - 1]).any(-1)
    if window.avail is not None:
        _refuse_avail(window.avail[seen])


def _refuse_obs(obs: Floats) -> None:
    """obs (M, N, O)."""
    if (np.abs(obs) > LARGEST).any():
        raise UserError(f"obs: got a value beyond {LARGEST:g}; a lost observation is NaN (null) throughout")
    lost = np.isnan(obs)
    if (lost.any(-1) & ~lost.all(-1)).any():
        raise UserError("obs: got an observation lost in part, expected all of it or nothing; padding is zero")


def _refuse_avail(avail: Floats) -> None:
    """avail (M, A), of agents that see."""
    if not np.isin(avail, (0, 1)).all():
        raise UserError("avail: got something else than 0 and 1 for an agent that sees")
    if not avail.any(-1).all():
        raise UserError("avail: got an agent that sees and can do nothing, expected one available action at least")
