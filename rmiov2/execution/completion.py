"""What blind agents would have seen, from the last l steps of the team (Algorithm 2, lines 30-36)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from rmiov2.execution.history import History
from rmiov2.types import Actions, Bools, Floats, Ints
from rmiov2.world_model.rollout import observe
from rmiov2.world_model.rssm import WorldModel


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


class Unroll(Protocol):
    """obs (B, T, N, O) normalised, seen (B, T, N) 0 or 1, act (B, T, ...), h (B, N, D) of row 0 to what M makes of it.

    Nothing of an observation that was not seen may reach it, and no row may know of a later one. What a row hands on to
    the next is in its features alone, so that an unroll can be left and resumed.
    """

    def __call__(self, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Unrolled: ...


def semi_posterior(model: WorldModel, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Unrolled:
    """M's posterior fed with what arrived and zeros elsewhere, z its mode: line 34; see Unroll.

    What M said is never fed back as if it had been observed.
    """
    return Unrolled(observe(model, obs, seen, act, h, None).features)


class Completion:
    """The world model at work on the histories of B teams: what each agent would see, and could do.

    unroll is the method's way to run M over a window. An action counts as available if M gives it more than
    `threshold`. captured: the same unroll for a device on which shapes must recur, whoever is blind; every team's whole
    window is unrolled there then. The weights of M must stay as they are while the teams play, and what they see and do
    must come in by saw and did, not by the history's own.
    """

    def __init__(
        self, model: WorldModel, unroll: Unroll, history: History, threshold: float, captured: Unroll | None = None
    ) -> None:
        self.model, self.unroll, self.history = model, unroll, history
        self.threshold, self.captured = threshold, captured
        self.unrolled_rows = np.zeros(len(history.rows), np.int64)  # (B,), from the window's row 0 on
        self._last: Unrolled | None = None  # what M made of the last of them, (B, N, .)

    def saw(self, obs: Floats, seen: Bools, first: Bools) -> None:
        """The present row; see History.saw."""
        self.history.saw(obs, seen, first)
        self.unrolled_rows[first] = 0

    def did(self, act: Actions) -> None:
        """The action taken at the present row; see History.did."""
        self.history.did(act)

    @torch.no_grad()
    def present(self, teams: Bools) -> tuple[Floats, Bools | None]:
        """Of the chosen teams (B,): observations (M, N, O) and availability (M, N, A) at their present row.

        Windows that begin with the episode are resumed where they were left, those of the other teams too, which keeps
        all in step; one that has moved on since is unrolled anew.
        """
        history, anew = self.history, np.zeros_like(self.unrolled_rows)
        if self.captured is not None:
            self._reach(self.captured, np.ones_like(teams), anew, history.obs.shape[1])
        else:
            for group, begin in ((history.start, self.unrolled_rows), (teams & ~history.start, anew)):
                ahead = history.rows - begin
                if (group & teams & (ahead > 0)).any():  # else nobody asks, or asks again
                    self._reach(self.unroll, group & (ahead > 0), begin, int(ahead[group].max()))
        assert self._last is not None
        return self._said(self._last[torch.from_numpy(teams)])

    @torch.no_grad()
    def every_row(self) -> tuple[Floats, Bools | None]:
        """The same of every team at every row up to the longest window's present, (B, T, N, O) and (B, T, N, A).

        No row knows of a later one, so each is what it was as the present, if the window begins there.
        """
        every, anew = np.ones_like(self.history.start), np.zeros_like(self.unrolled_rows)
        return self._said(self._unrolled(self.unroll, every, anew, int(self.history.rows.max())))

    def _reach(self, unroll: Unroll, teams: Bools, begin: Ints, steps: int) -> None:
        """Unroll the windows of the chosen teams (B,) over `steps` rows from begin (B,) on, and keep their present."""
        rows = self.history.rows[teams]
        present = torch.arange(len(rows)), torch.from_numpy(rows - begin[teams] - 1)
        self._keep(teams, self._unrolled(unroll, teams, begin, steps)[present])
        self.unrolled_rows[teams] = rows

    def _keep(self, teams: Bools, present: Unrolled) -> None:
        """present (M, N, .) of the chosen teams."""
        if self._last is None:
            features, obs = present.features, present.obs
            room = features.new_zeros(len(teams), *features.shape[1:])
            self._last = Unrolled(room, None if obs is None else obs.new_zeros(len(teams), *obs.shape[1:]))
        chosen = torch.from_numpy(teams).to(present.features.device)
        self._last.features[chosen] = present.features
        if self._last.obs is not None:
            assert present.obs is not None
            self._last.obs[chosen] = present.obs

    def _unrolled(self, unroll: Unroll, teams: Bools, begin: Ints, steps: int) -> Unrolled:
        """(M, steps, N, .): M over the chosen teams' windows from row begin (B,) on; behind the present it is void."""
        kept, chosen, device = self.history, np.flatnonzero(teams)[:, None], self.model.obs_mean.device
        rows = np.minimum(begin[teams][:, None] + np.arange(steps), kept.obs.shape[1] - 1)
        obs, seen, act = (torch.from_numpy(x[chosen, rows]).to(device) for x in (kept.obs, kept.seen, kept.act))
        return unroll(self.model.normalise(obs), seen.float(), act, self._before(teams, begin))

    def _before(self, teams: Bools, begin: Ints) -> Tensor:
        """h (M, N, D) of row begin (B,): a new one, or that which the row before leads to, if it is not the first."""
        model, left = self.model, begin[teams]
        device = model.obs_mean.device
        h = model.initial(torch.from_numpy(self.history.start[teams]).float().to(device))
        if self._last is None or not left.any():
            return h
        act = torch.from_numpy(self.history.act[np.flatnonzero(teams), left - 1]).to(device)
        h_left, z_left = self._last.features[torch.from_numpy(teams)].tensor_split((model.settings.deter,), -1)
        resumed = model.advance(h_left, z_left, model.embed_action(act))
        return torch.where(torch.from_numpy(left > 0).to(device)[:, None, None], resumed, h)

    def _said(self, unrolled: Unrolled) -> tuple[Floats, Bools | None]:
        avail = self.model.predict.available(unrolled.features, self.threshold)
        completed = self.model.denormalise(unrolled.said(self.model)) * self.model.width_mask
        return completed.cpu().numpy(), None if avail is None else avail.cpu().numpy()
