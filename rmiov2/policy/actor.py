"""pi(a^i | o^i, own memory): recurrent, parameters shared by the agents, no world-model feature as input."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmiov2 import config
from rmiov2.acceleration.deferred_gradients import GRU
from rmiov2.acceleration.fused import fused, fused_to_learn
from rmiov2.networks import mlp
from rmiov2.policy.exploration import gumbel
from rmiov2.types import EnvSpec

LOG_STD_RANGE = (-2.5, 0.5)
# Wide on purpose: begun with 0.37 instead of 0.6, HalfCheetah still stood after 56 000 steps; so it runs by 48 000.
INITIAL_LOG_STD = -0.5


class Choices(nn.Module):
    """From what a network says to actions. Discrete: masked categorical over A. Continuous: diagonal Gaussian.

    log_std (N, A), None where actions are discrete, is the heir's to set, after its networks.
    """

    width_mask: Tensor
    log_std: nn.Parameter | None

    def __init__(self, settings: config.Policy, spec: EnvSpec) -> None:
        super().__init__()
        self.settings, self.spec = settings, spec
        self.register_buffer("width_mask", torch.from_numpy(spec.act_mask).float(), persistent=False)  # (N, A)

    def initial(self, teams: int) -> Tensor:
        """An empty memory, (teams, N, hidden)."""
        return torch.zeros(teams, self.spec.num_agents, self.settings.hidden, device=self.width_mask.device)

    def named(self, obs: Tensor) -> Tensor:
        """obs (..., N, O) with each agent's one-hot index behind it, if settings say so."""
        n = self.spec.num_agents
        if not self.settings.agent_ids:
            return obs
        return torch.cat([obs, torch.eye(n, device=obs.device).expand(*obs.shape[:-1], n)], -1)

    def log_probs(self, logits: Tensor, avail: Tensor) -> Tensor:
        """(..., A): of every action; exactly -inf for what avail (..., A) forbids."""
        masked = logits.masked_fill(~avail, -1e9)
        if self.settings.unimix:
            uniform = avail / avail.sum(-1, keepdim=True)
            probs = (1 - self.settings.unimix) * torch.softmax(masked, -1) + self.settings.unimix * uniform
            return probs.masked_fill(~avail, 1.0).log().masked_fill(~avail, -math.inf)
        return F.log_softmax(masked, -1).masked_fill(~avail, -math.inf)

    def noise(self, shape: torch.Size, generator: torch.Generator) -> Tensor:
        """What makes a draw of it: Gumbel noise for discrete actions, normal for continuous, of the shape of `out`."""
        if not self.spec.discrete:
            return torch.randn(shape, generator=generator, device=generator.device)
        return gumbel(shape, generator)

    def noise_from(self, rng: np.random.Generator, shape: torch.Size) -> Tensor:
        """The same from the generator of the play."""
        drawn = rng.standard_normal(shape) if not self.spec.discrete else rng.gumbel(size=shape)
        return torch.from_numpy(drawn.astype(np.float32))

    def draw(self, out: Tensor, avail: Tensor | None, noise: Tensor | None) -> Tensor:
        """An action per agent, (..., N) or (..., N, A), of out (..., N, A); the likeliest without noise."""
        if avail is None:
            return (out if noise is None else out + noise * self.std()) * self.width_mask
        scores = self.log_probs(out, avail) if self.settings.unimix else out.masked_fill(~avail, -math.inf)
        return (scores if noise is None else scores + noise).argmax(-1)

    def choose(self, out: Tensor, avail: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A drawn action per agent and its log-probability (..., N)."""
        return self.drawn(out, avail, self.noise(out.shape, generator).to(out.device))

    @fused
    def drawn(self, out: Tensor, avail: Tensor | None, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The action per agent that the noise draws, and its log-probability (..., N)."""
        act = self.draw(out, avail, noise)
        return act, self.log_prob(out, act, avail)

    def std(self) -> Tensor:
        """(N, A), continuous only."""
        assert self.log_std is not None
        return self.log_std.clamp(*LOG_STD_RANGE).exp()

    def log_prob(self, out: Tensor, act: Tensor, avail: Tensor | None) -> Tensor:
        """(..., N), of what was chosen: act (..., N) or (..., N, A)."""
        if avail is not None:
            return self.log_probs(out, avail).gather(-1, act[..., None]).squeeze(-1)
        std = self.std()
        log_density = -0.5 * ((act - out) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)
        return (log_density * self.width_mask).sum(-1)

    def entropy(self, out: Tensor, avail: Tensor | None) -> Tensor:
        """(..., N)."""
        if avail is not None:
            log_probs = self.log_probs(out, avail)
            return -(log_probs.exp() * log_probs.masked_fill(~avail, 0.0)).sum(-1)
        gaussian = self.std().log() + 0.5 * math.log(2 * math.pi * math.e)
        return (gaussian * self.width_mask).sum(-1).expand(out.shape[:-1])


def initial_log_std(spec: EnvSpec) -> nn.Parameter | None:
    """(N, A), or None where actions are discrete."""
    return None if spec.discrete else nn.Parameter(torch.full((spec.num_agents, spec.act_dim), INITIAL_LOG_STD))


class Actor(Choices):
    """The recurrent actor that learns in imagination; its continuous actions are clipped to [-1, 1] when played."""

    def __init__(self, settings: config.Policy, spec: EnvSpec) -> None:
        super().__init__(settings, spec)
        hidden, inputs = settings.hidden, spec.obs_dim + (spec.num_agents if settings.agent_ids else 0)
        self.body = nn.Sequential(nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.SiLU())
        self.memory = GRU(hidden, hidden, batch_first=True)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, spec.act_dim)
        nn.init.orthogonal_(self.head.weight, gain=0.01)
        nn.init.zeros_(self.head.bias)
        self.log_std = initial_log_std(spec)

    def unroll(self, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Logits or means (M, T, N, A) and the memory after every step (M, T, N, hidden), of obs (M, T, N, O)."""
        m, t, n, _ = obs.shape
        out, _ = self.memory(self.embed(obs), memory.reshape(1, m * n, -1))
        out = out.view(m, n, t, -1).transpose(1, 2)
        return self.read(out), out

    @fused_to_learn
    def embed(self, obs: Tensor) -> Tensor:
        """What enters the memory, (M*N, T, hidden), of obs (M, T, N, O)."""
        steps: Tensor = self.body(self.named(obs))
        if steps.is_cuda:  # there a step's rows lie together, as GRU.by_steps reads them
            return steps.transpose(0, 1).flatten(1, 2).transpose(0, 1)
        return steps.transpose(1, 2).flatten(0, 1)

    @fused_to_learn
    def read(self, memory: Tensor) -> Tensor:
        """Logits or means (M, T, N, A) of the memory after each step (M, T, N, hidden)."""
        return self.head(self.norm(memory))  # type: ignore[no-any-return]


class FeatureActor(Choices):
    """pi(a^i | h^i, z^i) on a world model's features, as MAMBA has it: a perceptron without memory."""

    def __init__(self, settings: config.Policy, spec: EnvSpec, features: int, layers: int) -> None:
        super().__init__(settings, spec)
        self.body = mlp(features, settings.hidden, layers, spec.act_dim, nn.ReLU, norm=False)
        self.log_std = initial_log_std(spec)

    @fused_to_learn
    def unroll(self, features: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Logits or means (M, T, N, A) of features (M, T, N, F), and the memory as it was."""
        return self.body(features), memory


def playable(act: Tensor, discrete: bool) -> Tensor:
    """The action as the environment and the world model see it."""
    return act if discrete else act.clamp(-1, 1)
