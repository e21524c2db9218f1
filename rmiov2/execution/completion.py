"""What blind agents would have seen, from the last l steps of the team (Algorithm 2, lines 30-36)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from rmiov2.types import Actions, Bools, EnvSpec, Floats
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

    def saw(self, obs: Floats, seen: Bools, first: Bools) -> None:
        """Append the present row: obs (B, N, O) already blanked, seen (B, N); first (B,) empties the window before."""
        self.rows[first], self.start[first], self.seen[first] = 0, True, False
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


class Unroll(Protocol):
    """obs (B, T, N, O) normalised, seen (B, T, N) 0 or 1, act (B, T, ...), start (B,) to what M makes of them.

    Nothing of an observation that was not seen may reach it, and no row may know of a later one.
    """

    def __call__(self, obs: Tensor, seen: Tensor, act: Tensor, start: Tensor) -> Unrolled: ...


@torch.no_grad()
def complete(
    model: WorldModel, unroll: Unroll, history: History, teams: Bools, threshold: float, fixed: bool = False
) -> tuple[Floats, Bools | None]:
    """The present observations and availability as M has them, (M, N, O) and (M, N, A), of the chosen teams (B,).

    An action counts as available if M gives it more than `threshold`. fixed: unroll every team's whole window, so that
    its shapes are the same whoever is blind; what is said is too, since no row knows of a later one.
    """
    unrolled = np.ones_like(teams) if fixed else teams
    whole = _unrolled(model, unroll, history, unrolled, history.obs.shape[1] if fixed else None)
    device = whole.features.device
    last = torch.from_numpy(history.rows[teams] - 1).to(device)
    present = torch.from_numpy(np.flatnonzero(teams[unrolled])).to(device), last
    at_present = Unrolled(whole.features[present], None if whole.obs is None else whole.obs[present])
    return _said(model, at_present, threshold)


@torch.no_grad()
def reconstruct(model: WorldModel, unroll: Unroll, history: History, threshold: float) -> tuple[Floats, Bools | None]:
    """The same at every row up to the longest window's present, (B, T, N, O) and (B, T, N, A).

    No row knows of a later one, so each is what `complete` said when it was the present, if the window begins there.
    """
    return _said(model, _unrolled(model, unroll, history, np.ones_like(history.start)), threshold)


def semi_posterior(model: WorldModel, obs: Tensor, seen: Tensor, act: Tensor, start: Tensor) -> Unrolled:
    """M's posterior fed with what arrived and zeros elsewhere, z its mode: line 34; see Unroll.

    What M said is never fed back as if it had been observed.
    """
    return Unrolled(observe(model, obs, seen, act, start, None).features)


def _unrolled(model: WorldModel, unroll: Unroll, history: History, teams: Bools, rows: int | None = None) -> Unrolled:
    """(M, T, N, .): M over the window from h_0, up to the longest's present or over so many rows."""
    device = model.obs_mean.device
    longest = int(history.rows[teams].max()) if rows is None else rows
    obs, seen, act, start = (
        torch.from_numpy(x[teams]).to(device)
        for x in (history.obs[:, :longest], history.seen[:, :longest], history.act[:, :longest], history.start)
    )
    return unroll(model.normalise(obs), seen.float(), act, start.float())


def _said(model: WorldModel, unrolled: Unrolled, threshold: float) -> tuple[Floats, Bools | None]:
    avail = model.predict.available(unrolled.features, threshold)
    completed = model.denormalise(unrolled.said(model)) * model.width_mask
    return completed.cpu().numpy(), None if avail is None else avail.cpu().numpy()
