"""MAPPO's actor and critic: normalised inputs, ReLU layers, and a memory if there is one; Yu et al. 2022."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from rmiov2 import config
from rmiov2.policy.actor import Choices, initial_log_std
from rmiov2.policy.recurrent import with_ids
from rmiov2.types import EnvSpec


class Body(nn.Module):
    """LayerNorm, 1 + layers of Linear, ReLU, LayerNorm, then a GRU with a LayerNorm behind it."""

    def __init__(self, inputs: int, hidden: int, settings: config.MAPPO) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.LayerNorm(inputs)]
        for layer in range(1 + settings.layers):
            parts += [nn.Linear(hidden if layer else inputs, hidden), nn.ReLU(), nn.LayerNorm(hidden)]
        self.layers = nn.Sequential(*parts)
        self.memory = nn.GRU(hidden, hidden, batch_first=True) if settings.recurrent else None
        self.norm = nn.LayerNorm(hidden) if settings.recurrent else nn.Identity()
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                gain = 1.0 if name.startswith("memory") else nn.init.calculate_gain("relu")
                nn.init.orthogonal_(parameter, gain=gain)
            elif "bias" in name:
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """x (M, T, K, F) and memory (M, K, hidden) to features and the memory after every step, (M, T, K, hidden)."""
        m, t, k, _ = x.shape
        features = self.layers(x)
        if self.memory is None:
            return features, memory[:, None].expand(m, t, k, -1)
        rows = features.transpose(1, 2).reshape(m * k, t, -1)
        after = self.memory(rows, memory.reshape(1, m * k, -1))[0].view(m, k, t, -1).transpose(1, 2)
        return self.norm(after), after


class MAPPOActor(Choices):
    """pi(a^i | o^i, own memory), parameters shared by the agents."""

    def __init__(self, policy: config.Policy, settings: config.MAPPO, spec: EnvSpec) -> None:
        super().__init__(policy, spec)
        self.body = Body(spec.obs_dim + (spec.num_agents if policy.agent_ids else 0), policy.hidden, settings)
        self.head = head(policy.hidden, spec.act_dim, settings.gain)
        self.log_std = initial_log_std(spec)
        if self.log_std is not None:
            nn.init.constant_(self.log_std, math.log(settings.std))

    def unroll(self, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Logits or means (M, T, N, A) and the memory after every step (M, T, N, hidden), of obs (M, T, N, O)."""
        features, after = self.body(self.named(obs), memory)
        return self.head(features), after

    def log_prob(self, out: Tensor, act: Tensor, avail: Tensor | None) -> Tensor:
        """(..., N), of what was played: at a bound of the box the whole tail beyond it; Fujita and Maeda 2018."""
        if avail is not None:
            return super().log_prob(out, act, avail)
        std = self.std()
        density = -0.5 * ((act - out) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)
        tail = torch.special.log_ndtr((act.sign() * out - 1) / std)
        return (torch.where(act.abs() >= 1, tail, density) * self.width_mask).sum(-1)


class MAPPOCritic(nn.Module):
    """V of the state for the team, K = 1; or, with own_obs, V^i of state, observation and index, K = N."""

    def __init__(self, policy: config.Policy, settings: config.MAPPO, spec: EnvSpec) -> None:
        super().__init__()
        n = spec.num_agents
        self.own_obs, self.values, self.hidden = settings.own_obs, n if settings.own_obs else 1, policy.critic_hidden
        state = spec.state_dim or n * spec.obs_dim
        self.body = Body(state + (spec.obs_dim + n if settings.own_obs else 0), policy.critic_hidden, settings)
        self.value = head(policy.critic_hidden, 1, 1.0)

    def initial(self, teams: int) -> Tensor:
        """An empty memory, (teams, K, hidden)."""
        return torch.zeros(teams, self.values, self.hidden, device=self.value.weight.device)

    def unroll(self, state: Tensor, obs: Tensor, active: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Values (M, T, K) and the memory after every step (M, T, K, hidden).

        state (M, T, S), the observations where S = 0 · obs (M, T, N, O) · active (M, T, N), whose rows are zeros else.
        """
        m, t, n, _ = obs.shape
        x = (state if state.shape[-1] else obs.flatten(-2))[:, :, None]
        if self.own_obs:
            x = with_ids(torch.cat([x.expand(m, t, n, -1), obs], -1) * active[..., None], True)
        features, after = self.body(x, memory)
        return self.value(features).squeeze(-1), after


def head(hidden: int, outputs: int, gain: float) -> nn.Linear:
    """A last layer with orthogonal weights and no bias to begin with."""
    layer = nn.Linear(hidden, outputs)
    nn.init.orthogonal_(layer.weight, gain=gain)
    nn.init.zeros_(layer.bias)
    return layer
