"""A method that does not reconstruct: a linear policy for toy/lights, without memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rmiov2.agents.base import Agent, Capabilities, Mask, Metrics, refuse_other_shapes
from rmiov2.config import Config
from rmiov2.seeding import Generators
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Sampler

LIGHTS = 5


class Plain(Agent):
    """Knows every light's answer. Shown nothing it waits, until a masked update teaches it to guess."""

    capabilities = Capabilities(discrete=True, continuous=False, needs_state=False, on_policy=False, reconstructs=False)

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        self.config, self.spec = config, spec
        self.weight, self.bias = torch.zeros(spec.obs_dim, spec.act_dim), torch.zeros(spec.act_dim)
        column = torch.arange(spec.obs_dim)
        self.weight[column, (2 * (column % LIGHTS) + 1) % LIGHTS] = 1.0
        self.bias[-1] = 0.5

    def start(self, num_envs: int) -> None:
        return None

    def act(
        self, memory: Any, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Any]:
        scores = obs @ self.weight.numpy() + self.bias.numpy()
        return np.where(avail, scores, -np.inf).argmax(-1), None

    def update(
        self, replay: Sampler, rngs: Generators, model_updates: int, policy_rounds: int, mask: Mask | None = None,
        scale: float = 1.0,
    ) -> Metrics:  # fmt: skip
        if mask is not None:
            self.bias[1] = 0.6
        return {"loss_policy": float(self.bias[-1])}

    def state_dict(self) -> Mapping[str, Any]:
        return {"weight": self.weight, "bias": self.bias}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        refuse_other_shapes("plain", self.state_dict(), state)
        self.weight, self.bias = state["weight"].clone(), state["bias"].clone()
