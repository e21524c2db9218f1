"""The clipped losses of MAPPO on chunks of real play, Yu et al. 2022, section 3 and appendix; pure functions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rmiov2.agents.mappo.chunks import Chunks
from rmiov2.agents.mappo.networks import MAPPOActor, MAPPOCritic
from rmiov2.policy.critic import ValueNorm


def standardise(advantage: Tensor, weight: Tensor) -> Tensor:
    """Zero mean, unit deviation over the entries of weight 1."""
    total = weight.sum()
    mean = (advantage * weight).sum() / total
    deviation = (((advantage - mean) ** 2 * weight).sum() / total).sqrt()
    return (advantage - mean) / (deviation + 1e-5)


def actor_loss(actor: MAPPOActor, c: Chunks, clip: float, entropy_scale: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped surrogate and entropy bonus over the agents that can choose."""
    out, _ = actor.unroll(c.obs, c.actor_memory)
    logp = actor.log_prob(out, c.act, c.avail)
    ratio = (logp - c.logp).exp()
    surrogate = torch.min(ratio * c.advantage, ratio.clamp(1 - clip, 1 + clip) * c.advantage)
    weight = c.active * c.step[..., None]
    weight = weight / weight.sum()
    entropy = (actor.entropy(out, c.avail) * weight).sum()
    loss = -(surrogate * weight).sum() - entropy_scale * entropy
    approx_kl = ((ratio - 1 - (logp - c.logp)) * weight).sum()
    return loss, {"entropy": entropy.detach(), "approx_kl": approx_kl.detach()}


def critic_loss(critic: MAPPOCritic, norm: ValueNorm, c: Chunks, huber: float, clip: float | None) -> Tensor:
    """Huber loss of the normalised return, the larger of the plain and the clipped one; the dead count too."""
    value, _ = critic.unroll(c.state, c.obs, c.active, c.critic_memory)
    target = norm.normalise(c.returns)
    error = F.huber_loss(value, target, reduction="none", delta=huber)
    if clip is not None:
        near = c.value + (value - c.value).clamp(-clip, clip)
        error = torch.max(error, F.huber_loss(near, target, reduction="none", delta=huber))
    return (error * c.step[..., None]).sum() / c.step.sum() / value.shape[-1]
