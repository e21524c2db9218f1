"""RMIO's correction block, and the world model unrolled with it: predict with the prior, correct, go on from there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmiov2 import config
from rmiov2.networks import FusionLayer, mlp
from rmiov2.types import EnvSpec
from rmiov2.world_model.losses import masked_mean
from rmiov2.world_model.rssm import WorldModel


class Correction(nn.Module):
    """All agents' observations side by side through an MLP, apart again through attention, and out as a change.

    Its first layer is as wide as all observations together, which is where the cost of a large team lies. The sizes are
    the world model's. That it begins as no change at all is ours.
    """

    width_mask: Tensor

    def __init__(self, settings: config.WorldModel, spec: EnvSpec) -> None:
        super().__init__()
        n, hidden = spec.num_agents, settings.hidden
        self.mask_bit = settings.mask_bit
        self.side_by_side = mlp(n * (spec.obs_dim + self.mask_bit), hidden, 1, n * hidden)
        self.attention = FusionLayer(hidden, settings.fusion_heads, settings.fusion_ffn)
        self.change = nn.Linear(hidden, spec.obs_dim)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        self.register_buffer("width_mask", torch.from_numpy(spec.obs_mask).float(), persistent=False)  # (N, O)

    def forward(self, given: Tensor, seen: Tensor) -> Tensor:
        """Corrected (M, N, O) of given (M, N, O), real where seen (M, N) and predicted elsewhere; normalised."""
        told = torch.cat([given, seen[..., None]], -1) if self.mask_bit else given
        each = self.side_by_side(told.flatten(-2)).view(*seen.shape, -1)
        return (given + self.change(self.attention(each))) * self.width_mask  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Corrected:
    """Windows in which M and the correction stood in for what was lost: features (B, T, N, D+Z) of M after it;
    given (B, T, N, O), what the correction was given; obs (B, T, N, O), real where seen and corrected elsewhere."""

    features: Tensor
    given: Tensor
    obs: Tensor


@torch.no_grad()
def unroll(model: WorldModel, block: Correction, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Corrected:
    """Along obs (B, T, N, O) normalised, seen (B, T, N), act (B, T, ...), h (B, N, D) of row 0.

    z is the mode. Of a lost observation M's prior says what it would have been, the block corrects that by what the
    others saw, and the posterior takes the result for an observation. Where nobody is blind this is rollout.observe.
    """
    act_tokens, everyone = model.embed_action(act).unbind(1), torch.ones_like(seen[:, 0])
    features, given, corrected = [], [], []
    for t, arrived in enumerate(seen.unbind(1)):
        real, visible = obs[:, t], arrived[..., None] == 1
        prior = torch.cat([h, model.sample(model.prior_probs(h), None)], -1)
        given.append(torch.where(visible, real, model.predict.obs(prior) * model.width_mask))
        corrected.append(torch.where(visible, real, block(given[-1], arrived)))
        z = model.sample(model.posterior_probs(model.encode(corrected[-1], everyone), h), None)
        features.append(torch.cat([h, z], -1))
        if t + 1 < len(act_tokens):
            h = model.advance(h, z, act_tokens[t])
    return Corrected(*(torch.stack(rows, 1) for rows in (features, given, corrected)))


def correction_loss(block: Correction, given: Tensor, obs: Tensor, lost: Tensor) -> Tensor:
    """Mean squared error of what the block makes of given (B, T, N, O) where lost (B, T, N) is 1, per feature.

    obs (B, T, N, O) is the truth, normalised; given is data here, so nothing flows back into the world model.
    """
    said = block(given.flatten(0, 1), 1 - lost.flatten(0, 1)).view_as(obs)
    error = F.mse_loss(said, obs, reduction="none") * block.width_mask
    return masked_mean(error, lost[..., None] * block.width_mask)
