"""MAPPO: PPO on real play with a centralised critic; Yu et al. 2022, github.com/marlbenchmark/on-policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rmiov2 import config as configuration
from rmiov2.agents.base import Agent, Capabilities, Mask, Metrics
from rmiov2.agents.mappo.chunks import Chunks, Rollouts, advantages, cut, side_by_side
from rmiov2.agents.mappo.losses import actor_loss, critic_loss, standardise
from rmiov2.agents.mappo.networks import MAPPOActor, MAPPOCritic
from rmiov2.agents.optimiser import Adam, Optimiser
from rmiov2.agents.tensors import Averages
from rmiov2.config import Config
from rmiov2.policy.actor import playable
from rmiov2.policy.critic import ValueNorm
from rmiov2.seeding import Generators, derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Sampler


@dataclass
class Memory:
    """The actor's memory of B teams, (B, N, hidden)."""

    actor: Tensor


class MAPPO(Agent):
    """Actor, critic, their optimisers, and what they count."""

    capabilities = Capabilities(discrete=True, continuous=True, on_policy=True, reconstructs=False, model_free=True)

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        self.config, self.spec, self.updates = config, spec, 0
        self.settings = a = cast(configuration.MAPPO, config.agent)
        p = config.policy
        with torch.random.fork_rng():
            torch.manual_seed(derive(seed, "weights"))
            self.actor, self.critic = MAPPOActor(p, a, spec), MAPPOCritic(p, a, spec)
        self.value_norm = ValueNorm(p.value_norm, a.value_norm_decay, least=1e-2)
        self.actor_optimiser = Optimiser(Adam, self.actor, p.lr_actor, eps=1e-5)
        self.critic_optimiser = Optimiser(Adam, self.critic, p.lr_critic, eps=1e-5)

    def start(self, num_envs: int) -> Memory:
        return Memory(self.actor.initial(num_envs))

    @torch.no_grad()
    def act(
        self, memory: Memory, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Memory]:
        before = memory.actor * torch.from_numpy(~first)[:, None, None]
        out, after = self.actor.unroll(torch.from_numpy(obs)[:, None], before)
        noise = None if greedy else self.actor.noise_from(rng, out[:, 0].shape)
        act = self.actor.draw(out[:, 0], None if avail is None else torch.from_numpy(avail), noise)
        return playable(act, self.spec.discrete).numpy(), Memory(after[:, 0])

    def update(
        self,
        replay: Sampler,
        rngs: Generators,
        model_updates: int,
        policy_rounds: int,
        mask: Mask | None = None,
        scale: float = 1.0,
    ) -> Metrics:
        """Rounds of PPO on all that the replay holds, which the present policy played; see Agent.update.

        A mask has nothing to hide here: what was lost has to be lost when it is played.
        """
        p, averages = self.config.policy, Averages()
        for _ in range(policy_rounds):
            chunks = self._chunks(
                side_by_side(replay.trajectories(replay.episodes), self.spec, self.settings.chunk), averages
            )
            for _ in range(p.e_sample):
                order = torch.randperm(len(chunks.step), generator=rngs.torch)
                for index in order.chunk(p.minibatches):
                    averages.add(self._ppo_step(chunks.rows(index), scale))
        return averages.result()

    @torch.no_grad()
    def _chunks(self, r: Rollouts, averages: Averages) -> Chunks:
        p, teams = self.config.policy, len(r.step)
        out, actor_memory = self.actor.unroll(r.obs[:, :-1], self.actor.initial(teams))
        value, critic_memory = self.critic.unroll(r.state, r.obs, r.active, self.critic.initial(teams))
        worth = self.value_norm.denormalise(value) * r.row[..., None]
        advantage = advantages(r, worth, p.gamma, p.lam)
        active = r.active[:, :-1] * r.step[..., None]
        averages.add({"value": worth[r.row].mean()})
        avail = None if r.avail is None else r.avail[:, :-1] | ~r.step[..., None, None]
        whole = Chunks(
            obs=r.obs[:, :-1], state=r.state[:, :-1], avail=avail, act=r.act, step=r.step, active=active,
            logp=self.actor.log_prob(out, r.act, avail),
            advantage=standardise(advantage.expand_as(active), active),
            value=value[:, :-1], returns=advantage + worth[:, :-1],
            actor_memory=before(actor_memory, self.actor.initial(teams)),
            critic_memory=before(critic_memory[:, :-1], self.critic.initial(teams)),
        )  # fmt: skip
        return cut(whole, self.settings.chunk)

    def _ppo_step(self, chunks: Chunks, scale: float) -> dict[str, Tensor]:
        p = self.config.policy
        loss, metrics = actor_loss(self.actor, chunks, p.clip, scale * p.entropy)
        actor_norm = self.actor_optimiser.step(loss, p.grad_clip, scale * p.lr_actor)
        self.value_norm.update(chunks.returns[chunks.step])
        clip = p.clip if self.settings.value_clip else None
        value_loss = critic_loss(self.critic, self.value_norm, chunks, p.huber, clip)
        critic_norm = self.critic_optimiser.step(value_loss, p.grad_clip, scale * p.lr_critic)
        self.updates += 1
        norms = {"grad_norm_actor": actor_norm, "grad_norm_critic": critic_norm}
        return metrics | norms | {"policy_loss": loss, "value_loss": value_loss}

    def parts(self) -> dict[str, Any]:
        return {
            "actor": self.actor, "critic": self.critic, "value_norm": self.value_norm,
            "actor_optimiser": self.actor_optimiser, "critic_optimiser": self.critic_optimiser,
        }  # fmt: skip


def before(after: Tensor, initial: Tensor) -> Tensor:
    """The memory before every row, (M, L, K, hidden), of that after it."""
    return torch.cat([initial[:, None], after[:, :-1]], 1)
