"""Q_tot: what the agents' own values are worth together, by a small network whose weights the global state makes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Mixer(nn.Module):
    """QMIX's mixing network (Rashid et al. 2018, section 4.1), or FACMAC's without its constraint (Peng et al. 2021).

    Two layers; a hypernetwork of two layers makes each one's weights, and V(s) is the bias of the second.
    """

    def __init__(self, agents: int, state: int, width: int, hyper: int, monotone: bool) -> None:
        super().__init__()
        self.agents, self.width, self.monotone = agents, width, monotone
        self.weight_1 = _two_layers(state, hyper, agents * width)
        self.bias_1 = nn.Linear(state, width)
        self.weight_2 = _two_layers(state, hyper, width)
        self.bias_2 = _two_layers(state, width, 1)

    def forward(self, q: Tensor, state: Tensor) -> Tensor:
        """Q_tot (...,) of the agents' values q (..., N) in the state (..., S)."""
        weight_1 = self.weight_1(state).unflatten(-1, (self.agents, self.width))
        weight_2 = self.weight_2(state)
        if self.monotone:  # QMIX, section 4: dQ_tot / dQ_i >= 0 for every i, so that each agent's best is the team's
            weight_1, weight_2 = weight_1.abs(), weight_2.abs()
        hidden = F.elu((q[..., None] * weight_1).sum(-2) + self.bias_1(state))
        return (hidden * weight_2).sum(-1) + self.bias_2(state).squeeze(-1)  # type: ignore[no-any-return]


def _two_layers(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
