"""Advantages along a rollout; pure functions.

step      0        1              H-1
value    V_0      V_1      ...   V_{H-1}   V_H
rew      r_0      r_1      ...   r_{H-1}          r_k and con_k belong to the step from k to k+1
"""

from __future__ import annotations

import torch
from torch import Tensor


def gae(rew: Tensor, con: Tensor, value: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantages (M, H) of rew, con (M, H) and value (M, H+1); Schulman et al. 2016, eq. (16)."""
    delta = rew + gamma * con * value[:, 1:] - value[:, :-1]
    advantage, out = torch.zeros_like(rew[:, 0]), []
    for k in reversed(range(rew.shape[1])):
        advantage = delta[:, k] + gamma * lam * con[:, k] * advantage
        out.append(advantage)
    return torch.stack(out[::-1], 1)


def td_lambda(rew: Tensor, con: Tensor, step: Tensor, ahead: Tensor, gamma: float, lam: float) -> Tensor:
    """Lambda-returns (M, H) of rew, con, step (M, H) and ahead (M, H), the value of the row after each step.

    Where a trajectory's last step was no end of the game, its return goes on with the value of its last row.
    Sutton & Barto 2018, eq. (12.18).
    """
    earned = rew + gamma * (1 - lam) * con * ahead
    out = [earned[:, -1] + gamma * lam * con[:, -1] * ahead[:, -1]]
    for k in reversed(range(rew.shape[1] - 1)):
        later = torch.where(step[:, k + 1] > 0, out[-1], ahead[:, k])
        out.append(earned[:, k] + gamma * lam * con[:, k] * later)
    return torch.stack(out[::-1], 1)


def still_playing(con: Tensor) -> Tensor:
    """Probability (M, H) that step k is played at all: the product of con over the steps before it."""
    return torch.cat([torch.ones_like(con[:, :1]), con[:, :-1]], 1).cumprod(1)
