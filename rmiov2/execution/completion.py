"""What blind agents would have seen, from the last l steps of the team (Algorithm 2, lines 30-36)."""

from __future__ import annotations

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


@torch.no_grad()
def complete(model: WorldModel, history: History, teams: Bools, threshold: float) -> tuple[Floats, Bools | None]:
    """The present observations and availability as M has them, (M, N, O) and (M, N, A), of the chosen teams (B,).

    An action counts as available if M gives it more than `threshold`.
    """
    features = _unroll(model, history, teams)
    last = torch.from_numpy(history.rows[teams] - 1).to(features.device)
    return _said(model, features[torch.arange(len(last), device=features.device), last], threshold)


@torch.no_grad()
def reconstruct(model: WorldModel, history: History, threshold: float) -> tuple[Floats, Bools | None]:
    """The same at every row up to the longest window's present, (B, T, N, O) and (B, T, N, A).

    No row knows of a later one, so each is what `complete` said when it was the present, if the window begins there.
    """
    return _said(model, _unroll(model, history, np.ones_like(history.start)), threshold)


def _unroll(model: WorldModel, history: History, teams: Bools) -> Tensor:
    """Features (M, T, N, D+Z): M over the window from h_0, its posterior fed with what arrived and zeros elsewhere.

    That is the semi-posterior of line 34; z is the mode. What M said is never fed back as if it had been observed.
    """
    device = model.obs_mean.device
    longest = int(history.rows[teams].max())
    obs, seen, act, start = (
        torch.from_numpy(x[teams]).to(device)
        for x in (history.obs[:, :longest], history.seen[:, :longest], history.act[:, :longest], history.start)
    )
    return observe(model, model.normalise(obs), seen.float(), act, start.float(), None).features


def _said(model: WorldModel, features: Tensor, threshold: float) -> tuple[Floats, Bools | None]:
    avail = model.predict.available(features, threshold)
    completed = model.denormalise(model.predict.obs(features)) * model.width_mask
    return completed.cpu().numpy(), None if avail is None else avail.cpu().numpy()
