"""The predictors of eqs. (3a)-(3d)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rmiov2.networks import mlp


class TeamHead(nn.Module):
    """One number from all agents' (h, z), whatever their number or order: embed each, average, read out."""

    def __init__(self, features: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(features, hidden), nn.LayerNorm(hidden), nn.SiLU())
        self.team = mlp(hidden, hidden, max(1, layers - 1), 1)
        nn.init.zeros_(self.team.get_parameter(f"{len(self.team) - 1}.weight"))

    def forward(self, features: Tensor) -> Tensor:
        """features (..., N, D+Z) to (...,)."""
        return self.team(self.each(features).mean(-2)).squeeze(-1)  # type: ignore[no-any-return]


class Predictors(nn.Module):
    """o_t and avail of every agent, reward and continuation of the team; eqs. (3a)-(3d)."""

    def __init__(self, features: int, hidden: int, layers: int, obs_dim: int, avail_dim: int) -> None:
        super().__init__()
        self.obs = mlp(features, hidden, layers, obs_dim)
        self.avail = mlp(features, hidden, layers, avail_dim) if avail_dim else None
        self.rew = TeamHead(features, hidden, layers)
        self.con = TeamHead(features, hidden, layers)

    def available(self, features: Tensor, threshold: float = 0.5) -> Tensor | None:
        """The mask (..., N, A): actions likelier than threshold, and always the likeliest; None if continuous."""
        if self.avail is None:
            return None
        logits = self.avail(features)
        mask: Tensor = (logits > math.log(threshold / (1 - threshold))) | (
            logits == logits.max(-1, keepdim=True).values
        )
        return mask

    def reward(self, features: Tensor) -> Tensor:
        """r of the step that led here, (...,)."""
        return self.rew(features)  # type: ignore[no-any-return]

    def continuation(self, features: Tensor) -> Tensor:
        """Probability (...,) that the step that led here did not end the game."""
        return torch.sigmoid(self.con(features))
