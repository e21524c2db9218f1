"""MAG: MAMBA that learns how wrong its model will be, and imagines on where that is least.

Wu et al. 2023, arXiv 2303.17984; github.com/ZifanWu/MAG at 9d4a5d0. As published that code stops at its first training:
DreamerLearner.step appends to a list, `losses`, that it never makes. Here the list is not needed.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmiov2 import config as configuration
from rmiov2.acceleration.captured import Inputs
from rmiov2.agents.base import Mask
from rmiov2.agents.latent_policy import LatentPolicy
from rmiov2.agents.optimiser import Adam, Optimiser
from rmiov2.agents.tensors import Averages
from rmiov2.networks import mlp
from rmiov2.policy.actor import playable
from rmiov2.seeding import Generators
from rmiov2.types import Sampler
from rmiov2.world_model.losses import masked_mean, model_errors
from rmiov2.world_model.rollout import Forward
from rmiov2.world_model.rssm import gumbel_noise

PREDICTOR_LAYERS = 4


class MAG(LatentPolicy):
    """Of some next states, that is taken from which the model is expected to err least over the next steps."""

    settings: configuration.MAG

    def _build(self) -> None:
        super()._build()
        assert isinstance(self.settings, configuration.MAG)
        hidden = self.config.world_model.hidden
        self.predictor = mlp(self.features, hidden, PREDICTOR_LAYERS, 1, nn.ELU, norm=False).to(self.device)
        self.predictor_optimiser = Optimiser(Adam, self.predictor, self.settings.lr_predictor)

    def predicted_error(self, features: Tensor) -> Tensor:
        """L_M of each agent's step, (..., N), expected at features (..., N, D+Z) that the prior has drawn."""
        return self.predictor(features).squeeze(-1)  # type: ignore[no-any-return]

    # Learning to say how wrong the model is.

    def _after_the_model(
        self, replay: Sampler, rngs: Generators, updates: int, mask: Mask | None, scale: float, averages: Averages
    ) -> None:
        for _ in range(updates):
            batch, learn = self._sequences(replay, rngs, mask), partial(self._learn_predictor, rngs.torch)
            rate = scale * self.settings.lr_predictor
            averages.add(self.regions.run("predictor", learn, rngs.torch, batch, lr=rate))

    def _learn_predictor(self, generator: torch.Generator, batch: Inputs, lr: float | Tensor) -> dict[str, Tensor]:
        loss = self.predictor_loss(batch, generator)
        self.predictor_optimiser.step(loss, math.inf, lr)
        return {"loss_predictor": loss}

    def predictor_loss(self, batch: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """SmoothL1 between what is predicted at a draw of the prior and what the model then got wrong."""
        with torch.no_grad():
            latent = self.observe(batch, generator)
            errors, prior = model_errors(self.model, latent, batch)
            z = self.model.sample(prior, gumbel_noise(prior.shape, generator, prior.device))
        label, where = self.step_errors(errors, batch["step"])
        predicted = self.predicted_error(torch.cat([latent.h, z], -1)[:, :-1])
        return masked_mean(F.smooth_l1_loss(predicted, label, reduction="none"), where)

    def step_errors(self, errors: dict[str, Tensor], step: Tensor) -> tuple[Tensor, Tensor]:
        """The terms of L_M of every step added up, (B, T-1, N), and where there is one.

        The observation's counts as in the public code, which divides it by all that a mean over the batch would: by the
        features, the steps and the agents. That leaves next to nothing of it.
        """
        where = step[:, :-1, None].expand_as(errors["rew"])
        obs = errors["obs"] / self.model.width_mask.sum(-1) / where.sum().clamp(min=1)
        label = errors["rew"] + errors["con"]
        for of_rows in (errors["kl"], obs, errors.get("avail")):
            label = label if of_rows is None else label + of_rows[:, :-1]
        if "act" in errors:
            label[:, 1:] += errors["act"][:, :-1]
        return label, where

    # Imagining with it.

    def forward(self, rollouts: int, horizon: int, generator: torch.Generator) -> Forward:
        def forward(h: Tensor, z: Tensor, played: Tensor) -> tuple[Tensor, Tensor]:
            after, drawn, errors = self.candidates(h, z, played, generator)
            best = chosen(errors, self.settings.chosen_by)
            return after, drawn[best, torch.arange(rollouts, device=best.device)]

        return forward

    def candidates(
        self, h: Tensor, z: Tensor, played: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The next h (M, N, D), some next z (K, M, N, Z), and the predicted error of each, (K, M).

        It is added up over the next look_ahead states, which the policy's own draws lead to, and is the agents' mean.
        """
        a, model, m = self.settings, self.model, len(h)
        after = model.advance(h, z, model.embed_action(played))
        hs = after.expand(a.candidates, *after.shape).flatten(0, 1)
        zs = first = self._draw(hs, generator)
        errors = torch.zeros(a.candidates, m, device=h.device)
        for ahead in range(a.look_ahead):
            if ahead:
                hs = model.advance(hs, zs, model.embed_action(self._act(torch.cat([hs, zs], -1), generator)))
                zs = self._draw(hs, generator)
            errors += self.predicted_error(torch.cat([hs, zs], -1)).mean(-1).view_as(errors)
        return after, first.view(a.candidates, m, *first.shape[1:]), errors

    def _draw(self, h: Tensor, generator: torch.Generator) -> Tensor:
        prior = self.model.prior_probs(h)
        return self.model.sample(prior, gumbel_noise(prior.shape, generator, prior.device))

    def _act(self, features: Tensor, generator: torch.Generator) -> Tensor:
        act, _ = self.actor.choose(self.actor.body(features), self.drawn_masks(features, generator), generator)
        return playable(act, self.spec.discrete)

    def parts(self) -> dict[str, Any]:
        return super().parts() | {"predictor": self.predictor, "predictor_optimiser": self.predictor_optimiser}


def chosen(errors: Tensor, by: str) -> Tensor:
    """(M,) the candidate of the smallest error (K, M): of every sample, or, as in the public code, one for all."""
    return errors.argmin(0) if by == "sample" else errors.mean(1).argmin().expand(errors.shape[1])
