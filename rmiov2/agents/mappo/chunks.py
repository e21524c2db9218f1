"""What MAPPO learns from: the trajectories of one rollout, side by side, then cut into chunks of a few rows.

row       0        1       ...     L-1      L
obs      o_0      o_1      ...   o_{L-1}   o_L       rows that exist; o_L only lends its value to the last step
step      1        1       ...      1       0        steps that were played
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rmiov2.policy.returns import gae
from rmiov2.types import EnvSpec, Trajectory


@dataclass
class Rollouts:
    """M trajectories padded to L steps: obs (M, L+1, N, O) · state (M, L+1, S) · avail (M, L+1, N, A) or None ·
    act (M, L, N) or (M, L, N, A) · rew, con (M, L) · row (M, L+1) · step (M, L) · active (M, L+1, N), who can choose.
    """

    obs: Tensor
    state: Tensor
    avail: Tensor | None
    act: Tensor
    rew: Tensor
    con: Tensor
    row: Tensor
    step: Tensor
    active: Tensor


@dataclass
class Chunks:
    """C chunks of T rows: as in Rollouts, all (C, T, .); memories before row 0, (C, N, hidden) and (C, K, hidden);
    logp and advantage (C, T, N); value, normalised, and returns (C, T, K).
    """

    obs: Tensor
    state: Tensor
    avail: Tensor | None
    act: Tensor
    step: Tensor
    active: Tensor
    logp: Tensor
    advantage: Tensor
    value: Tensor
    returns: Tensor
    actor_memory: Tensor
    critic_memory: Tensor

    def rows(self, index: Tensor) -> Chunks:
        """The chunks at index."""
        return Chunks(*[None if v is None else v[index] for v in vars(self).values()])  # type: ignore[arg-type]


def side_by_side(trajectories: list[Trajectory], spec: EnvSpec, chunk: int) -> Rollouts:
    """The trajectories padded with zeros, masks with True, to a multiple of `chunk` steps."""
    lengths = torch.tensor([len(trajectory) for trajectory in trajectories])
    steps = -(-int(lengths.max()) // chunk) * chunk

    def padded(name: str, rows: int) -> Tensor:
        first = getattr(trajectories[0], name)
        out = np.zeros((len(trajectories), rows, *first.shape[1:]), first.dtype)
        for into, trajectory in zip(out, trajectories, strict=True):
            into[: len(getattr(trajectory, name))] = getattr(trajectory, name)
        return torch.from_numpy(out)

    row = torch.arange(steps + 1) <= lengths[:, None]
    avail = padded("avail", steps + 1) | ~row[..., None, None] if spec.discrete else None
    return Rollouts(
        obs=padded("obs", steps + 1),
        state=padded("state", steps + 1),
        avail=avail,
        act=padded("act", steps),
        rew=padded("rew", steps),
        con=padded("con", steps),
        row=row,
        step=torch.arange(steps) < lengths[:, None],
        active=active_of(avail, row, spec.num_agents),
    )


def active_of(avail: Tensor | None, row: Tensor, num_agents: int) -> Tensor:
    """(M, L+1, N) who has a choice: the dead have one action left."""
    alive = row[..., None].expand(*row.shape, num_agents)
    return (alive if avail is None else alive & (avail.sum(-1) > 1)).float()


def advantages(rollouts: Rollouts, value: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantages (M, L, K) of value (M, L+1, K), in units of reward.

    A trajectory that did not end with the game is worth the value of its last row from there on.
    """
    m, steps, k = value.shape[0], value.shape[1] - 1, value.shape[2]
    last = rollouts.step & ~F.pad(rollouts.step[:, 1:], (0, 1))
    beyond = gamma * (rollouts.con * last)[..., None] * value[:, 1:]
    rew = (rollouts.rew[..., None] + beyond).transpose(1, 2).reshape(m * k, steps)
    con = (rollouts.con * ~last)[:, None].expand(m, k, steps).reshape(m * k, steps)
    return gae(rew, con, value.transpose(1, 2).reshape(m * k, -1), gamma, lam).view(m, k, steps).transpose(1, 2)


def cut(whole: Chunks, length: int) -> Chunks:
    """The rows of `whole`, (M, L, .) with memories before every row, in chunks of `length`, empty ones left out."""

    def split(name: str, value: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        if name.endswith("memory"):
            return value[:, ::length].flatten(0, 1)
        return value.reshape(-1, length, *value.shape[2:])

    chunks = Chunks(**{field.name: split(field.name, getattr(whole, field.name)) for field in fields(whole)})  # type: ignore[arg-type]
    return chunks.rows(chunks.step.any(1).nonzero().squeeze(-1))
