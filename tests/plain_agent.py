"""A method that does not reconstruct: a linear policy for toy/lights, without memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from rmiov2.agents.base import Agent, Capabilities, Mask, Metrics
from rmiov2.config import Config
from rmiov2.seeding import Generators
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Sampler

LIGHTS = 5


class Plain(Agent):
    """Knows every light's answer. Shown nothing it waits, until a masked update teaches it to guess."""

    capabilities = Capabilities(discrete=True, continuous=False, on_policy=False, reconstructs=False)

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        self.config, self.spec = config, spec
        self.scores = nn.Linear(spec.obs_dim, spec.act_dim).requires_grad_(False)
        column = torch.arange(spec.obs_dim)
        self.scores.weight.zero_()[(2 * (column % LIGHTS) + 1) % LIGHTS, column] = 1.0
        self.scores.bias.zero_()[-1] = 0.5

    def start(self, num_envs: int) -> None:
        return None

    def act(
        self, memory: Any, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Any]:
        scores = self.scores(torch.from_numpy(obs)).numpy()
        return np.where(avail, scores, -np.inf).argmax(-1), None

    def update(
        self, replay: Sampler, rngs: Generators, model_updates: int, policy_rounds: int, mask: Mask | None = None,
        scale: float = 1.0,
    ) -> Metrics:  # fmt: skip
        if mask is not None:
            self.scores.bias[1] = 0.6
        return {"loss_policy": float(self.scores.bias[-1])}

    def parts(self) -> dict[str, Any]:
        return {"scores": self.scores}
