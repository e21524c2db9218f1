"""RMIOv2: world model with two fusions, policy learned in imagination (Algorithms 1 and 2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmiov2.acceleration.captured import Inputs, Regions, device_of, forked
from rmiov2.agents.base import Agent, Capabilities, Mask, Metrics
from rmiov2.agents.imagined_ppo import ImaginedPPO, average_of, branches
from rmiov2.agents.optimiser import Adam, Optimiser
from rmiov2.agents.tensors import Averages, moved, of_play, to_torch
from rmiov2.config import Config
from rmiov2.execution.completion import Completion, Unrolled, semi_posterior
from rmiov2.execution.history import History
from rmiov2.policy.actor import Actor, playable
from rmiov2.policy.critic import Critic, ReturnScale, ValueNorm
from rmiov2.policy.ppo import Pseudo, standardise
from rmiov2.policy.returns import gae, still_playing
from rmiov2.seeding import Generators, derive
from rmiov2.types import Actions, Batch, Bools, EnvSpec, Floats, Sampler
from rmiov2.world_model.losses import masked_mean, model_losses, reconstruction_error, total_loss
from rmiov2.world_model.rollout import Imagined, foresee, imagine, observe
from rmiov2.world_model.rssm import WorldModel


@dataclass
class Memory:
    """The actor's memory of B teams, (B, N, hidden)."""

    actor: Tensor


class RMIOv2(Agent):
    """World model, actor, critic, their optimisers, and what they count."""

    capabilities = Capabilities(discrete=True, continuous=True, on_policy=False, reconstructs=True, gpu=True)

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        self.config, self.spec = config, spec
        self.device = device_of(config.device, config.precision)
        self.regions = Regions(self.device)
        w, p = config.world_model, config.policy
        with forked(self.device):
            torch.manual_seed(derive(seed, "weights"))
            self.model = WorldModel(w, spec).to(self.device)
            self.actor = Actor(p, spec).to(self.device)
            self.critic = Critic(w.deter + w.categoricals * w.classes, p.critic_hidden).to(self.device)
        self.value_norm = ValueNorm(p.value_norm).to(self.device)
        self.return_scale = ReturnScale(p.return_floor).to(self.device)
        self.model_optimiser = Optimiser(Adam, self.model, w.lr)
        self.ppo = ImaginedPPO(
            p, self.regions, self.actor, self.critic, self.value_norm,
            Optimiser(Adam, self.actor, p.lr_actor, eps=1e-5),
            Optimiser(Adam, self.critic, p.lr_critic, eps=1e-5),
            average_of(self.actor, p.average),
        )  # fmt: skip
        self.updates = 0

    # Acting: the actor alone, on observations; the world model lends it nothing but the observations' scale.

    def start(self, num_envs: int) -> Memory:
        return Memory(self.actor.initial(num_envs))

    @torch.no_grad()
    def act(
        self, memory: Memory, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Memory]:
        shape = torch.Size([*obs.shape[:2], self.spec.act_dim])
        noise = {} if greedy else {"noise": self.actor.noise_from(rng, shape)}
        given = of_play(obs, avail, first, self.device, **noise)
        choose = partial(self._choose, self.ppo.player(greedy))
        act, after = self.regions.run("act", choose, None, given | {"memory": memory.actor})
        return act.cpu().numpy(), Memory(after.clone())

    def _choose(self, actor: Actor, given: Inputs) -> tuple[Tensor, Tensor]:
        """Actions as they are played, and the memory after them; noise only where it is given."""
        before = given["memory"] * given["goes_on"][:, None, None]
        out, after = actor.unroll(self.model.normalise(given["obs"])[:, None], before)
        act = actor.draw(out[:, 0], given.get("avail"), given.get("noise"))
        return playable(act, self.spec.discrete), after[:, 0]

    @torch.no_grad()
    def reconstruction_error(self, batch: Batch, seen: Bools) -> float:
        tensors = to_torch(batch, self.device)
        obs, arrived = self.model.normalise(tensors["obs"]), torch.from_numpy(seen).to(self.device)
        h = self.model.initial(tensors["start"])
        said = self.unroll(obs, arrived.float(), tensors["act"], h).said(self.model)
        error = reconstruction_error(said, obs, self.model.width_mask)
        return float(masked_mean(error, (~arrived) * tensors["row"][..., None]))

    def completion(self, history: History) -> Completion:
        captured = self._unroll_captured if self.regions.fixed else None
        return Completion(self.model, self.unroll, history, self.config.execution.availability, captured)

    def unroll(self, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Unrolled:
        """What M makes of windows in which observations are missing; see rmiov2.execution.completion.Unroll."""
        return semi_posterior(self.model, obs, seen, act, h)

    def _unroll_captured(self, obs: Tensor, seen: Tensor, act: Tensor, h: Tensor) -> Unrolled:
        windows = {"obs": obs, "seen": seen, "act": act, "h": h}
        return self.regions.run("unroll", lambda parts: self.unroll(**parts), None, windows)

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
        w = self.config.world_model
        length = w.length if mask is None else self.config.execution.history + 1  # what execution will ask for
        for _ in range(model_updates):
            batch = to_torch(replay.sample(w.batch, length, rngs.numpy["replay"], w.pad_ends), self.device)
            averages.add(self._update_model(batch, rngs, mask, scale))
        for _ in range(policy_rounds):
            batch = to_torch(replay.sample(w.batch, w.length, rngs.numpy["replay"], w.pad_ends), self.device)
            averages.add(self._policy_round(batch, rngs, scale))
        return averages.result()

    def _update_model(
        self, batch: dict[str, Tensor], rngs: Generators, mask: Mask | None, scale: float
    ) -> dict[str, Tensor]:
        w, shape = self.config.world_model, batch["obs"].shape[:3]
        lr = w.lr if mask is None else self.config.finetune.lr
        seen = torch.ones(shape, device=self.device)
        if mask is not None:
            seen = moved(torch.from_numpy(mask(*shape[:2])), self.device).float()
        if w.normalise_obs and mask is None:
            self.model.measure(batch["obs"][batch["row"].bool()])
        shown = batch | {"obs": self.model.normalise(batch["obs"]), "seen": seen}
        self.updates += 1
        learn = partial(self._learn_model, rngs.torch)
        return self.regions.run("model", learn, rngs.torch, shown, lr=scale * lr)

    def _learn_model(self, generator: torch.Generator, batch: Inputs, lr: float | Tensor) -> dict[str, Tensor]:
        w = self.config.world_model
        h = self.model.initial(batch["start"])
        latent = observe(self.model, batch["obs"], batch["seen"], batch["act"], h, generator)
        foreseen = foresee(self.model, latent, batch["act"], generator) if w.foresight else None
        losses, kl = model_losses(self.model, latent, batch, foreseen)
        loss = total_loss(losses, w.kl_scale, foresight=w.foresight)
        norm = self.model_optimiser.step(loss, w.grad_clip, lr)
        named = {f"loss_{name}": value for name, value in losses.items()}
        return named | {"loss_model": loss, "kl": kl, "grad_norm_model": norm}

    def _policy_round(self, batch: dict[str, Tensor], rngs: Generators, scale: float) -> dict[str, Tensor]:
        h, z, memory = self._branches(batch, rngs)
        imagined, pseudo = self._imagine(h, z, memory, rngs)
        p = self.config.policy
        rates = {"entropy": scale * p.entropy, "lr_actor": scale * p.lr_actor, "lr_critic": scale * p.lr_critic}
        means = self.ppo.learn(pseudo, p.starts, rngs.torch, lambda: rates)
        value = self.value_norm.denormalise(self.critic(imagined.features[:, 0]).detach())
        return means | {
            "imagined_return": pseudo.returns[:, 0].mean(),
            "imagined_reward": (imagined.rew * pseudo.weight).sum() / pseudo.weight.sum(),
            "value": value.mean(),
        }

    @torch.no_grad()
    def _branches(self, batch: dict[str, Tensor], rngs: Generators) -> tuple[Tensor, Tensor, Tensor]:
        """States of B_r to imagine from: posterior (h, z) and the actor's memory there, `starts` of them at random."""
        obs = self.model.normalise(batch["obs"])
        seen = torch.ones(obs.shape[:3], device=self.device)
        behind = partial(self._states, rngs.torch)
        states = self.regions.run("states", behind, rngs.torch, batch | {"obs": obs, "seen": seen})
        chosen = branches(batch["step"], self.config.policy.starts, rngs.torch)
        h, z, memory = (x.flatten(0, 1)[chosen] for x in states)
        return h, z, memory

    def _states(self, generator: torch.Generator, batch: Inputs) -> tuple[Tensor, Tensor, Tensor]:
        """h, z and the actor's memory before every row, (B, T, N, .)."""
        h = self.model.initial(batch["start"])
        latent = observe(self.model, batch["obs"], batch["seen"], batch["act"], h, generator)
        _, after = self.actor.unroll(batch["obs"], self.actor.initial(len(batch["obs"])))
        return latent.h, latent.z, torch.cat([torch.zeros_like(after[:, :1]), after[:, :-1]], 1)

    @torch.no_grad()
    def _imagine(self, h: Tensor, z: Tensor, memory: Tensor, rngs: Generators) -> tuple[Imagined, Pseudo]:
        p, starts = self.config.policy, {"h": h, "z": z, "memory": memory}
        filled = {name: self.regions.fill(x, p.starts) for name, x in starts.items()}
        imagined = self.regions.run("imagine", partial(self._play, rngs.torch), rngs.torch, filled).first(len(h))
        value = self.value_norm.denormalise(self.critic(imagined.features.flatten(0, 1)).view(len(h), p.horizon + 1))
        advantage = gae(imagined.rew, imagined.con, value, p.gamma, p.lam)
        returns, weight = advantage + value[:, :-1], still_playing(imagined.con)
        self.value_norm.update(returns)
        scaled = advantage / self.return_scale.update(returns) if p.return_norm else standardise(advantage, weight)
        pseudo = Pseudo(
            imagined.obs, imagined.avail, imagined.act, imagined.logp, memory, imagined.features[:, :-1],
            scaled, returns, weight,
        )  # fmt: skip
        return imagined, pseudo

    def _play(self, generator: torch.Generator, start: Inputs) -> Imagined:
        """Rollouts of the policy from h, z and its memory."""
        memory = start["memory"]

        def choose(obs: Tensor, avail: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
            nonlocal memory
            out, after = self.actor.unroll(obs[:, None], memory)
            memory = after[:, 0]
            act, logp = self.actor.choose(out[:, 0], avail, generator)
            return act, playable(act, self.spec.discrete), logp

        return imagine(self.model, start["h"], start["z"], choose, self.config.policy.horizon, generator)

    # Keeping.

    def parts(self) -> dict[str, Any]:
        kept = {"model": self.model, "return_scale": self.return_scale, "model_optimiser": self.model_optimiser}
        return kept | self.ppo.parts()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.regions.forget()
