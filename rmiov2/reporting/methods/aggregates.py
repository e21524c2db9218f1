"""Methods over all rates of loss at once, as rliable has it: interquartile mean, profile, who improves on whom.

Agarwal et al. 2021, arXiv 2108.13264. Its package is not used: rliable 1.2.0 imports arch 7.2.0, which pandas 3 breaks,
and its bootstrap draws from numpy's global generator, so that two pages would differ. What it calls a task is a rate
p_loss here; but the rates of a seed are one training, so a seed is drawn with all of its rates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy

from rmiov2.evaluation.statistics import CONFIDENCE

Values = npt.NDArray[np.float64]
RESAMPLES = 5000
SEED = 0  # of the resampling: the same seeds always give the same interval


@dataclass(frozen=True)
class Aggregate:
    """A value, or one per threshold (K,), with the bounds of its 95 % interval; None where one seed has none."""

    value: Values
    bounds: tuple[Values, Values] | None


def iqm(scores: Values) -> Aggregate:
    """The interquartile mean over seeds and rates, scores (S, P), without the lowest and highest quarter."""
    return _bootstrapped(lambda drawn: scipy.stats.trim_mean(drawn.reshape(len(drawn), -1), 0.25, axis=1), scores)


def profile(scores: Values, thresholds: Values) -> Aggregate:
    """(K,) the share of seeds and rates, scores (S, P), that are above each threshold."""
    return _bootstrapped(lambda drawn: (drawn[..., None] > thresholds).mean(axis=(1, 2)), scores)


def improvement(ours: Values, theirs: Values) -> Aggregate:
    """How likely a seed of ours (S, P) beats one of theirs (T, P), a tie counting half, averaged over the rates.

    Mann and Whitney's U over all pairs at each rate. No interval where one side sweeps every rate: resampling
    a clean sweep gives only itself.
    """

    def share(mine: Values, others: Values) -> Values:
        pairs = mine[:, :, None] - others[:, None, :]
        return np.asarray((np.sign(pairs) / 2 + 0.5).mean(axis=(1, 2, 3)))

    found = _bootstrapped(share, np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float))
    return found if found.bounds and found.bounds[0] != found.bounds[1] else Aggregate(found.value, None)


def _bootstrapped(statistic: Callable[..., Values], *samples: Values) -> Aggregate:
    """statistic of samples (S, ...), each a stratum whose seeds are resampled for themselves; percentile interval."""
    value = statistic(*(sample[None] for sample in samples))[0]
    if min(len(sample) for sample in samples) < 2:
        return Aggregate(np.asarray(value), None)
    rng = np.random.default_rng(SEED)
    drawn = [sample[rng.integers(len(sample), size=(RESAMPLES, len(sample)))] for sample in samples]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(*drawn), (tail, 1 - tail), axis=0)
    return Aggregate(np.asarray(value), (np.asarray(low), np.asarray(high)))
