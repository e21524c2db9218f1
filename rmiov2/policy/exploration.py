"""How methods that learn off-policy try what they do not think best, and noise that is drawn with a generator."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rmiov2.networks import as_gumbel
from rmiov2.types import Bools, Ints


class Fading(Protocol):
    """Settings of an epsilon that falls linearly and then stays."""

    epsilon_start: float
    epsilon_end: float
    epsilon_steps: int


def epsilon(settings: Fading, env_steps: int) -> float:
    """The share of uniformly random actions after so many environment steps."""
    progress = min(1.0, env_steps / settings.epsilon_steps)
    return settings.epsilon_start + (settings.epsilon_end - settings.epsilon_start) * progress


def or_uniform(chosen: Ints, avail: Bools, share: float, rng: np.random.Generator) -> Ints:
    """chosen (B, N), or, for that share of them, an action uniform over avail (B, N, A)."""
    uniform = np.where(avail, rng.random(avail.shape), -1.0).argmax(-1)
    return np.where(rng.random(chosen.shape) < share, uniform, chosen)


def gumbel(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise: added to log-probabilities, its largest is a draw; Jang et al. 2017, eq. (1)."""
    return as_gumbel(torch.rand(shape, generator=generator, device=generator.device))


def straight_through(logits: Tensor, noise: Tensor) -> Tensor:
    """One-hot draws (..., A) that have the gradients of a softmax of temperature one; Jang et al. 2017, eq. (2)."""
    soft = torch.softmax(logits + noise, -1)
    hard = F.one_hot(soft.argmax(-1), soft.shape[-1])
    return hard + soft - soft.detach()
