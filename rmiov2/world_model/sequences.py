"""Windows of the replay as MAMBA learns from them: the action that led to the first row, and absorbing states.

row      0          1        ...   L-1          L            L+1
obs    o_0        o_1        ...   o_{L-1}      0            0
act    a_0        a_1        ...   a_{L-1}      at random    -
rew    r_0        r_1        ...   r_{L-1}      0            -
con    1          1          ...   0            0            -

A game that ended goes on in an absorbing state: nothing is seen, nothing is earned, everything may be done, and it ends
once more. So its last observation is not learned. github.com/jbr-ai-labs/mamba at 2c97258, workers/DreamerWorker.py;
there windows run on from one episode into the next, here none does, and a game that time cut has its last observation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from rmiov2.types import Actions, Batch, EnvSpec, Floats

Array = npt.NDArray[Any]


def sequences(batch: Batch, spec: EnvSpec, rng: np.random.Generator) -> dict[str, Tensor]:
    """The parts of a batch of T rows by name, T rows each, as rmiov2.world_model.losses reads them.

    A window that begins an episode keeps its first row. Any other gives it up: its action is `before` (B, N, A), zeros
    where there is none. row and step (B, T) are one where there is a step, which the last row lacks, so that a row
    counts only where what it led to is known; real (B, T) where the observation is no absorbing state.
    """
    whole = absorbing(batch, spec, rng)
    begins = batch.start[:, None]

    def shifted(values: Array) -> Array:
        return np.where(begins.reshape(-1, *[1] * (values.ndim - 1)), values[:, :-1], values[:, 1:])

    tensors = {name: torch.from_numpy(shifted(value)) for name, value in whole.items()}
    row = tensors["row"].float()
    step = F.pad(row[:, 1:], (0, 1))
    before = as_vectors(torch.from_numpy(batch.act[:, 0]), spec) * torch.from_numpy(~batch.start)[:, None, None]
    floats = {name: tensors[name].float() for name in ("real", "avail") if name in tensors}
    start = torch.from_numpy(batch.start).float()
    return tensors | floats | {"row": step, "step": step, "before": before, "start": start}


def absorbing(batch: Batch, spec: EnvSpec, rng: np.random.Generator) -> dict[str, Array]:
    """The parts of a batch with one row more, in which the last observation of a game that ended, and one row after it,
    are absorbing states."""
    ended = (batch.con == 0) & batch.step
    last, after = np.pad(ended, ((0, 0), (1, 0))), np.pad(ended, ((0, 0), (2, 0)))[:, :-1]
    whole = {name: _longer(getattr(batch, name)) for name in ("obs", "act", "trend", "con", "row")}
    whole["obs"][last | after] = 0
    whole["act"][last] = any_actions(spec, rng, int(last.sum()))
    whole["trend"][last] = whole["con"][last] = 0
    whole["row"] |= after
    if batch.avail is not None:
        whole["avail"] = _longer(batch.avail)
        whole["avail"][:, -1] = True  # as in all padding
        whole["avail"][last | after] = True
    return whole | {"real": whole["row"] & ~last & ~after}


def any_actions(spec: EnvSpec, rng: np.random.Generator, teams: int) -> Actions:
    """Uniform over all actions, available or not, (teams, N) or (teams, N, A)."""
    if spec.discrete:
        return rng.integers(spec.act_dim, size=(teams, spec.num_agents))
    drawn: Floats = rng.uniform(-1, 1, (teams, spec.num_agents, spec.act_dim)).astype(np.float32)
    return drawn * spec.act_mask


def as_vectors(act: Tensor, spec: EnvSpec) -> Tensor:
    """act (..., N) one-hot, or (..., N, A) as it is."""
    return F.one_hot(act, spec.act_dim).float() if spec.discrete else act


def _longer(values: Array) -> Array:
    """A copy with one more row of zeros."""
    return np.pad(values, ((0, 0), (0, 1), *[(0, 0)] * (values.ndim - 2)))
