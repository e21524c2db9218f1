"""The loss of QMIX (Rashid et al. 2018) with double Q and lambda-returns; pure functions of networks and windows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rmiov2.agents.off_policy import Windows
from rmiov2.agents.qmix.networks import FactoredQ
from rmiov2.policy.returns import td_lambda


def own_values(net: FactoredQ, w: Windows) -> Tensor:
    """Q_i (B, T, N, A) of every action, memories begun empty at the first row."""
    return net.agents(w.obs, w.before, net.agents.initial(*w.obs.shape[0:3:2]))[0]  # type: ignore[no-any-return]


def best(q: Tensor, avail: Tensor) -> Tensor:
    """The available action of the highest value, (..., N) of (..., N, A)."""
    return q.masked_fill(~avail, -math.inf).argmax(-1)


@torch.no_grad()
def td_target(target: FactoredQ, w: Windows, q: Tensor, gamma: float, lam: float) -> Tensor:
    """y_tot (B, H): the online networks, whose values are q, choose, the targets judge; van Hasselt et al. 2016."""
    assert w.avail is not None
    chosen = best(q[:, 1:], w.avail[:, 1:])
    ahead = own_values(target, w)[:, 1:].gather(-1, chosen[..., None]).squeeze(-1)
    return td_lambda(w.rew, w.con, w.step, target.mixer(ahead, w.state[:, 1:]), gamma, lam)


def td_loss(
    online: FactoredQ, target: FactoredQ, w: Windows, gamma: float, lam: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean of (y_tot - Q_tot)^2 over the steps that there are (QMIX, section 4.2), and what is told of it."""
    q = own_values(online, w)
    y = td_target(target, w, q.detach(), gamma, lam)
    q_tot = online.mixer((q[:, :-1] * w.act).sum(-1), w.state[:, :-1])
    weight = w.step / w.step.sum()
    loss = ((q_tot - y) ** 2 * weight).sum()
    return loss, {"td_loss": loss, "q_tot": (q_tot * weight).sum(), "target": (y * weight).sum()}
