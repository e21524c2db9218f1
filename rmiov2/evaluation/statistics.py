"""Intervals for what was measured: Wilson's for win rates, the percentile bootstrap for everything else.

Every interval is about the evaluated agents: it holds the luck of the episodes, not that of training with another seed.
The bootstrap cannot doubt what never varied: where every episode earned the same, its interval has no width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy

from rmiov2.types import UserError

Values = npt.NDArray[np.float64]
Interval = tuple[float, float]
CONFIDENCE = 0.95
SEED = 0  # of the resampling: the same rows always give the same interval
BATCH = 500  # resamples drawn at a time: bounds the memory, changes no number of draws


def wilson(wins: int, episodes: int) -> Interval:
    """Wilson's 95 % score interval of a win rate; raises UserError without episodes. (Wilson 1927)"""
    if not 0 <= wins <= episodes or episodes == 0:
        raise UserError(f"got {wins} wins of {episodes} episodes, expected 0 <= wins <= episodes > 0")
    interval = scipy.stats.binomtest(int(wins), int(episodes)).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(values: Values, resamples: int) -> Interval:
    """95 % percentile bootstrap of the mean of values (n,); raises UserError below two values."""
    return _bootstrap([values], resamples, lambda means: means[0])


def performance_interval(values: Values, measure: str, resamples: int) -> Interval:
    """The interval that fits the measure: Wilson for win_rate (values 0 or 1), the bootstrap for step_return."""
    if measure == "win_rate":
        return wilson(int(np.sum(values)), len(values))
    return mean_interval(values, resamples)


def auc(p_loss: Values, performance: Values) -> Any:
    """Area under performance (..., P) over p_loss (P,) by trapezoids, divided by the width of the grid.

    A win rate gives 0 to 1; a step return gives its mean over the rates, in its own unit.
    """
    p_loss = np.asarray(p_loss, dtype=float)
    if len(p_loss) < 2 or np.any(np.diff(p_loss) <= 0):
        raise UserError(f"p_loss: got {p_loss.tolist()}, expected a rising grid of two rates at least")
    return np.trapezoid(performance, p_loss, axis=-1) / (p_loss[-1] - p_loss[0])


def auc_interval(p_loss: Values, strata: Sequence[Sequence[Values]], resamples: int) -> Interval:
    """95 % bootstrap of the AUC; strata[i][s] are the episodes of seed s at p_loss[i], each resampled for itself."""
    flat = [np.asarray(episodes, dtype=float) for seeds in strata for episodes in seeds]
    ends = np.cumsum([len(seeds) for seeds in strata])

    def area(means: Values) -> Values:
        points = [part.mean(axis=0) for part in np.split(means, ends[:-1])]
        return np.asarray(auc(p_loss, np.stack(points, axis=-1)))

    return _bootstrap(flat, resamples, area)


def paired_difference(left: Values, right: Values, resamples: int) -> tuple[float, Interval]:
    """Mean of left - right, both (n,) over the same episodes, and its 95 % bootstrap over pairs."""
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    if left.shape != right.shape:
        raise UserError(f"got {len(left)} and {len(right)} episodes, expected the same episodes on both sides")
    return float(np.mean(left - right)), mean_interval(left - right, resamples)


def paired_auc_difference(
    p_loss: Values, left: Sequence[Values], right: Sequence[Values], resamples: int
) -> tuple[float, Interval]:
    """AUC of left less that of right, and its 95 % bootstrap over pairs; left[i], right[i] (n,) at p_loss[i].

    Both sides played with the same seeds, in the same order. Where a simulator draws a row's next game with what the
    last one left of its generator, they have only each row's first game in common; the others pair at random, and the
    interval stays valid, less sharp. The area is linear in the curve, so it is the area under the curve of the
    differences; each rate is resampled for itself.
    """
    _refuse_other_episodes(left, right)
    differences = [np.asarray(a, dtype=float) - np.asarray(b, dtype=float) for a, b in zip(left, right, strict=True)]
    area = float(auc(p_loss, np.array([difference.mean() for difference in differences])))
    return area, auc_interval(p_loss, [[difference] for difference in differences], resamples)


def _refuse_other_episodes(left: Sequence[Values], right: Sequence[Values]) -> None:
    sizes = [len(values) for values in left], [len(values) for values in right]
    if sizes[0] != sizes[1]:
        raise UserError(f"got {sizes[0]} and {sizes[1]} episodes, expected the same episodes on both sides")


def _bootstrap(samples: Sequence[Values], resamples: int, statistic: Any) -> Interval:
    """Resample every sample for itself; statistic turns the means (len(samples), R) into (R,)."""
    for sample in samples:
        if len(sample) < 2:
            raise UserError(f"got {len(sample)} episodes for an interval, expected 2 at least; play more")

    def of_means(*drawn: Values, axis: int = -1) -> Any:
        return statistic(np.stack([np.mean(values, axis=axis) for values in drawn]))

    result = scipy.stats.bootstrap(
        tuple(samples),
        of_means,
        n_resamples=resamples,
        batch=BATCH,
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
