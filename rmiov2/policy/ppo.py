"""The r-MAPPO losses of eqs. (13), (14) on an imagined rollout; pure functions of networks and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from rmiov2.acceleration.fused import fused_to_learn
from rmiov2.policy.actor import Actor, FeatureActor
from rmiov2.policy.critic import AttentionCritic, Critic, ValueNorm


@dataclass
class Pseudo:
    """The pseudo buffer B_p: M rollouts of H steps.

    obs (M, H, N, O), or whatever the actor reads · avail (M, H, N, A) or None · act (M, H, N, .) · logp (M, H, N) ·
    memory (M, N, hidden) before step 0 · features (M, H, N, F) · advantage, returns, weight (M, H), or of every agent
    (M, H, N); weight: the step's chance to be played.
    """

    obs: Tensor
    avail: Tensor | None
    act: Tensor
    logp: Tensor
    memory: Tensor
    features: Tensor
    advantage: Tensor
    returns: Tensor
    weight: Tensor

    def rows(self, index: Tensor) -> Pseudo:
        """The rollouts at index."""
        return Pseudo(*[None if v is None else v[index] for v in vars(self).values()])  # type: ignore[arg-type]

    def padded(self, rows: int) -> Pseudo:
        """With copies of the first rollout up to `rows`, of weight zero: no loss counts them."""
        m = len(self.weight)
        index = torch.arange(rows, device=self.weight.device)
        longer = self.rows(index.where(index < m, 0))
        counts = (index < m).view(-1, *[1] * (self.weight.dim() - 1))
        return replace(longer, weight=longer.weight * counts)

    def tensors(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Pseudo:
        """The buffer whose tensors these are."""
        return cls(**{"avail": None} | dict(tensors))  # type: ignore[arg-type]


def standardise(advantage: Tensor, weight: Tensor) -> Tensor:
    """Zero mean, unit deviation under the weights."""
    total = weight.sum()
    mean = (advantage * weight).sum() / total
    return (advantage - mean) / (((advantage - mean) ** 2 * weight).sum() / total).sqrt().clamp(min=1e-3)


def actor_loss(
    actor: Actor | FeatureActor, p: Pseudo, clip: float, entropy_scale: float | Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped surrogate and entropy bonus, eq. (13); a dead agent has one action left, so its ratio is one."""
    out, _ = actor.unroll(p.obs, p.memory)
    return clipped_surrogate(out, actor, p, clip, entropy_scale)


@fused_to_learn
def clipped_surrogate(
    out: Tensor, actor: Actor | FeatureActor, p: Pseudo, clip: float, entropy_scale: float | Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """actor_loss of what the actor says of the buffer, out (M, H, N, A)."""
    logp = actor.log_prob(out, p.act, p.avail)
    ratio = (logp - p.logp).exp()
    advantage = _of_each(p.advantage, ratio)
    clipped = ratio.clamp(1 - clip, 1 + clip)
    surrogate = torch.min(ratio * advantage, clipped * advantage)
    weight = _of_each(p.weight, ratio)
    weight = weight / p.weight.sum() / (weight.numel() / p.weight.numel())
    entropy = (actor.entropy(out, p.avail) * weight).sum()
    loss = -(surrogate * weight).sum() - entropy_scale * entropy
    return loss, {"entropy": entropy.detach(), "approx_kl": ((ratio - 1 - (logp - p.logp)) * weight).sum().detach()}


def _of_each(values: Tensor, ratio: Tensor) -> Tensor:
    """values (M, H) for every agent of ratio (M, H, N), or as they are."""
    return values if values.dim() == ratio.dim() else values[..., None].expand_as(ratio)


@fused_to_learn
def critic_loss(critic: Critic | AttentionCritic, norm: ValueNorm, p: Pseudo, huber: float) -> Tensor:
    """Huber loss of the normalised return, eq. (14)."""
    value = critic(p.features.flatten(0, 1)).view(p.returns.shape)
    error = F.huber_loss(value, norm.normalise(p.returns), reduction="none", delta=huber)
    return (error * p.weight).sum() / p.weight.sum()
