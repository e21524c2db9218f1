"""What agents of one set of weights share: the recurrent network of QMIX and of FACMAC on discrete actions, and ids."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmiov2 import config
from rmiov2.types import EnvSpec


class Recurrent(nn.Module):
    """One number per action of own observation, own last action, own index and own memory; QMIX, figure 2 (c)."""

    def __init__(self, settings: config.Policy, spec: EnvSpec) -> None:
        super().__init__()
        self.agent_ids, hidden = settings.agent_ids, settings.hidden
        self.body = nn.Linear(spec.obs_dim + spec.act_dim + (spec.num_agents if self.agent_ids else 0), hidden)
        self.memory = nn.GRU(hidden, hidden)
        self.head = nn.Linear(hidden, spec.act_dim)

    def initial(self, teams: int, agents: int) -> Tensor:
        """An empty memory, (teams, N, hidden)."""
        return self.head.weight.new_zeros(teams, agents, self.memory.hidden_size)

    def forward(self, obs: Tensor, before: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(M, T, N, A) and the memory after the last row, of obs (M, T, N, O) and before (M, T, N, A), one-hot."""
        m, t, n, _ = obs.shape
        inputs = with_ids(torch.cat([obs, before], -1), self.agent_ids)
        x = F.relu(self.body(inputs.transpose(0, 1))).reshape(t, m * n, -1)
        out, last = self.memory(x, memory.reshape(1, m * n, -1))
        return self.head(out).view(t, m, n, -1).transpose(0, 1), last.view(m, n, -1)


def with_ids(inputs: Tensor, agent_ids: bool) -> Tensor:
    """inputs (..., N, X) with each agent's one-hot index behind, if agent_ids."""
    if not agent_ids:
        return inputs
    n = inputs.shape[-2]
    return torch.cat([inputs, torch.eye(n, device=inputs.device).expand(*inputs.shape[:-1], n)], -1)
