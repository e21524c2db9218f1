"""Unrolling M along what happened (observe), half blind along it (foresee), and along what might happen (imagine).

observe:   row     0            1            ...  T-1
           h       h_0 (given)  f(h_0,z_0,a_0)         post and prior at every row; a_{T-1} is not used

imagine:   state   s_0 (start)  s_1  ...  s_H          acting at s_0 .. s_{H-1}; r, c of step k are read off s_{k+1}
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from rmiov2.acceleration.deferred_gradients import at_once
from rmiov2.acceleration.fused import fused
from rmiov2.world_model.rssm import Latent, WorldModel, gumbel_noise

LOOKS = 1 / 6  # so that foresee goes about as many steps without an observation as imagination does


def observe(
    model: WorldModel,
    obs: Tensor,
    seen: Tensor,
    act: Tensor,
    h: Tensor,
    generator: torch.Generator | None,
) -> Latent:
    """Posterior latents (B, T, N, .) of obs (B, T, N, O) normalised, seen (B, T, N), act (B, T, ...), from h (B, N, D)
    of row 0 on; without a generator z is the mode.
    """
    b, t_len, n = seen.shape
    tokens, act_tokens = model.encode(obs, seen).unbind(1), model.embed_action(act).unbind(1)
    s = model.settings
    noise = None if generator is None else gumbel_noise((t_len, b, n, s.categoricals, s.classes), generator, obs.device)
    hs, zs, ps = [], [], []
    with at_once(model) if obs.is_cuda and torch.is_grad_enabled() else nullcontext():
        for t in range(t_len):
            probs = model.posterior_probs(tokens[t], h)
            z = model.sample(probs, None if noise is None else noise[t])
            hs.append(h)
            zs.append(z)
            ps.append(probs)
            if t + 1 < t_len:
                h = model.advance(h, z, act_tokens[t])
    return Latent(torch.stack(hs, 1), torch.stack(zs, 1), torch.stack(ps, 1))


def foresee(model: WorldModel, latent: Latent, act: Tensor, generator: torch.Generator) -> Tensor:
    """Features (B, T-1, N, D+Z) of every row but the first, as imagination would have them had act (B, T, ...) been
    chosen there: the prior's, from a row that M saw, which is the first or, with a chance of LOOKS, any other.

    Gradients reach the last step to each row, and nothing of what z is drawn from.
    """
    b, t_len, n = latent.h.shape[:3]
    s, device = model.settings, latent.h.device
    noise = gumbel_noise((t_len - 1, b, n, s.categoricals, s.classes), generator, device)
    looks = torch.rand((t_len, b, 1, 1), generator=generator, device=generator.device).to(device) < LOOKS
    hs, zs = [latent.h[:, 0].detach()], [latent.z[:, 0].detach()]
    with torch.no_grad():
        for t in range(1, t_len - 1):
            h, z = onward(model, hs[-1], zs[-1], act[:, t - 1], noise[t - 1])
            hs.append(torch.where(looks[t], latent.h[:, t], h))
            zs.append(torch.where(looks[t], latent.z[:, t], z))
    played = model.embed_action(act[:, : t_len - 1].flatten(0, 1))
    h = model.advance(torch.stack(hs, 1).flatten(0, 1), torch.stack(zs, 1).flatten(0, 1), played)
    z = model.sample(model.prior_probs(h.detach()).detach(), noise.transpose(0, 1).flatten(0, 1))
    return torch.cat([h, z], -1).view(b, t_len - 1, n, -1)


@dataclass
class Imagined:
    """H imagined steps from M states. obs (M, H, N, ...) and avail (M, H, N, A) are what the policy was shown;
    act (M, H, N, ...) and logp (M, H, N) what it did; features (M, H+1, N, D+Z); rew (M, H); con (M, H), (M, H, N)."""

    obs: Tensor
    avail: Tensor | None
    act: Tensor
    logp: Tensor
    features: Tensor
    rew: Tensor
    con: Tensor

    def first(self, rollouts: int) -> Imagined:
        """The first of the rollouts."""
        return Imagined(*[None if v is None else v[:rollouts] for v in vars(self).values()])  # type: ignore[arg-type]


class Show(Protocol):
    """What a policy is shown of features (M, N, D+Z): observations or whatever it reads, and avail (M, N, A)."""

    def __call__(self, features: Tensor) -> tuple[Tensor, Tensor | None]: ...


class Chooser(Protocol):
    """A policy with a memory of its own: shown (M, N, .), avail (M, N, A) to act, the action as M sees it, and logp."""

    def __call__(self, shown: Tensor, avail: Tensor | None, /) -> tuple[Tensor, Tensor, Tensor]: ...


class Forward(Protocol):
    """From h (M, N, D), z (M, N, Z) and the action that was played to the next h and z."""

    def __call__(self, h: Tensor, z: Tensor, played: Tensor) -> tuple[Tensor, Tensor]: ...


@fused
def decoded(model: WorldModel, features: Tensor) -> tuple[Tensor, Tensor | None]:
    """The observations and masks that M predicts."""
    obs = model.predict.obs(features) * model.width_mask  # padding is zero, as the environment has it
    return obs, model.predict.available(features)


def by_the_prior(model: WorldModel, rollouts: int, horizon: int, generator: torch.Generator) -> Forward:
    """z drawn from the prior, with noise that is drawn at once for `horizon` steps."""
    s, device = model.settings, model.width_mask.device
    shape = (horizon, rollouts, model.spec.num_agents, s.categoricals, s.classes)
    noise = iter(gumbel_noise(shape, generator, device))

    def forward(h: Tensor, z: Tensor, played: Tensor) -> tuple[Tensor, Tensor]:
        return onward(model, h, z, played, next(noise))

    return forward


@fused
def onward(model: WorldModel, h: Tensor, z: Tensor, played: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The next h, and z drawn from the prior with the noise."""
    h = model.advance(h, z, model.embed_action(played))
    return h, model.sample(model.prior_probs(h), noise)


@torch.no_grad()
def imagine(
    model: WorldModel, h: Tensor, z: Tensor, choose: Chooser, horizon: int, generator: torch.Generator,
    show: Show | None = None, forward: Forward | None = None,
) -> Imagined:  # fmt: skip
    """Play `horizon` steps of `choose` inside M from h (M, N, D), z (M, N, Z): prior only, no real observation.

    show says what the policy is shown, by default what M decodes; forward goes a step, by default the prior's.
    """
    show = show or partial(decoded, model)
    forward = forward or by_the_prior(model, len(h), horizon, generator)
    hs, zs = [h], [z]
    seen, masks, acts, logps = [], [], [], []
    for _ in range(horizon):
        shown, avail = show(torch.cat([hs[-1], zs[-1]], -1))
        act, played, logp = choose(shown, avail)
        h, z = forward(hs[-1], zs[-1], played)
        hs.append(h)
        zs.append(z)
        seen.append(shown)
        acts.append(act)
        logps.append(logp)
        if avail is not None:
            masks.append(avail)
    stacked_h, stacked_z = torch.stack(hs, 1), torch.stack(zs, 1)
    features = torch.cat([stacked_h, stacked_z], -1)
    after = model.between(stacked_h, stacked_z) if model.layout.each else features[:, 1:]
    return Imagined(
        torch.stack(seen, 1),
        torch.stack(masks, 1) if masks else None,
        torch.stack(acts, 1),
        torch.stack(logps, 1),
        features,
        model.predict.reward(after),
        model.predict.continuation(after),
    )
