"""Unrolling M along what happened (observe) and along what might (imagine).

observe:   row     0            1            ...  T-1
           h       h_0 (given)  f(h_0,z_0,a_0)         post and prior at every row; a_{T-1} is not used

imagine:   state   s_0 (start)  s_1  ...  s_H          acting at s_0 .. s_{H-1}; r, c of step k are read off s_{k+1}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rmiov2.world_model.rssm import Latent, WorldModel, gumbel_noise


def observe(
    model: WorldModel, obs: Tensor, seen: Tensor, act: Tensor, start: Tensor, generator: torch.Generator | None
) -> Latent:
    """Posterior latents (B, T, N, .) of obs (B, T, N, O) normalised, seen (B, T, N), act (B, T, ...), start (B,).

    Without a generator z is the mode.
    """
    b, t_len, n = seen.shape
    tokens, act_tokens = model.encode(obs, seen).unbind(1), model.embed_action(act).unbind(1)
    s = model.settings
    noise = None if generator is None else gumbel_noise((t_len, b, n, s.categoricals, s.classes), generator, obs.device)
    h = model.initial(start)
    hs, zs, ps = [], [], []
    for t in range(t_len):
        probs = model.posterior_probs(tokens[t], h)
        z = model.sample(probs, None if noise is None else noise[t])
        hs.append(h)
        zs.append(z)
        ps.append(probs)
        if t + 1 < t_len:
            h = model.advance(h, z, act_tokens[t])
    return Latent(torch.stack(hs, 1), torch.stack(zs, 1), torch.stack(ps, 1))


@dataclass
class Imagined:
    """H imagined steps from M states. obs (M, H, N, O) and avail (M, H, N, A) are what the policy was shown;
    act (M, H, N, ...) and logp (M, H, N) what it did; features (M, H+1, N, D+Z); rew, con (M, H)."""

    obs: Tensor
    avail: Tensor | None
    act: Tensor
    logp: Tensor
    features: Tensor
    rew: Tensor
    con: Tensor


class Chooser(Protocol):
    """A policy with a memory of its own: obs (M, N, O), avail (M, N, A) to act, the action as M sees it, and logp."""

    def __call__(self, obs: Tensor, avail: Tensor | None) -> tuple[Tensor, Tensor, Tensor]: ...


@torch.no_grad()
def imagine(
    model: WorldModel, h: Tensor, z: Tensor, choose: Chooser, horizon: int, generator: torch.Generator
) -> Imagined:
    """Play `horizon` steps of `choose` inside M from h (M, N, D), z (M, N, Z): prior only, no real observation."""
    m, n, _ = h.shape
    s = model.settings
    noise = gumbel_noise((horizon, m, n, s.categoricals, s.classes), generator, h.device)
    features = [torch.cat([h, z], -1)]
    shown, masks, acts, logps = [], [], [], []
    for k in range(horizon):
        obs = model.predict.obs(features[-1]) * model.width_mask  # padding is zero, as the environment has it
        avail = model.predict.available(features[-1])
        act, played, logp = choose(obs, avail)
        h = model.advance(h, z, model.embed_action(played))
        z = model.sample(model.prior_probs(h), noise[k])
        features.append(torch.cat([h, z], -1))
        shown.append(obs)
        acts.append(act)
        logps.append(logp)
        if avail is not None:
            masks.append(avail)
    stacked = torch.stack(features, 1)
    return Imagined(
        torch.stack(shown, 1),
        torch.stack(masks, 1) if masks else None,
        torch.stack(acts, 1),
        torch.stack(logps, 1),
        stacked,
        model.predict.reward(stacked[:, 1:]),
        model.predict.continuation(stacked[:, 1:]),
    )
