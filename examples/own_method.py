"""A method of your own, whole: copy it, change it, and name it by module and class.

export PYTHONPATH=$PWD/examples
make params ARGS="agent=own agent.method=own_method:Independent env=toy_lights pretrain.env_steps=8000 pretrain.e_m=0.1"
make run

To change one thing of a method that is here, subclass that method instead, `class Mine(RMIOv2)`, and override it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rmiov2.agents.base import Agent, Capabilities, Mask, Metrics
from rmiov2.agents.off_policy import Windows, draw, follow, target_of
from rmiov2.agents.optimiser import Adam, Optimiser
from rmiov2.agents.tensors import Averages
from rmiov2.config import Config, Section, own_settings
from rmiov2.policy.exploration import or_uniform
from rmiov2.seeding import Generators, derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Sampler


class Independent(Agent):
    """Independent Q-learning, Tan 1993: every agent learns what its actions are worth as if it were alone.

    All share one network, which reads what an agent sees now; nothing is remembered.
    """

    capabilities = Capabilities(discrete=True, continuous=False, on_policy=False, reconstructs=False, model_free=True)

    class Settings(Section):
        """agent.settings.NAME=VALUE; everything else, gamma for instance, is in the sections that all methods share."""

        hidden: int = 128
        lr: float = 2e-3
        batch: int = 32
        epsilon: float = 0.2
        follow: float = 0.02

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        self.config, self.spec, self.settings = config, spec, own_settings(config.agent, self.Settings)
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "weights"))
            width = self.settings.hidden
            self.q = nn.Sequential(nn.Linear(spec.obs_dim, width), nn.ReLU(), nn.Linear(width, spec.act_dim))
        self.target = target_of(self.q)
        self.optimiser = Optimiser(Adam, self.q, self.settings.lr)

    def start(self, num_envs: int) -> None:
        return None

    @torch.no_grad()
    def act(
        self, memory: None, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, None]:
        assert avail is not None
        act = np.where(avail, self.q(torch.from_numpy(obs)).numpy(), -np.inf).argmax(-1)
        return act if greedy else or_uniform(act, avail, self.settings.epsilon, rng), None

    def update(
        self, replay: Sampler, rngs: Generators, model_updates: int, policy_rounds: int, mask: Mask | None = None,
        scale: float = 1.0,
    ) -> Metrics:  # fmt: skip
        averages, length = Averages(), self.spec.episode_limit + 1
        for _ in range(model_updates):
            windows = draw(replay, self.spec, self.settings.batch, length, rngs.numpy["replay"], mask)
            averages.add({"loss_q": self._learn(windows, scale)})
        return averages.result()

    def _learn(self, windows: Windows, scale: float) -> Tensor:
        assert windows.avail is not None
        q = self.q(windows.obs)  # (B, T, N, A); a step leads from one row to the next
        best = self.target(windows.obs).masked_fill(~windows.avail, -torch.inf).amax(-1)[:, 1:]
        aim = windows.rew[..., None] + self.config.policy.gamma * windows.con[..., None] * best  # (B, H, N)
        error = (q[:, :-1] * windows.act).sum(-1) - aim
        loss: Tensor = (error.square().mean(-1) * windows.step).sum() / windows.step.sum()
        self.optimiser.step(loss, self.config.policy.grad_clip, scale * self.settings.lr)
        follow(self.target, self.q, self.settings.follow)
        self.updates += 1
        return loss

    def parts(self) -> dict[str, Any]:
        return {"q": self.q, "target": self.target, "optimiser": self.optimiser}
