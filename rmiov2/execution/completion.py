"""What blind agents would have seen, from the last l steps of the team (Algorithm 2, lines 30-36)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rmiov2.types import Actions, Bools, EnvSpec, Floats, Ints
from rmiov2.world_model.rollout import observe
from rmiov2.world_model.rssm import WorldModel


class History:
    """The last l steps and the present row of B teams, kept left-aligned so that row 0 is each window's beginning."""

    def __init__(self, spec: EnvSpec, num_envs: int, steps: int) -> None:
        rows, n = steps + 1, spec.num_agents
        self.obs = np.zeros((num_envs, rows, n, spec.obs_dim), np.float32)
        self.seen = np.zeros((num_envs, rows, n), bool)
        self.act: Actions = (
            np.zeros((num_envs, rows, n), np.int64)
            if spec.discrete
            else np.zeros((num_envs, rows, n, spec.act_dim), np.float32)
        )
        self.rows = np.zeros(num_envs, np.int64)
        self.start = np.ones(num_envs, bool)  # the window still reaches back to the episode's first row
        self.reached = Reached(num_envs)

    def saw(self, obs: Floats, seen: Bools, first: Bools) -> None:
        """Append the present row: obs (B, N, O) already blanked, seen (B, N); first (B,) empties the window before."""
        self.rows[first], self.start[first], self.seen[first], self.reached.rows[first] = 0, True, False, 0
        full = self.rows == self.obs.shape[1]
        if full.any():
            for kept in (self.obs, self.seen, self.act):
                kept[full, :-1] = kept[full, 1:]
            self.rows[full] -= 1
            self.start[full] = False
        index = np.arange(len(self.rows)), self.rows
        self.obs[index], self.seen[index] = obs, seen
        self.rows += 1

    def did(self, act: Actions) -> None:
        """The action taken at the present row, (B, N) or (B, N, A)."""
        self.act[np.arange(len(self.rows)), self.rows - 1] = act


@dataclass(frozen=True)
class Unrolled:
    """What M makes of windows: features (..., N, D+Z), and the observations (..., N, O) that a method says by other
    means than M's decoder; None where the decoder says them."""

    features: Tensor
    obs: Tensor | None = None

    def said(self, model: WorldModel) -> Tensor:
        """Every agent's observation, (..., N, O), normalised."""
        return model.predict.obs(self.features) if self.obs is None else self.obs

    def __getitem__(self, index: Any) -> Unrolled:
        """Of some of the windows, or some of their rows."""
        return Unrolled(self.features[index], None if self.obs is None else self.obs[index])


class Reached:
    """How far each of B windows has been unrolled: over so many rows (B,), and what M made of the last of them.

    So the weights of M must stay as they are while a team plays.
    """

    def __init__(self, num_envs: int) -> None:
        self.rows = np.zeros(num_envs, np.int64)
        self.last: Unrolled | None = None

    def keep(self, teams: Bools, rows: Ints, present: Unrolled) -> None:
        """The chosen teams' present (M, N, .), which is row rows (M,) less one."""
        if self.last is None:
            features, obs = present.features, present.obs
            room = features.new_zeros(len(teams), *features.shape[1:])
            self.last = Unrolled(room, None if obs is None else obs.new_zeros(len(teams), *obs.shape[1:]))
        chosen = torch.from_numpy(teams).to(present.features.device)
        self.last.features[chosen] = present.features
        if self.last.obs is not None:
            assert present.obs is not None
            self.last.obs[chosen] = present.obs
        self.rows[teams] = rows


class Unroll(Protocol):
    """obs (B, T, N, O) normalised, seen (B, T, N) 0 or 1, act (B, T, ...), h (B, N, D) of row 0 to what M makes of it.

    Nothing of an observation that was not seen may reach it, and no row may know of a later one. What a row hands on to
    the next is in its features alone, so that an unroll can be left and resumed.
    """

    def __call__(self, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Unrolled: ...


@torch.no_grad()
def complete(
    model: WorldModel, unroll: Unroll, history: History, teams: Bools, threshold: float, fixed: bool = False
) -> tuple[Floats, Bools | None]:
    """The present observations and availability as M has them, (M, N, O) and (M, N, A), of the chosen teams (B,).

    An action counts as available if M gives it more than `threshold`. Windows that begin with the episode are resumed
    where they were left, those of the other teams too, which keeps all in step; one that has moved on since is unrolled
    anew. fixed: unroll every team's whole window, so that its shapes are the same whoever is blind; what is said is
    too, since no row knows of a later one.
    """
    reached, anew = history.reached, np.zeros_like(history.rows)
    if fixed:
        _reach(model, unroll, history, np.ones_like(teams), anew, history.obs.shape[1])
    else:
        for group, begin in ((history.start, reached.rows), (teams & ~history.start, anew)):
            ahead = history.rows - begin
            if (group & teams & (ahead > 0)).any():  # else nobody asks, or asks again
                _reach(model, unroll, history, group & (ahead > 0), begin, int(ahead[group].max()))
    assert reached.last is not None
    return _said(model, reached.last[torch.from_numpy(teams)], threshold)


@torch.no_grad()
def reconstruct(model: WorldModel, unroll: Unroll, history: History, threshold: float) -> tuple[Floats, Bools | None]:
    """The same at every row up to the longest window's present, (B, T, N, O) and (B, T, N, A).

    No row knows of a later one, so each is what `complete` said when it was the present, if the window begins there.
    """
    every, anew = np.ones_like(history.start), np.zeros_like(history.rows)
    return _said(model, _unrolled(model, unroll, history, every, anew, int(history.rows.max())), threshold)


def semi_posterior(model: WorldModel, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Unrolled:
    """M's posterior fed with what arrived and zeros elsewhere, z its mode: line 34; see Unroll.

    What M said is never fed back as if it had been observed.
    """
    return Unrolled(observe(model, obs, seen, act, h, None).features)


def _reach(model: WorldModel, unroll: Unroll, history: History, teams: Bools, begin: Ints, steps: int) -> None:
    """Unroll the windows of the chosen teams (B,) over `steps` rows from begin (B,) on, and keep their present."""
    rows = history.rows[teams]
    present = torch.arange(len(rows)), torch.from_numpy(rows - begin[teams] - 1)
    history.reached.keep(teams, rows, _unrolled(model, unroll, history, teams, begin, steps)[present])


def _unrolled(model: WorldModel, unroll: Unroll, history: History, teams: Bools, begin: Ints, steps: int) -> Unrolled:
    """(M, steps, N, .): M over the chosen teams' windows from row begin (B,) on; rows behind the present are void."""
    chosen, device = np.flatnonzero(teams)[:, None], model.obs_mean.device
    rows = np.minimum(begin[teams][:, None] + np.arange(steps), history.obs.shape[1] - 1)
    obs, seen, act = (torch.from_numpy(x[chosen, rows]).to(device) for x in (history.obs, history.seen, history.act))
    return unroll(model.normalise(obs), seen.float(), act, _before(model, history, teams, begin))


def _before(model: WorldModel, history: History, teams: Bools, begin: Ints) -> Tensor:
    """h (M, N, D) of row begin (B,): a new one, or that which the row before leads to, if it is not the first."""
    device, left = model.obs_mean.device, begin[teams]
    h = model.initial(torch.from_numpy(history.start[teams]).float().to(device))
    last = history.reached.last
    if last is None or not left.any():
        return h
    act = torch.from_numpy(history.act[np.flatnonzero(teams), left - 1]).to(device)
    h_left, z_left = last.features[torch.from_numpy(teams)].tensor_split((model.settings.deter,), -1)
    resumed = model.advance(h_left, z_left, model.embed_action(act))
    return torch.where(torch.from_numpy(left > 0).to(device)[:, None, None], resumed, h)


def _said(model: WorldModel, unrolled: Unrolled, threshold: float) -> tuple[Floats, Bools | None]:
    avail = model.predict.available(unrolled.features, threshold)
    completed = model.denormalise(unrolled.said(model)) * model.width_mask
    return completed.cpu().numpy(), None if avail is None else avail.cpu().numpy()
