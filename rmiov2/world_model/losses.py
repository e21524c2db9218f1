"""L_M of eqs. (7)-(9): pure functions of tensors; targets are the true observations, also when the input was masked."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rmiov2.acceleration.fused import fused_to_learn
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


def model_losses(
    model: WorldModel, latent: Latent, batch: dict[str, Tensor], foreseen: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """The terms of L_M, by name, and the KL before balance and free nats.

    batch: obs (B, T, N, O) normalised and true, avail (B, T, N, A) if discrete, trend and con (B, T),
    row and step (B, T) as rmiov2.types.Batch says; real (B, T), if it is there: the row's observation is to be learned.
    A step's reward and its end are read off the row that it led to, or off both; also off foreseen (B, T-1, N, D+Z),
    what imagination would have there: what a factored prior draws hardly ever agrees on a rare event that the
    posterior's z spells out, so a head that knows the posterior's alone misses it, or sees it where nothing happens.
    """
    errors, prior = model_errors(model, latent, batch, foreseen)
    row, arrived = batch["row"], batch["step"][:, :-1]
    counts = {
        "obs": row, "rew": arrived, "con": arrived, "kl": row, "avail": row, "act": row[:, 1:],
        "foreseen_rew": arrived, "foreseen_con": arrived,
    }  # fmt: skip
    losses = {name: masked_mean(error, _like(counts[name], error)) for name, error in errors.items()}
    kl = kl_divergence(latent.probs.detach(), prior.detach(), model.settings.kl_reduction)
    return losses, masked_mean(kl, _like(row, kl))


@fused_to_learn
def model_errors(
    model: WorldModel, latent: Latent, batch: dict[str, Tensor], foreseen: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """The terms of L_M before they are averaged, by name, and the prior (B, T, N, C, K).

    obs, avail, kl (B, T, N) of the rows · rew, con (B, T-1) or (B, T-1, N) of the steps · act (B, T-1, N) of the rows
    but the first, to which no action of the window led.
    """
    s, features = model.settings, latent.features
    prior = model.prior_probs(latent.h)
    decoding = model.predict.obs[:-1](features)
    predicted = model.predict.obs[-1](decoding)
    after = features[:, 1:] if not model.layout.each else model.between(latent.h, latent.z)
    obs = reconstruction_error(predicted, batch["obs"], model.width_mask)  # eq. (8)
    errors = {"obs": obs if "real" not in batch else obs * batch["real"][..., None]}
    errors["rew"], errors["con"] = outcome_errors(model, after, batch)
    if foreseen is not None:
        errors["foreseen_rew"], errors["foreseen_con"] = outcome_errors(model, foreseen, batch)
    errors["kl"] = balanced_kl(latent.probs, prior, s.kl_balance, s.free_nats, s.kl_reduction)  # eq. (9)
    if model.predict.avail is not None:
        nll = F.binary_cross_entropy_with_logits(model.predict.avail(features), batch["avail"], reduction="none")
        errors["avail"] = nll.sum(-1)
    if model.predict.act is not None:
        act = action_error(model.predict.act(decoding[:, 1:]), batch["act"][:, :-1], model.spec.discrete)
        errors["act"] = act if "real" not in batch else act * batch["real"][:, 1:, None]
    return errors, prior


def outcome_errors(model: WorldModel, after: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Of the reward and the continuation of every step, read off the features `after` it; eq. (8)."""
    rew, con = model.predict.rew(after), model.predict.con(after)
    return (
        F.smooth_l1_loss(rew, _like(batch["trend"][:, :-1], rew), reduction="none"),
        F.binary_cross_entropy_with_logits(con, _like(batch["con"][:, :-1], con), reduction="none"),
    )


def action_error(predicted: Tensor, act: Tensor, discrete: bool) -> Tensor:
    """(..., N): cross-entropy of logits (..., N, A) and act (..., N), or half the squared error of means."""
    if discrete:
        return F.cross_entropy(predicted.flatten(0, -2), act.flatten(), reduction="none").view(act.shape)
    return 0.5 * ((predicted - act) ** 2).sum(-1)


def _like(values: Tensor, error: Tensor) -> Tensor:
    """values (B, T) as they are, or for every agent of error (B, T, N)."""
    return values if values.dim() == error.dim() else values[..., None].expand_as(error)


def total_loss(losses: dict[str, Tensor], kl_scale: float, act_scale: float = 0.0, foresight: float = 0.0) -> Tensor:
    """L_M = L_rec + lambda KL; eq. (7); with MAMBA's action information, and with what the prior foresees.

    KeyError: a loss of a name that it gives no weight.
    """
    weights = {"obs": 1.0, "rew": 1.0, "con": 1.0, "avail": 1.0, "kl": kl_scale, "act": act_scale}
    weights |= {"foreseen_rew": foresight, "foreseen_con": foresight}
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
