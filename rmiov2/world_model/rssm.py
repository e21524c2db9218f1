"""The recurrent state-space model of eqs. (2a)-(2e): parameters and one-step maps; the unrolling is in rollout.py."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rmiov2 import config
from rmiov2.acceleration.deferred_gradients import GRUCell, Linear
from rmiov2.acceleration.fused import fused
from rmiov2.networks import as_gumbel, sinusoids
from rmiov2.types import EnvSpec
from rmiov2.world_model.fusion import fusion
from rmiov2.world_model.heads import Predictors
from rmiov2.world_model.layout import Layout


@dataclass
class Latent:
    """h (..., N, D), z (..., N, Z) one-hot per categorical, and the probabilities (..., N, C, K) it was drawn from."""

    h: Tensor
    z: Tensor
    probs: Tensor

    @property
    def features(self) -> Tensor:
        """(..., N, D+Z), what every predictor reads."""
        return torch.cat([self.h, self.z], -1)


class WorldModel(nn.Module):
    """Everything of M that has weights, and the running scale of the observations."""

    obs_mean: Tensor
    obs_std: Tensor
    obs_count: Tensor
    width_mask: Tensor
    positions: Tensor

    def __init__(self, settings: config.WorldModel, spec: EnvSpec, layout: Layout | None = None) -> None:
        super().__init__()
        self.settings, self.spec, self.layout = settings, spec, layout or Layout()
        s, hidden, joint = settings, settings.hidden, self.layout.joint_inputs
        stoch, layers, fusions = s.categoricals * s.classes, s.layers, (s.fusion_layers, s.fusion_heads, s.fusion_ffn)
        self.encoder = self.layout.perceptron(spec.obs_dim, hidden, layers + self.layout.deeper, hidden)
        self.token_in = nn.Linear(hidden, hidden, bias=False) if joint else nn.Identity()
        self.obs_in = Linear(s.deter, hidden)
        self.mask_in = nn.Embedding(2, hidden) if s.mask_bit else None
        self.id_in = nn.Embedding(spec.num_agents, hidden) if s.agent_ids and not joint else None
        self.observation_fusion = (
            nn.Identity() if joint and not s.observation_fusion
            else fusion(hidden, *fusions, s.observation_fusion, self.layout)
        )  # fmt: skip
        self.posterior = (
            nn.Sequential(self.layout.activation(), Linear(hidden, stoch))
            if joint
            else self.layout.perceptron(hidden, hidden, 1, stoch)
        )
        self.act_in = nn.Embedding(spec.act_dim, hidden) if spec.discrete else nn.Linear(spec.act_dim, hidden)
        self.z_in = Linear(stoch, hidden)
        self.action_fusion = fusion(hidden, *fusions, s.action_fusion, self.layout)
        self.gru = GRUCell(hidden, s.deter)
        self.prior = self.layout.perceptron(s.deter, hidden, 1, stoch)
        self.h_start = nn.Parameter(torch.zeros(s.deter)) if s.start_bit else None
        self.predict = Predictors(
            s.deter + stoch, hidden, layers, spec.obs_dim, spec.act_dim, spec.discrete, self.layout
        )  # fmt: skip
        self.register_buffer("width_mask", torch.from_numpy(spec.obs_mask).float(), persistent=False)  # (N, O)
        positions = sinusoids(spec.num_agents, hidden) * s.agent_ids
        self.register_buffer("positions", positions, persistent=False)  # (N, hidden), of joint inputs
        self.register_buffer("obs_mean", torch.zeros(spec.num_agents, spec.obs_dim))
        self.register_buffer("obs_std", torch.ones(spec.num_agents, spec.obs_dim))
        self.register_buffer("obs_count", torch.zeros(()))

    def normalise(self, obs: Tensor) -> Tensor:
        """Observations as the networks read them, (..., N, O); the identity unless normalise_obs."""
        return ((obs - self.obs_mean) / self.obs_std).clamp(-10, 10) if self.settings.normalise_obs else obs

    def denormalise(self, obs: Tensor) -> Tensor:
        """The environment's own units, (..., N, O)."""
        return (obs * self.obs_std + self.obs_mean) * self.width_mask if self.settings.normalise_obs else obs

    @torch.no_grad()
    def measure(self, obs: Tensor) -> None:
        """Take the real observations (rows, N, O) into the running mean and deviation."""
        rows, total = obs.shape[0], self.obs_count + obs.shape[0]
        mean, delta = obs.mean(0), obs.mean(0) - self.obs_mean
        spread = self.obs_std**2 * self.obs_count + obs.var(0, correction=0) * rows
        spread = spread + delta**2 * self.obs_count * rows / total
        self.obs_mean.copy_(self.obs_mean + delta * rows / total if self.obs_count else mean)
        self.obs_std.copy_((spread / total).sqrt().clamp(min=1e-2))
        self.obs_count.copy_(total)

    def initial(self, start: Tensor) -> Tensor:
        """h (B, N, D) before a sequence; start (B,) says which sequences begin an episode."""
        h = torch.zeros(start.shape[0], self.spec.num_agents, self.settings.deter, device=start.device)
        return h if self.h_start is None else h + start[:, None, None] * self.h_start

    def led_to(self, start: Tensor, before: Tensor) -> Tensor:
        """h (B, N, D) of a row from the action before it (B, N, A) and an empty z, as MAMBA has it."""
        h = self.initial(start)
        empty = h.new_zeros(*h.shape[:2], self.settings.categoricals * self.settings.classes)
        return self.advance(h, empty, self.embed_action(before))

    def encode(self, obs: Tensor, seen: Tensor) -> Tensor:
        """The part of the observation token that needs no h: obs (..., N, O) normalised, seen (..., N); eq. (4)."""
        token = self.token_in(self.encoder(obs * seen[..., None]))
        if self.mask_in is not None:
            token = token + self.mask_in(seen.long())
        return token if self.id_in is None else token + self.id_in.weight  # type: ignore[no-any-return]

    def embed_action(self, act: Tensor) -> Tensor:
        """The part of the action token that needs no z: act (..., N) int64, or (..., N, A), one-hot if discrete."""
        one_hot = self.spec.discrete and act.is_floating_point()
        token: Tensor = act @ self.act_in.weight if one_hot else self.act_in(act)
        return token if self.id_in is None else token + self.id_in.weight

    def posterior_probs(self, token: Tensor, h: Tensor) -> Tensor:
        """p_post(z | f_of(o, h)), (M, N, C, K), from the encoded token and h (M, N, .); eqs. (2a), (2d)."""
        return self.probs(self.posterior(self.observation_fusion(token + self.obs_in(h))))

    def prior_probs(self, h: Tensor) -> Tensor:
        """p_prior(z | h), (..., N, C, K); eq. (2e)."""
        return self.probs(self.prior(h))

    def advance(self, h: Tensor, z: Tensor, act_token: Tensor) -> Tensor:
        """h of the next step, (M, N, D); eqs. (2b), (2c)."""
        token = act_token + self.z_in(z)
        if self.layout.joint_inputs:
            token = self.layout.activation()(token) + self.positions
        e = self.action_fusion(token)
        return self.gru(e.flatten(0, 1), h.flatten(0, 1)).view_as(h)  # type: ignore[no-any-return]

    @staticmethod
    def between(h: Tensor, z: Tensor) -> Tensor:
        """Features (B, T-1, N, D+Z) of every step as MAMBA has them: h after it, z before it."""
        return torch.cat([h[:, 1:], z[:, :-1]], -1)

    def probs(self, logits: Tensor) -> Tensor:
        """C categoricals of K classes, (..., C, K), with a share `unimix` of the uniform in each."""
        s = self.settings
        return categoricals(logits.view(*logits.shape[:-1], s.categoricals, s.classes), s.unimix)

    def sample(self, probs: Tensor, gumbel: Tensor | None) -> Tensor:
        """One-hot z (..., Z) with straight-through gradients; the mode where no noise (..., C, K) is given."""
        return straight_through(probs, gumbel)


@fused
def categoricals(logits: Tensor, unimix: float) -> Tensor:
    """Probabilities (..., C, K) of logits, with a share of the uniform in each."""
    probs = torch.softmax(logits, -1)
    return probs if unimix == 0 else (1 - unimix) * probs + unimix / logits.shape[-1]


@fused
def straight_through(probs: Tensor, gumbel: Tensor | None) -> Tensor:
    """One-hot (..., C K) of probs (..., C, K), the likeliest or drawn with the noise, with the gradients of probs."""
    scores = probs if gumbel is None else probs.detach().log() + gumbel
    z = (scores.argmax(-1, keepdim=True) == torch.arange(probs.shape[-1], device=probs.device)).to(probs.dtype)
    return (z + probs - probs.detach()).flatten(-2)


def gumbel_noise(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Standard Gumbel noise, drawn at once for a whole rollout so that the time loop draws nothing."""
    return as_gumbel(torch.rand(shape, generator=generator, device=generator.device).to(device))
