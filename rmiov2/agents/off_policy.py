"""What QMIX and FACMAC share: memories, windows of the replay as their losses read them, target networks."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rmiov2.agents.base import Mask
from rmiov2.types import Actions, Batch, Bools, EnvSpec, Sampler

Network = TypeVar("Network", bound=nn.Module)


@dataclass
class Memory:
    """What B teams remember: hidden (B, N, H) of their networks, act (B, N, A) their last actions as below."""

    hidden: Tensor
    act: Tensor

    def begin(self, first: Bools) -> Memory:
        """Nothing in the rows of first (B,), which begin an episode."""
        goes_on = torch.from_numpy(~first).to(self.act.device)[:, None, None]
        return Memory(self.hidden * goes_on, self.act * goes_on)


@dataclass
class Windows:
    """Windows of T rows and H = T - 1 steps.

    obs (B, T, N, O), zero where lost · avail (B, T, N, A) bool or None · state (B, T, S) · rew, con, step (B, H) ·
    act (B, H, N, A), one-hot, or as they are and zero beyond an agent's width.
    """

    obs: Tensor
    avail: Tensor | None
    state: Tensor
    act: Tensor
    rew: Tensor
    con: Tensor
    step: Tensor

    @property
    def before(self) -> Tensor:
        """(B, T, N, A) what was done in the row before; nothing before the first."""
        return F.pad(self.act, (0, 0, 0, 0, 1, 0))


def draw(
    replay: Sampler, spec: EnvSpec, batch: int, length: int, rng: np.random.Generator, mask: Mask | None
) -> Windows:
    """`batch` windows of at most `length` rows, without rows that none of them has; with a mask, blanked by it."""
    drawn = replay.sample(batch, length, rng)
    rows = int(drawn.row.sum(1).max())
    return windows(drawn, spec, rows, None if mask is None else mask(batch, rows))


def windows(batch: Batch, spec: EnvSpec, rows: int, seen: Bools | None) -> Windows:
    """The first `rows` rows of a batch; seen (B, rows, N) says which observations the agents keep."""
    obs = torch.from_numpy(batch.obs[:, :rows])
    return Windows(
        obs=obs if seen is None else obs * torch.from_numpy(seen)[..., None],
        avail=None if batch.avail is None else torch.from_numpy(batch.avail[:, :rows]),
        state=torch.from_numpy(batch.state[:, :rows]) if spec.state_dim else obs.flatten(-2),
        act=readable(batch.act[:, : rows - 1], spec),
        rew=torch.from_numpy(batch.trend[:, : rows - 1]),
        con=torch.from_numpy(batch.con[:, : rows - 1]),
        step=torch.from_numpy(batch.step[:, : rows - 1]).float(),
    )


def readable(act: Actions, spec: EnvSpec) -> Tensor:
    """act (..., N) one-hot, or (..., N, A) zero beyond each agent's width: (..., N, A)."""
    if spec.discrete:
        return F.one_hot(torch.from_numpy(act), spec.act_dim).float()
    return torch.from_numpy(act * spec.act_mask)


def state_width(spec: EnvSpec) -> int:
    """Of what stands for the global state: all observations where the environment has none."""
    return spec.state_dim or spec.num_agents * spec.obs_dim


def target_of(online: Network) -> Network:
    """A copy that no gradient moves."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def follow(target: nn.Module, online: nn.Module, share: float) -> None:
    """Move the target that share of the way to its network; all of it copies."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, share)
