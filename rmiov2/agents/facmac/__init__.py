"""FACMAC: actors on own sight, a centralised but factored critic for training; Peng et al. 2021, arXiv 2003.06709."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmiov2 import config as configuration
from rmiov2.agents.base import Agent, Capabilities, Mask, Metrics
from rmiov2.agents.facmac.losses import actor_loss, critic_loss, td_target
from rmiov2.agents.facmac.networks import Actor, ContinuousActor, DiscreteActor, FactoredCritic
from rmiov2.agents.off_policy import Memory, Windows, draw, follow, readable, target_of
from rmiov2.agents.optimiser import Adam, Optimiser
from rmiov2.agents.tensors import Averages
from rmiov2.config import Config
from rmiov2.policy.exploration import epsilon
from rmiov2.seeding import Generators, derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Sampler


class FACMAC(Agent):
    """Actor and critic, their targets, the optimisers, and what they count."""

    capabilities = Capabilities(discrete=True, continuous=True, on_policy=False, reconstructs=False, model_free=True)

    counters = ("updates", "env_steps")

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        assert isinstance(config.agent, configuration.FACMAC)
        self.config, self.spec, self.settings = config, spec, config.agent
        p, f = config.policy, config.agent
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "weights"))
            self.actor: Actor = (DiscreteActor if spec.discrete else ContinuousActor)(p, f, spec)
            self.critic = FactoredCritic(p, f, spec)
        self.target_actor, self.target_critic = target_of(self.actor), target_of(self.critic)
        # Fused, since one update for every environment step is what this method costs.
        self.actor_optimiser = Optimiser(Adam, self.actor, p.lr_actor, eps=f.adam_eps, fused=True)
        self.critic_optimiser = Optimiser(Adam, self.critic, p.lr_critic, eps=f.adam_eps, fused=True)
        self.updates = self.env_steps = 0

    # Acting.

    def start(self, num_envs: int) -> Memory:
        agents = self.spec.num_agents
        return Memory(self.actor.initial(num_envs, agents), torch.zeros(num_envs, agents, self.spec.act_dim))

    @torch.no_grad()
    def act(
        self, memory: Memory, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Memory]:
        memory = memory.begin(first)
        out, hidden = self.actor(torch.from_numpy(obs)[:, None], memory.act[:, None], memory.hidden)
        may = None if avail is None else torch.from_numpy(avail)
        act = self.actor.best(out[:, 0], may) if greedy else self.actor.explore(out[:, 0], may, self.env_steps, rng)
        return (act.argmax(-1) if self.spec.discrete else act).numpy(), Memory(hidden, act)

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
        averages = Averages()
        length = self.spec.episode_limit + 1 if self.spec.discrete else 2  # whole episodes, or transitions
        for _ in range(model_updates):
            windows = draw(replay, self.spec, self.settings.batch, length, rngs.numpy["replay"], mask)
            averages.add(self.learn(windows, self.actor.noise(windows.act.shape, rngs.torch), scale))
        told = averages.result()
        return told | {"epsilon": epsilon(self.settings, self.env_steps)} if self.spec.discrete else told

    def learn(self, windows: Windows, noise: Tensor | None, scale: float) -> dict[str, Tensor]:
        """One update of the critic, then one of the actor by that critic."""
        p, f = self.config.policy, self.settings
        target = td_target(self.target_actor, self.target_critic, windows, p.gamma, p.lam)
        loss, told = critic_loss(self.critic, target, windows)
        critic_norm = self.critic_optimiser.step(loss, p.grad_clip, scale * p.lr_critic)
        loss = actor_loss(self.actor, self.critic, windows, noise, f.regulariser, sum(self.spec.act_widths))
        actor_norm = self.actor_optimiser.step(loss, p.grad_clip, scale * p.lr_actor)
        self.updates += 1
        if self.updates % f.target_every == 0:
            follow(self.target_actor, self.actor, f.tau)
            follow(self.target_critic, self.critic, f.tau)
        return told | {"actor_loss": loss, "grad_norm_critic": critic_norm, "grad_norm_actor": actor_norm}

    # Keeping.

    def parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor, "critic": self.critic, "target_actor": self.target_actor,
            "target_critic": self.target_critic, "actor_optimiser": self.actor_optimiser,
            "critic_optimiser": self.critic_optimiser,
        }  # fmt: skip
