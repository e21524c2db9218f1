"""What MAMBA and MAG share: a world model with action fusion, and a policy on its features, learned in imagination.

The policy reads (h, z), into which the action fusion brings what the others did and know: execution is centralised, or
its agents talk at every step. Egorov & Shpilman 2022, arXiv 2205.15023; github.com/jbr-ai-labs/mamba at 2c97258.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rmiov2 import config as configuration
from rmiov2.acceleration.captured import Inputs, Regions, device_of, forked
from rmiov2.agents.base import Agent, Capabilities, Mask, Metrics
from rmiov2.agents.imagined_ppo import ImaginedPPO, average_of, branches
from rmiov2.agents.optimiser import Adam, Optimiser
from rmiov2.agents.tensors import Averages, moved, of_play
from rmiov2.config import Config
from rmiov2.execution.communication import everybody_to_everybody
from rmiov2.networks import orthogonal, xavier
from rmiov2.policy.actor import FeatureActor, playable
from rmiov2.policy.critic import AttentionCritic, ValueNorm
from rmiov2.policy.ppo import Pseudo
from rmiov2.policy.returns import gae
from rmiov2.seeding import Generators, derive
from rmiov2.types import Actions, Bools, EnvSpec, Floats, Sampler
from rmiov2.world_model.layout import mamba
from rmiov2.world_model.losses import model_losses, total_loss
from rmiov2.world_model.rollout import Forward, Imagined, by_the_prior, imagine, observe
from rmiov2.world_model.rssm import Latent, WorldModel
from rmiov2.world_model.sequences import as_vectors, sequences


@dataclass
class Memory:
    """What B teams know: h (B, N, D), z (B, N, Z) of the last row and act (B, N, A), one-hot where discrete."""

    h: Tensor
    z: Tensor
    act: Tensor


class LatentPolicy(Agent):
    """World model, actor on its features, attention critic, their optimisers, and what they count."""

    capabilities = Capabilities(
        discrete=True, continuous=True, on_policy=False, reconstructs=False, gpu=True, talks=True
    )
    settings: configuration.MAMBA | configuration.MAG
    counters = ("updates", "policy_updates")

    def __init__(self, config: Config, spec: EnvSpec, seed: int) -> None:
        assert isinstance(config.agent, configuration.LatentPolicy)
        self.config, self.spec, self.settings = config, spec, config.agent
        self.device = device_of(config.device, config.precision)
        self.regions = Regions(self.device)
        self.updates = self.policy_updates = 0
        with forked(self.device):
            torch.manual_seed(derive(seed, "weights"))
            self._build()

    def _build(self) -> None:
        w, p, a = self.config.world_model, self.config.policy, self.settings
        self.features = w.deter + w.categoricals * w.classes
        self.model = WorldModel(w, self.spec, mamba(a.action_information > 0, a.dropout)).eval()
        self.actor = FeatureActor(p, self.spec, self.features, a.actor_layers)
        self.critic = AttentionCritic(self.features, self.spec.num_agents, p.critic_hidden, w.fusion_heads)
        m = self.model
        act_in = m.act_in.weight.T if self.spec.discrete else m.act_in.weight
        xavier(m, [(act_in, m.z_in.weight), (m.token_in.get_parameter("weight"), m.obs_in.weight)])
        orthogonal(self.actor.body)
        xavier(self.critic)
        self.value_norm = ValueNorm(p.value_norm)
        for part in (m, self.actor, self.critic, self.value_norm):
            part.to(self.device)
        self.model_optimiser = Optimiser(Adam, m, w.lr)
        self.ppo = ImaginedPPO(
            p, self.regions, self.actor, self.critic, self.value_norm,
            Optimiser(Adam, self.actor, p.lr_actor, weight_decay=a.weight_decay),
            Optimiser(Adam, self.critic, p.lr_critic),
            average_of(self.actor, p.average),
        )  # fmt: skip

    # Acting: a step of the world model with what arrived, then the actor on its features.

    def start(self, num_envs: int) -> Memory:
        w, teams = self.config.world_model, (num_envs, self.spec.num_agents)
        widths = (w.deter, w.categoricals * w.classes, self.spec.act_dim)
        return Memory(*(torch.zeros(*teams, width, device=self.device) for width in widths))

    @torch.no_grad()
    def act(
        self, memory: Memory, obs: Floats, avail: Bools | None, first: Bools, rng: np.random.Generator, greedy: bool
    ) -> tuple[Actions, Memory]:
        """See Agent.act; greedy takes the likeliest z too. A lost observation is zeros, and is not told from them."""
        w, teams = self.config.world_model, obs.shape[:2]
        noise = {}
        if not greedy:
            gumbel = rng.gumbel(size=(*teams, w.categoricals, w.classes))
            noise["gumbel"] = torch.from_numpy(gumbel.astype(np.float32))
            noise["noise"] = self.actor.noise_from(rng, torch.Size([*teams, self.spec.act_dim]))
        given = of_play(obs, avail, first, self.device, **noise)
        choose = partial(self._choose, self.ppo.player(greedy))
        act, known = self.regions.run("act", choose, None, given | vars(memory))
        return act.cpu().numpy(), Memory(*(part.clone() for part in known))

    def _choose(self, actor: FeatureActor, given: Inputs) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Actions as they are played, and what the teams then know: h, z, act; noise only where it is given."""
        h, z = self._known(given)
        out = actor.body(torch.cat([h, z], -1))
        act = playable(actor.draw(out, given.get("avail"), given.get("noise")), self.spec.discrete)
        return act, (h, z, as_vectors(act, self.spec))

    def _known(self, given: Inputs) -> tuple[Tensor, Tensor]:
        """h and z of the present row."""
        h, z, before = (given[name] * given["goes_on"][:, None, None] for name in ("h", "z", "act"))
        h = self.model.advance(h, z, self.model.embed_action(before))
        seen = torch.ones(given["obs"].shape[:2], device=self.device)
        probs = self.model.posterior_probs(self.model.encode(self.model.normalise(given["obs"]), seen), h)
        return h, self.model.sample(probs, given.get("gumbel"))

    @torch.no_grad()
    def predicted_avail(self, memory: Memory, obs: Floats, first: Bools) -> Bools | None:
        """M's mask by the likeliest z; see Agent.predicted_avail."""
        if not self.spec.discrete:
            return None
        given = of_play(obs, None, first, self.device)
        return self.regions.run("avail", self._may, None, given | vars(memory)).cpu().numpy()

    def _may(self, given: Inputs) -> Tensor:
        may = self.model.predict.available(torch.cat(self._known(given), -1), self.config.execution.availability)
        assert may is not None
        return may

    def did(self, memory: Memory, act: Actions) -> Memory:
        return Memory(memory.h, memory.z, as_vectors(torch.from_numpy(act).to(self.device), self.spec))

    def talk(self) -> tuple[int, int]:
        return everybody_to_everybody(self.spec, self.config.world_model.categoricals)

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
        """See Agent.update. Masked updates change the features that the policy reads, so it learns on between them.

        It does at the rate that pre-training left it with: at its first, what it had learned was gone again.
        """
        averages, policy_scale = Averages(), scale
        if mask is not None:
            rate, policy_scale = self.settings.masked_rounds, scale * self.config.pretrain.anneal
            policy_rounds += int(rate * (self.updates + model_updates)) - int(rate * self.updates)
        for _ in range(model_updates):
            averages.add(self._update_model(self._sequences(replay, rngs, mask), rngs, mask, scale))
        self._after_the_model(replay, rngs, model_updates, mask, scale, averages)
        for _ in range(policy_rounds):
            averages.add(self._policy_round(self._sequences(replay, rngs, mask), rngs, policy_scale))
        return averages.result()

    def _after_the_model(
        self, replay: Sampler, rngs: Generators, updates: int, mask: Mask | None, scale: float, averages: Averages
    ) -> None:
        """What else learns as often as the model, and after it."""

    def _sequences(self, replay: Sampler, rngs: Generators, mask: Mask | None) -> dict[str, Tensor]:
        """A batch as the losses read it; shown (B, T, N, O) is obs without what the mask hides."""
        w, rng = self.config.world_model, rngs.numpy["replay"]
        drawn = sequences(replay.sample(w.batch, w.length, rng, w.pad_ends), self.spec, rng)
        batch = {name: moved(value, self.device) for name, value in drawn.items()}
        shown = batch["obs"]
        if mask is not None:
            shown = shown * moved(torch.from_numpy(mask(*shown.shape[:2])), self.device)[..., None]
        elif w.normalise_obs:
            self.model.measure(batch["obs"][batch["real"].bool()])
        return batch | {"obs": self.model.normalise(batch["obs"]), "shown": self.model.normalise(shown)}

    def observe(self, batch: dict[str, Tensor], generator: torch.Generator) -> Latent:
        """Posterior latents of a batch of _sequences; h of row 0 comes of the action that led to it and an empty z."""
        seen = torch.ones(batch["shown"].shape[:3], device=self.device)
        h = self.model.led_to(batch["start"], batch["before"])
        return observe(self.model, batch["shown"], seen, batch["act"], h, generator)

    def _update_model(
        self, batch: dict[str, Tensor], rngs: Generators, mask: Mask | None, scale: float
    ) -> dict[str, Tensor]:
        lr = self.config.world_model.lr if mask is None else self.config.finetune.lr
        learn = partial(self._learn_model, rngs.torch)
        self.updates += 1
        with forked(self.device):  # dropout draws from torch's own generator, which no checkpoint holds
            torch.manual_seed(int(torch.randint(2**62, (), generator=rngs.torch, device=rngs.torch.device)))
            return self.regions.run("model", learn, rngs.torch, batch, lr=scale * lr)

    def _learn_model(self, generator: torch.Generator, batch: Inputs, lr: float | Tensor) -> dict[str, Tensor]:
        w = self.config.world_model
        self.model.train()
        losses, kl = model_losses(self.model, self.observe(batch, generator), batch)
        self.model.eval()
        loss = total_loss(losses, w.kl_scale, self.settings.action_information)
        norm = self.model_optimiser.step(loss, w.grad_clip, lr)
        named = {f"loss_{name}": value for name, value in losses.items()}
        return named | {"loss_model": loss, "kl": kl, "grad_norm_model": norm}

    def _policy_round(self, batch: dict[str, Tensor], rngs: Generators, scale: float) -> dict[str, Tensor]:
        p = self.config.policy
        h, z = self._branches(batch, rngs)
        filled = {name: self.regions.fill(x, p.starts) for name, x in (("h", h), ("z", z))}
        imagined = self.regions.run("imagine", partial(self._play, rngs.torch), rngs.torch, filled).first(len(h))
        pseudo = self.pseudo(imagined)
        means = self.ppo.learn(pseudo, p.starts * p.horizon, rngs.torch, partial(self._rates, scale))
        first = pseudo.returns.view(len(imagined.rew), p.horizon, -1)[:, 0]
        return means | {"imagined_return": first.mean(), "imagined_reward": imagined.rew.mean()}

    @torch.no_grad()
    def _branches(self, batch: dict[str, Tensor], rngs: Generators) -> tuple[Tensor, Tensor]:
        """Posterior (h, z) to imagine from: `starts` rows at random, absorbing ones among them."""
        latent = self.regions.run("states", lambda parts: self.observe(parts, rngs.torch), rngs.torch, batch)
        chosen = branches(batch["step"], self.config.policy.starts, rngs.torch)
        return latent.h.flatten(0, 1)[chosen], latent.z.flatten(0, 1)[chosen]

    def _play(self, generator: torch.Generator, start: Inputs) -> Imagined:
        return self.imagine(start["h"], start["z"], generator)

    @torch.no_grad()
    def imagine(self, h: Tensor, z: Tensor, generator: torch.Generator) -> Imagined:
        """Rollouts of the policy from h (M, N, D), z (M, N, Z)."""

        def choose(features: Tensor, avail: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
            act, logp = self.actor.choose(self.actor.body(features), avail, generator)
            return act, playable(act, self.spec.discrete), logp

        def show(features: Tensor) -> tuple[Tensor, Tensor | None]:
            return features, self.drawn_masks(features, generator)

        horizon = self.config.policy.horizon
        return imagine(
            self.model, h, z, choose, horizon, generator, show, self.forward(len(h), horizon, generator)
        )  # fmt: skip

    def forward(self, rollouts: int, horizon: int, generator: torch.Generator) -> Forward:
        """How imagination goes a step."""
        return by_the_prior(self.model, rollouts, horizon, generator)

    def drawn_masks(self, features: Tensor, generator: torch.Generator) -> Tensor | None:
        """Masks (..., N, A) as likely as M says."""
        if not self.spec.discrete:
            return None
        shape = (*features.shape[:-1], self.spec.act_dim)
        return self.model.predict.drawn(
            features, torch.rand(shape, generator=generator, device=generator.device).to(features.device)
        )

    @torch.no_grad()
    def pseudo(self, imagined: Imagined) -> Pseudo:
        """All imagined steps (M*H, 1, N, .), with lambda-returns and standardised advantages of every agent."""
        p = self.config.policy
        value = self.value_norm.denormalise(self.critic(imagined.features.flatten(0, 1)))
        value = value.view(*imagined.features.shape[:3])
        rew = imagined.rew[..., None].expand_as(imagined.con)
        advantage = gae(rew, imagined.con, value, p.gamma, p.lam)
        returns = advantage + value[:, :-1]
        self.value_norm.update(returns)

        def steps(values: Tensor) -> Tensor:
            return values.flatten(0, 1)[:, None]

        features = steps(imagined.obs)
        return Pseudo(
            features, None if imagined.avail is None else steps(imagined.avail), steps(imagined.act),
            steps(imagined.logp), features[:, 0, :, :0], features, steps(standardised(advantage)), steps(returns),
            steps(torch.ones_like(returns)),
        )  # fmt: skip

    def _rates(self, scale: float) -> dict[str, float]:
        """Of the next minibatch; entropy falls with every one."""
        p, entropy = self.config.policy, self.config.policy.entropy * self.settings.entropy_decay**self.policy_updates
        self.policy_updates += 1
        return {"entropy": scale * entropy, "lr_actor": scale * p.lr_actor, "lr_critic": scale * p.lr_critic}

    # Keeping.

    def parts(self) -> dict[str, Any]:
        return {"model": self.model, "model_optimiser": self.model_optimiser} | self.ppo.parts()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.regions.forget()


def standardised(advantage: Tensor) -> Tensor:
    """Zero mean and unit deviation over all steps and agents; MAMBA, agent/optim/utils.py."""
    return (advantage - advantage.mean()) / (advantage.std() + 1e-4)
