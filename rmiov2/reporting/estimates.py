"""Means over seeds and differences of two methods, and how sure these are."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import scipy

from rmiov2.evaluation.statistics import CONFIDENCE
from rmiov2.reporting.words import number, with_interval

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
ALONE = "(one seed)"  # in place of an interval


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, its 95 % interval, and the two-sided p-value of zero; None where one seed says nothing of
    another."""

    mean: float
    bounds: tuple[float, float] | None
    p: float | None = None

    @property
    def decided(self) -> bool:
        """Whether the whole interval lies on one side of zero."""
        return self.bounds is not None and (self.bounds[0] > 0 or self.bounds[1] < 0)


@dataclass(frozen=True)
class Sample:
    """A number of every seed, and the half width of its 95 % interval over episodes; 0 where there is no such luck."""

    values: tuple[float, ...]
    half_widths: tuple[float, ...]


def grouped(teams: Iterable[tuple[int, T]]) -> list[list[T]]:
    """What teams have, by their seed. Teams of one seed, trained on processors that round differently, begin alike, so
    that they are not seeds of their own: a seed counts once, with the mean of its teams."""
    groups: dict[int, list[T]] = {}
    for seed, has in teams:
        groups.setdefault(seed, []).append(has)
    return list(groups.values())


def by_seed(seeds: Sequence[int], values: Sequence[float], half_widths: Sequence[float]) -> Sample:
    """The sample of teams with these seeds; see grouped."""
    groups = grouped(zip(seeds, zip(values, half_widths, strict=True), strict=True))
    # math.hypot, here and below: numpy's norm is BLAS's, which rounds by the processor
    means = tuple(float(np.mean([value for value, _ in group])) for group in groups)
    return Sample(means, tuple(math.hypot(*(half for _, half in group)) / len(group) for group in groups))


def over_seeds(sample: Sample) -> Estimate:
    """Mean over the seeds and its interval.

    Student's t over the seeds: their spread holds the luck of training and that of the episodes both. Few seeds may lie
    closer together than the episodes of each allow, so it is never narrower than the half widths make the mean's,
    sqrt(sum of squares) / S.
    """
    mean, n = float(np.mean(sample.values)), len(sample.values)
    if n < 2:
        return Estimate(mean, None)
    error = float(np.std(sample.values, ddof=1)) / math.sqrt(n)
    return _estimate(mean, error, n - 1, math.hypot(*sample.half_widths) / n)


def difference(one: Sample, other: Sample) -> Estimate:
    """The mean of one less that of the other, whose seeds are unrelated, by Welch's t; see over_seeds for the rest."""
    mean = float(np.mean(one.values)) - float(np.mean(other.values))
    if min(len(one.values), len(other.values)) < 2:
        return Estimate(mean, None)
    both = [(float(np.var(s.values, ddof=1)) / len(s.values), len(s.values) - 1) for s in (one, other)]
    total = sum(square for square, _ in both)
    freedom = total**2 / sum(square**2 / n for square, n in both) if total else float(sum(n for _, n in both))
    luck = math.hypot(*(math.hypot(*s.half_widths) / len(s.values) for s in (one, other)))
    return _estimate(mean, math.sqrt(total), freedom, luck)


def _estimate(mean: float, error: float, freedom: float, luck: float) -> Estimate:
    """luck: the half width that the episodes alone give."""
    quantile = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    half = max(quantile * error, luck)
    if half == 0:
        return Estimate(mean, (mean, mean), float(mean == 0))
    return Estimate(mean, (mean - half, mean + half), float(2 * scipy.stats.t.sf(abs(mean) * quantile / half, freedom)))


def holm(found: Mapping[K, Estimate]) -> dict[K, float]:
    """Holm's adjusted p-values of those that have one, by key: below 0.05, one stands beside all the others."""
    known = sorted(((one.p, key) for key, one in found.items() if one.p is not None), key=lambda pair: pair[0])
    adjusted, largest = {}, 0.0
    for rank, (p, key) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[key] = largest
    return adjusted


def estimate_said(found: Estimate, digits: int) -> str:
    """The mean and its interval, or that it is of one seed."""
    return with_interval(found.mean, found.bounds, digits) if found.bounds else f"{number(found.mean, digits)} {ALONE}"
