"""QMIX: each agent's Q from its own sight, mixed monotonically for training; Rashid et al. 2018, arXiv 1803.11485."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rmiov2 import config as configuration
from rmiov2.agents.base import Agent, Capabilities, Mask, Metrics
from rmiov2.agents.off_policy import Memory, Windows, draw, follow, readable, target_of
from rmiov2.agents.optimiser import Adam, Optimiser, RMSprop
from rmiov2.agents.qmix.losses import best, td_loss
from rmiov2.agents.qmix.networks import FactoredQ
from rmiov2.agents.tensors import Averages
from rmiov2.config import Config
from rmiov2.policy.exploration import epsilon, or_uniform
from rmiov2.seeding import Generators, derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Sampler


class QMIX(Agent):
    """The networks, their targets, the optimiser, and what they count."""

    capabilities = Capabilities(discrete=True, continuous=False, on_policy=False, reconstructs=False, model_free=True)

    counters = ("updates", "env_steps")

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        assert isinstance(config.agent, configuration.QMIX)
        self.config, self.spec, self.settings = config, spec, config.agent
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "weights"))
            self.online = FactoredQ(config.policy, config.agent, spec)
        self.target = target_of(self.online)
        self.optimiser = (
            Optimiser(Adam, self.online, config.policy.lr_critic)
            if config.agent.optimiser == "adam"
            else Optimiser(RMSprop, self.online, config.policy.lr_critic, alpha=0.99, eps=1e-5)  # pymarl
        )
        self.updates = self.env_steps = 0

    # Acting.

    def start(self, num_envs: int) -> Memory:
        agents = self.spec.num_agents
        hidden = self.online.agents.initial(num_envs, agents)
        return Memory(hidden, torch.zeros(num_envs, agents, self.spec.act_dim))

    @torch.no_grad()
    def act(
        self, memory: Memory, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Memory]:
        assert avail is not None
        memory = memory.begin(first)
        q, hidden = self.online.agents(torch.from_numpy(obs)[:, None], memory.act[:, None], memory.hidden)
        act = best(q[:, 0], torch.from_numpy(avail)).numpy()
        if not greedy:
            act = or_uniform(act, avail, epsilon(self.settings, self.env_steps), rng)
        return act, Memory(hidden, readable(act, self.spec))

    def did(self, memory: Memory, act: Actions) -> Memory:
        return Memory(memory.hidden, readable(act, self.spec))

    # Learning.

    def update(
        self,
        replay: Sampler,
        rngs: Generators,
        model_updates: int,
        policy_rounds: int,
        mask: Mask | None = None,
        scale: float = 1.0,
    ) -> Metrics:
        averages, length = Averages(), self.spec.episode_limit + 1
        for _ in range(model_updates):
            windows = draw(replay, self.spec, self.settings.batch, length, rngs.numpy["replay"], mask)
            averages.add(self.learn(windows, scale))
        return averages.result() | {"epsilon": epsilon(self.settings, self.env_steps)}

    def learn(self, windows: Windows, scale: float) -> dict[str, torch.Tensor]:
        """One update from whole episodes."""
        p = self.config.policy
        loss, told = td_loss(self.online, self.target, windows, p.gamma, p.lam)
        norm = self.optimiser.step(loss, p.grad_clip, scale * p.lr_critic)
        self.updates += 1
        if self.updates % self.settings.target_every == 0:
            follow(self.target, self.online, 1.0)
        return told | {"grad_norm_q": norm}

    # Keeping.

    def parts(self) -> dict[str, Any]:
        return {"online": self.online, "target": self.target, "optimiser": self.optimiser}
