"""FACMAC's networks: an actor for each kind of action behind one face, and the critic that is centralised but factored.

Actions are as the critic reads them, (..., N, A): one-hot, or in [-1, 1] and zero beyond an agent's width.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmiov2 import config
from rmiov2.agents.off_policy import readable, state_width
from rmiov2.policy.exploration import epsilon, gumbel, or_uniform, straight_through
from rmiov2.policy.mixing import Mixer
from rmiov2.policy.recurrent import Recurrent, with_ids
from rmiov2.types import EnvSpec


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers with ReLU."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )


class ContinuousActor(nn.Module):
    """mu(o): deterministic, without memory; explores by Gaussian noise."""

    widths: Tensor

    def __init__(self, policy: config.Policy, settings: config.FACMAC, spec: EnvSpec) -> None:
        super().__init__()
        self.agent_ids, self.settings = policy.agent_ids, settings
        self.body = perceptron(spec.obs_dim + (spec.num_agents if policy.agent_ids else 0), policy.hidden, spec.act_dim)
        self.register_buffer("widths", torch.from_numpy(spec.act_mask).float(), persistent=False)

    def initial(self, teams: int, agents: int) -> Tensor:
        """A memory of no width."""
        return torch.zeros(teams, agents, 0)

    def forward(self, obs: Tensor, before: Tensor, memory: Tensor, skip: int = 0) -> tuple[Tensor, Tensor]:
        """Actions (M, T - skip, N, A) of obs (M, T, N, O), and the memory after."""
        return torch.tanh(self.body(with_ids(obs[:, skip:], self.agent_ids))) * self.widths, memory

    def best(self, out: Tensor, avail: Tensor | None) -> Tensor:
        """What is done without exploring."""
        return out

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        """Nothing: the policy is deterministic."""
        return None

    def differentiable(self, out: Tensor, avail: Tensor | None, noise: Tensor | None) -> Tensor:
        """The policy's actions, through which the actor learns."""
        return out

    def explore(self, out: Tensor, avail: Tensor | None, env_steps: int, rng: np.random.Generator) -> Tensor:
        """What is done while collecting."""
        noise = torch.from_numpy(rng.standard_normal(out.shape).astype(np.float32))
        return (out + self.settings.noise * noise).clamp(-1, 1) * self.widths


class DiscreteActor(nn.Module):
    """Logits with a memory; explores by its own probabilities and, a share epsilon, uniformly."""

    def __init__(self, policy: config.Policy, settings: config.FACMAC, spec: EnvSpec) -> None:
        super().__init__()
        self.settings, self.spec = settings, spec
        self.body = Recurrent(policy, spec)

    def initial(self, teams: int, agents: int) -> Tensor:
        """An empty memory, (teams, N, hidden)."""
        return self.body.initial(teams, agents)

    def forward(self, obs: Tensor, before: Tensor, memory: Tensor, skip: int = 0) -> tuple[Tensor, Tensor]:
        """Logits (M, T - skip, N, A) of obs (M, T, N, O) and before (M, T, N, A), and the memory after the last row."""
        out, last = self.body(obs, before, memory)
        return out[:, skip:], last

    def best(self, out: Tensor, avail: Tensor | None) -> Tensor:
        """What is done without exploring."""
        return F.one_hot(only(out, avail).argmax(-1), out.shape[-1]).float()

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        """What makes differentiable draws of the logits."""
        return gumbel(shape, generator)

    def differentiable(self, out: Tensor, avail: Tensor | None, noise: Tensor | None) -> Tensor:
        """Draws of the policy, through which the actor learns."""
        assert noise is not None
        return straight_through(only(out, avail), noise)

    def explore(self, out: Tensor, avail: Tensor | None, env_steps: int, rng: np.random.Generator) -> Tensor:
        """What is done while collecting."""
        assert avail is not None
        drawn = (only(out, avail).numpy() + rng.gumbel(size=out.shape)).argmax(-1)
        return readable(or_uniform(drawn, avail.numpy(), epsilon(self.settings, env_steps), rng), self.spec)


Actor = ContinuousActor | DiscreteActor


def only(logits: Tensor, avail: Tensor | None) -> Tensor:
    """-inf for what avail (..., A) forbids."""
    assert avail is not None
    return logits.masked_fill(~avail, -math.inf)


class FactoredCritic(nn.Module):
    """Q_tot of all observations and actions: one network for each agent's own, then the mixer; FACMAC, section 3.1."""

    def __init__(self, policy: config.Policy, settings: config.FACMAC, spec: EnvSpec) -> None:
        super().__init__()
        self.each = perceptron(spec.obs_dim + spec.act_dim, policy.critic_hidden, 1)
        self.mixer = Mixer(spec.num_agents, state_width(spec), settings.mixer, settings.hyper, settings.monotone)

    def forward(self, obs: Tensor, act: Tensor, state: Tensor) -> Tensor:
        """(...,) of obs (..., N, O), act (..., N, A) and state (..., S)."""
        return self.mixer(self.each(torch.cat([obs, act], -1)).squeeze(-1), state)  # type: ignore[no-any-return]
