"""The reward trend of eqs. (10)-(12), on whole trajectories before the reward is learned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rmiov2 import config
from rmiov2.types import Floats, Ints


def half_widths(rew: Floats, settings: config.RewardTrend, variance_scale: float) -> Ints:
    """H_t (L,): from the variance within +-h_base steps, clipped; eqs. (10), (11). Fixed mode: h_max everywhere."""
    steps = len(rew)
    if settings.mode == "fixed":
        return np.full(steps, settings.h_max, dtype=np.int64)
    near = np.arange(steps)[:, None] + np.arange(-settings.h_base, settings.h_base + 1)
    inside = (near >= 0) & (near < steps)
    values = rew.astype(np.float64)[near.clip(0, steps - 1)]
    count = inside.sum(1)
    mean = (values * inside).sum(1) / count
    variance = (((values - mean[:, None]) ** 2) * inside).sum(1) / count / variance_scale
    widths: Ints = np.clip(np.floor(settings.beta * variance), settings.h_min, settings.h_max).astype(np.int64)
    return widths


def kernel(offsets: npt.NDArray[np.int64], half: Ints, sigma: float) -> npt.NDArray[np.float64]:
    """Gaussian weights (L, W) of the offsets (W,) within each step's half-width; sigma in half-widths."""
    deviation = np.maximum(sigma * half, 0.5)[:, None]
    weights: npt.NDArray[np.float64] = np.exp(-0.5 * (offsets / deviation) ** 2) * (np.abs(offsets) <= half[:, None])
    return weights


def reward_trend(rew: Floats, settings: config.RewardTrend, reward_variance: float) -> tuple[Floats, Ints]:
    """The reward to learn, (L,), and the half-widths it was made with, (L,).

    paper: eq. (12) to the letter; indices are clipped to the episode, so its sum is not kept (a last reward is counted
    again by every clipped index). conserving: each reward is scattered over its neighbours inside the episode with
    weights that sum to one, so the sum is exact. fixed: conserving with one width. reward_variance is that of all
    rewards, used if settings.normalise.
    """
    if settings.mode == "off":
        return rew, np.zeros(len(rew), dtype=np.int64)
    half = half_widths(rew, settings, max(reward_variance, 1e-8) if settings.normalise else 1.0)
    steps, reach = len(rew), int(half.max(initial=0))
    offsets = np.arange(-reach, reach + 1)
    target = np.arange(steps)[:, None] + offsets
    weights = kernel(offsets, half, settings.sigma)
    if settings.mode == "paper":
        weights /= weights.sum(1, keepdims=True)
        trend = (weights * rew[target.clip(0, steps - 1)]).sum(1)  # eq. (12)
    else:
        weights *= (target >= 0) & (target < steps)
        weights /= weights.sum(1, keepdims=True)
        trend = np.zeros(steps)
        np.add.at(trend, target.clip(0, steps - 1), weights * rew[:, None])
    return trend.astype(np.float32), half
