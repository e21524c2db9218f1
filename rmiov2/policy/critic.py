"""V(s): centralised, over all agents' (h, z); used in training only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rmiov2.networks import FusionLayer, mlp, sinusoids


class Critic(nn.Module):
    """Attention over the agents, then one value for the team."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(features, hidden), nn.LayerNorm(hidden), nn.SiLU())
        self.fuse = FusionLayer(hidden, 4, 0)
        self.value = mlp(hidden, hidden, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """features (M, N, F) to (M,)."""
        return self.value(self.fuse(self.each(features)).mean(-2)).squeeze(-1)  # type: ignore[no-any-return]


class AttentionCritic(nn.Module):
    """A value for every agent, after attention over the agents; MAMBA, networks/dreamer/critic.py."""

    positions: Tensor

    def __init__(self, features: int, agents: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.each = nn.Linear(features, hidden)
        self.fuse = FusionLayer(hidden, heads, hidden, nn.ReLU)
        self.value = mlp(hidden, hidden, 1, 1, nn.ReLU, norm=False)
        self.register_buffer("positions", sinusoids(agents, hidden), persistent=False)  # (N, hidden)

    def forward(self, features: Tensor) -> Tensor:
        """features (M, N, F) to (M, N)."""
        fused = self.fuse(torch.relu(self.each(features)) + self.positions)
        return self.value(torch.relu(fused)).squeeze(-1)  # type: ignore[no-any-return]


class ValueNorm(nn.Module):
    """Running mean and deviation of the returns, debiased, so that the critic learns numbers of order one."""

    mean: Tensor
    square: Tensor
    debias: Tensor

    def __init__(self, enabled: bool, decay: float = 0.99, least: float = 1e-4) -> None:
        super().__init__()
        self.enabled, self.decay, self.least = enabled, decay, least
        for name in ("mean", "square", "debias"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, returns: Tensor) -> None:
        """Take the returns, of any shape, into the moments."""
        for name, value in (("mean", returns.mean()), ("square", (returns**2).mean()), ("debias", torch.ones(()))):
            getattr(self, name).mul_(self.decay).add_(value, alpha=1 - self.decay)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation, whose square is never below `least`."""
        one = torch.ones_like(self.mean)
        if not self.enabled:
            return torch.zeros_like(self.mean), one
        begun = self.debias > 0
        debias = torch.where(begun, self.debias, one)
        mean = self.mean / debias
        std = (self.square / debias - mean**2).clamp(min=self.least).sqrt()
        return mean, torch.where(begun, std, one)

    def normalise(self, returns: Tensor) -> Tensor:
        """Returns in the critic's units."""
        mean, std = self.moments()
        return (returns - mean) / std

    def denormalise(self, values: Tensor) -> Tensor:
        """The critic's output in units of reward."""
        mean, std = self.moments()
        return values * std + mean


class ReturnScale(nn.Module):
    """The running spread of the returns, from their 5th to their 95th percentile, by which advantages are divided.

    Unlike standardising each batch it does not blow noise up while nothing has been learned yet; Hafner et al. 2023.
    """

    spread: Tensor
    debias: Tensor

    def __init__(self, floor: float, decay: float = 0.98) -> None:
        super().__init__()
        self.floor, self.decay = floor, decay
        for name in ("spread", "debias"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, returns: Tensor) -> Tensor:
        """Take the returns, of any shape, into the spread; the divisor, never below the floor."""
        low, high = torch.quantile(returns.flatten(), torch.tensor([0.05, 0.95], device=returns.device))
        self.spread.mul_(self.decay).add_((high - low) * (1 - self.decay))
        self.debias.mul_(self.decay).add_(1 - self.decay)
        return (self.spread / self.debias).clamp(min=self.floor)
