"""What a method that learns its policy in imagination does there: r-MAPPO on a pseudo buffer (eqs. (13), (14))."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from rmiov2 import config
from rmiov2.acceleration.captured import Inputs, Regions
from rmiov2.agents.optimiser import Optimiser
from rmiov2.agents.tensors import Averages
from rmiov2.policy.actor import Actor, FeatureActor
from rmiov2.policy.critic import AttentionCritic, Critic, ValueNorm
from rmiov2.policy.ppo import Pseudo, actor_loss, critic_loss


@dataclass(frozen=True)
class ImaginedPPO:
    """Actor and critic, the scale of the critic's values, their optimisers, and average_of the actor."""

    settings: config.Policy
    regions: Regions
    actor: Actor | FeatureActor
    critic: Critic | AttentionCritic
    value_norm: ValueNorm
    actor_optimiser: Optimiser
    critic_optimiser: Optimiser
    mean: AveragedModel | None

    def player(self, greedy: bool) -> Any:
        """Who chooses: the actor or, where the likeliest actions are taken, its mean, if there is one."""
        return self.mean.module if greedy and self.mean is not None else self.actor

    def learn(
        self, pseudo: Pseudo, largest: int, generator: torch.Generator, rates: Callable[[], dict[str, float]]
    ) -> dict[str, Tensor]:
        """e_sample passes over the buffer in minibatches; the means of what they measured.

        largest: rows that a buffer of this kind may have, of which minibatches of one size are made where shapes must
        recur. rates: entropy, lr_actor and lr_critic of the next minibatch.
        """
        p, averages, size = self.settings, Averages(), -(-largest // self.settings.minibatches)
        fixed, count = self.regions.fixed, len(pseudo.weight)
        whole = (pseudo.padded(largest + 1) if fixed else pseudo).tensors()  # whose last row then weighs nothing
        for _ in range(p.e_sample):
            order = torch.randperm(count, generator=generator, device=generator.device)
            for index in order.to(self.regions.device).chunk(p.minibatches):
                rows = F.pad(index, (0, size - len(index)), value=largest) if fixed else index
                averages.add(self.regions.run("ppo", self._step, generator, whole | {"rows": rows}, **rates()))
        if self.mean is not None:
            self.mean.update_parameters(self.actor)
        return {name: torch.tensor(value) for name, value in averages.result().items()}

    def _step(
        self, parts: Inputs, entropy: float | Tensor, lr_actor: float | Tensor, lr_critic: float | Tensor
    ) -> dict[str, Tensor]:
        p, whole = self.settings, {name: value for name, value in parts.items() if name != "rows"}
        pseudo = Pseudo.of(whole).rows(parts["rows"])

        def act() -> tuple[Tensor, dict[str, Tensor]]:
            loss, metrics = actor_loss(self.actor, pseudo, p.clip, entropy)
            self.actor_optimiser.step(loss, p.grad_clip, lr_actor)
            return loss, metrics

        def criticise() -> Tensor:
            loss = critic_loss(self.critic, self.value_norm, pseudo, p.huber)
            self.critic_optimiser.step(loss, p.grad_clip, lr_critic)
            return loss

        (loss, metrics), value_loss = self.regions.both(act, criticise)
        return metrics | {"policy_loss": loss, "value_loss": value_loss}

    def parts(self) -> dict[str, Any]:
        """What is kept of it, by name."""
        kept = {
            "actor": self.actor, "critic": self.critic, "value_norm": self.value_norm,
            "actor_optimiser": self.actor_optimiser, "critic_optimiser": self.critic_optimiser,
        }  # fmt: skip
        return kept if self.mean is None else kept | {"actor_mean": self.mean}


def average_of(actor: Actor | FeatureActor, decay: float) -> AveragedModel | None:
    """The running mean of an actor's weights, to be updated after every policy round; None where decay is 0.

    The n-th round is weighed 1 - min(decay, (1 + n) / (10 + n)), so that the first ones, of an actor that had learned
    nothing, are soon forgotten. Polyak & Juditsky 1992; the ramp is that of TensorFlow's ExponentialMovingAverage.
    """

    def weighed(mean: Tensor, weights: Tensor, rounds: Tensor | int) -> Tensor:
        n = float(rounds)
        return mean.lerp(weights, 1 - min(decay, (1 + n) / (10 + n)))

    return AveragedModel(actor, avg_fn=weighed) if decay else None


def branches(step: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Where to imagine from: indices into step (B, T) flattened, of rows that are steps, `count` at most, at random."""
    playing = step.flatten().nonzero().squeeze(-1)
    order = torch.randperm(len(playing), generator=generator, device=generator.device).to(playing.device)
    return playing[order[:count]]
