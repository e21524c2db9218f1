"""FACMAC's two losses (Peng et al. 2021); pure functions of networks and windows."""

from __future__ import annotations

import torch
from torch import Tensor

from rmiov2.agents.facmac.networks import Actor, FactoredCritic
from rmiov2.agents.off_policy import Windows
from rmiov2.policy.returns import td_lambda


@torch.no_grad()
def td_target(actor: Actor, critic: FactoredCritic, w: Windows, gamma: float, lam: float) -> Tensor:
    """y_tot (B, H) by the target networks: what they would do at every next row is worth what they say."""
    out, _ = actor(w.obs, w.before, actor.initial(*w.obs.shape[0:3:2]), skip=1)
    act = actor.best(out, None if w.avail is None else w.avail[:, 1:])
    return td_lambda(w.rew, w.con, w.step, critic(w.obs[:, 1:], act, w.state[:, 1:]), gamma, lam)


def critic_loss(critic: FactoredCritic, target: Tensor, w: Windows) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of (y_tot - Q_tot)^2 over the steps that there are (FACMAC, section 3.1), and what is told of it."""
    q_tot = critic(w.obs[:, :-1], w.act, w.state[:, :-1])
    weight = w.step / w.step.sum()
    loss = ((target - q_tot) ** 2 * weight).sum()
    return loss, {"td_loss": loss, "q_tot": (q_tot * weight).sum(), "target": (target * weight).sum()}


def actor_loss(
    actor: Actor, critic: FactoredCritic, w: Windows, noise: Tensor | None, regulariser: float, actions: int
) -> Tensor:
    """-Q_tot of what all agents would do now, not of one agent's change at a time (FACMAC, section 3.2).

    The mean squared action is added with the weight `regulariser`: continuous actions stay small by it, and a policy of
    discrete ones unsure of itself for longer. actions: how many numbers the agents have in all.
    """
    out, _ = actor(w.obs[:, :-1], w.before[:, :-1], actor.initial(*w.obs.shape[0:3:2]))
    act = actor.differentiable(out, None if w.avail is None else w.avail[:, :-1], noise)
    q_tot = critic(w.obs[:, :-1], act, w.state[:, :-1])
    size = act.square().sum((-1, -2)) / actions
    loss: Tensor = ((regulariser * size - q_tot) * w.step).sum() / w.step.sum()
    return loss
