"""The predictors of eqs. (3a)-(3d)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rmiov2.networks import mlp
from rmiov2.world_model.layout import Layout


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


class EachHead(nn.Module):
    """One number of every agent, from its own features alone."""

    def __init__(self, features: int, hidden: int, layers: int, layout: Layout) -> None:
        super().__init__()
        self.each = layout.head(features, hidden, layers, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features (..., N, D+Z) to (..., N)."""
        return self.each(features).squeeze(-1)  # type: ignore[no-any-return]


class ActionHead(nn.Module):
    """What the agent did last, from the last hidden layer of its observation's decoding; MAMBA, info_loss."""

    def __init__(self, hidden: int, act_dim: int, layout: Layout) -> None:
        super().__init__()
        self.features = layout.head(hidden, hidden, 1, hidden)
        self.act = nn.Linear(hidden, act_dim)

    def forward(self, decoding: Tensor) -> Tensor:
        """decoding (..., N, hidden) to logits or means (..., N, A)."""
        return self.act(torch.relu(self.features(decoding)))  # type: ignore[no-any-return]


class Predictors(nn.Module):
    """o_t and avail of every agent, reward and continuation of the team, or of each agent; eqs. (3a)-(3d)."""

    def __init__(
        self, features: int, hidden: int, layers: int, obs_dim: int, act_dim: int, discrete: bool, layout: Layout
    ) -> None:
        super().__init__()
        self.each = layout.each
        self.obs = layout.perceptron(features, hidden, layers + layout.deeper, obs_dim)
        self.avail = layout.head(features, hidden, layers, act_dim) if discrete else None
        self.rew, self.con = (
            EachHead(features, hidden, layers, layout) if layout.each else TeamHead(features, hidden, layers)
            for _ in range(2)
        )
        self.act = ActionHead(hidden, act_dim, layout) if layout.action_head else None

    def available(self, features: Tensor, threshold: float = 0.5) -> Tensor | None:
        """The mask (..., N, A): actions likelier than threshold, and always the likeliest; None if continuous."""
        if self.avail is None:
            return None
        logits = self.avail(features)
        mask: Tensor = (logits > math.log(threshold / (1 - threshold))) | (
            logits == logits.max(-1, keepdim=True).values
        )
        return mask

    def drawn(self, features: Tensor, uniform: Tensor) -> Tensor | None:
        """A mask (..., N, A) drawn with uniform numbers (..., N, A); where it allows nothing, the likeliest."""
        if self.avail is None:
            return None
        logits = self.avail(features)
        mask: Tensor = uniform < torch.sigmoid(logits)
        likeliest: Tensor = logits == logits.max(-1, keepdim=True).values
        return mask | (~mask.any(-1, keepdim=True) & likeliest)

    def reward(self, features: Tensor) -> Tensor:
        """r of the step that led here, (...,); the mean of what each agent says."""
        return self.rew(features).mean(-1) if self.each else self.rew(features)  # type: ignore[no-any-return]

    def continuation(self, features: Tensor) -> Tensor:
        """Probability (...,), or (..., N), that the step that led here did not end the game."""
        return torch.sigmoid(self.con(features))
