"""L_M of eqs. (7)-(9): pure functions of tensors; targets are the true observations, also when the input was masked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rmiov2.world_model.rssm import Latent, WorldModel


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean of values where mask, of the same shape, is true; 0 where it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def reconstruction_error(predicted: Tensor, true: Tensor, width_mask: Tensor) -> Tensor:
    """SmoothL1 of each agent's observation, summed over its features: (..., N, O) to (..., N); eq. (8), first term."""
    return (F.smooth_l1_loss(predicted, true, reduction="none") * width_mask).sum(-1)


def kl_divergence(p: Tensor, q: Tensor, reduction: str) -> Tensor:
    """KL(p || q) of categoricals (..., C, K), over C reduced by "sum" or "mean": (...,)."""
    kl = (p * (p.clamp(min=1e-7).log() - q.clamp(min=1e-7).log())).sum(-1)
    return kl.sum(-1) if reduction == "sum" else kl.mean(-1)


def balanced_kl(post: Tensor, prior: Tensor, balance: float, free_nats: float, reduction: str) -> Tensor:
    """eq. (9), split: `balance` trains the prior towards the posterior, the rest the posterior towards the prior."""
    towards_post = kl_divergence(post.detach(), prior, reduction).clamp(min=free_nats)
    towards_prior = kl_divergence(post, prior.detach(), reduction).clamp(min=free_nats)
    return balance * towards_post + (1 - balance) * towards_prior


def model_losses(model: WorldModel, latent: Latent, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """The terms of L_M, by name, and the KL before balance and free nats.

    batch: obs (B, T, N, O) normalised and true, avail (B, T, N, A) if discrete, trend and con (B, T),
    row and step (B, T) as rmiov2.types.Batch says. A step's reward is read off the row it led to.
    """
    s, features = model.settings, latent.features
    row, arrived = batch["row"], batch["step"][:, :-1]
    agents = row[..., None].expand(*row.shape, model.spec.num_agents)
    prior = model.prior_probs(latent.h)
    predicted = model.predict.obs(features)
    after = features[:, 1:]
    losses = {
        "obs": masked_mean(reconstruction_error(predicted, batch["obs"], model.width_mask), agents),  # eq. (8)
        "rew": masked_mean(
            F.smooth_l1_loss(model.predict.reward(after), batch["trend"][:, :-1], reduction="none"), arrived
        ),
        "con": masked_mean(
            F.binary_cross_entropy_with_logits(model.predict.con(after), batch["con"][:, :-1], reduction="none"),
            arrived,
        ),
        "kl": masked_mean(
            balanced_kl(latent.probs, prior, s.kl_balance, s.free_nats, s.kl_reduction), agents
        ),  # eq. (9)
    }
    if model.predict.avail is not None:
        nll = F.binary_cross_entropy_with_logits(model.predict.avail(features), batch["avail"], reduction="none")
        losses["avail"] = masked_mean(nll.sum(-1), agents)
    kl = masked_mean(kl_divergence(latent.probs.detach(), prior.detach(), s.kl_reduction), agents)
    return losses, kl


def total_loss(losses: dict[str, Tensor], kl_scale: float) -> Tensor:
    """L_M = L_rec + lambda KL; eq. (7)."""
    scales = {"obs": 1.0, "rew": 1.0, "con": 1.0, "avail": 1.0, "kl": kl_scale}
    return torch.stack([scales[name] * loss for name, loss in losses.items()]).sum()
