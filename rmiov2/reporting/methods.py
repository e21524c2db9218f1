"""A run among the methods whose seeds were kept: what each reached over its seeds, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import scipy

from rmiov2.evaluation.modes import UNTUNED, own_mode
from rmiov2.evaluation.statistics import CONFIDENCE
from rmiov2.reporting.kept import Method, Seed, measured
from rmiov2.reporting.moment import telling_moment
from rmiov2.reporting.results import Results
from rmiov2.reporting.words import WHOLE, completes, interval, number

if TYPE_CHECKING:
    from pandas import DataFrame

_UNKNOWN = object()
ALIKE = 0.05  # by which share environment steps may differ and still be called equal: games end when they end


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its 95 % interval; bounds is None where one seed says nothing of another."""

    mean: float
    bounds: tuple[float, float] | None


def beside(results: Results) -> tuple[Method, ...]:
    """This run's method, then the others; nothing without others.

    The run is a seed of its method, with those kept that were trained as it was: preset, masked updates and, but for
    ALIKE, environment steps are the same. A kept seed of the run's own number gives way to the run. A run that is not
    the whole method stands alone.
    """
    own = own_method(results)
    others = tuple(method for method in results.methods if method.agent != own.agent)
    return (own, *others) if others else ()


def own_method(results: Results) -> Method:
    """This run's method: the run, and those of its kept seeds that were trained as it was."""
    agent, run = results.evaluate["agent"], _seed_of(results)
    mine = [] if not_whole(results) else [method for method in results.methods if method.agent == agent]
    kept = [seed for method in mine for seed in method.seeds if seed.seed != run.seed and trained_alike(seed, run)]
    seeds = tuple(sorted([run, *kept], key=lambda seed: seed.seed))
    return Method(agent, seeds, scale=results.scale, commits=tuple(c for method in mine for c in method.commits))


def not_whole(results: Results) -> str:
    """How the run differs from its whole method, in words; "" if in nothing that was recorded."""
    if results.ablation != WHOLE:
        return f"it was made with ablation={results.ablation}"
    same = [method for method in (*results.methods, *results.variants) if method.agent == results.evaluate["agent"]]
    for key, value in (item for method in same for item in method.settings.items()):
        own: Any = results.settings
        for name in key.split("."):
            own = own.get(name, _UNKNOWN) if isinstance(own, Mapping) else _UNKNOWN
        if own is not _UNKNOWN and own != value:
            return f"its {key} is {own}, the whole method’s {value}"
    return ""


def _seed_of(results: Results) -> Seed:
    return Seed(
        seed=int(np.ravel(results.pretrain["seeds"])[0]),
        evaluate=results.evaluate,
        pretrain=results.pretrain,
        finetune=results.finetune,
        learning=results.learning,
        l_rec=measured(results.finetuning) if completes(results.evaluate) else None,
        costs=results.costs,
        losses=_losses_of(results.pretraining),
        moment=telling_moment(results.scene),
    )


def _losses_of(pretraining: DataFrame) -> DataFrame | None:
    """The rounds of pre-training that have a loss of the world model, (env_steps, loss_model); None without any."""
    if "loss_model" not in pretraining:
        return None
    points = pretraining[["env_steps", "loss_model"]].dropna()
    return None if points.empty else points


def trained_alike(seed: Seed, run: Seed) -> bool:
    """Whether preset, masked updates and, but for ALIKE, environment steps are the same."""
    same = seed.pretrain["preset"] == run.pretrain["preset"] and seed.finetune["updates"] == run.finetune["updates"]
    return bool(same and equal(seed.pretrain["env_steps"], run.pretrain["env_steps"]))


def equal(steps: float, others: float) -> bool:
    """Whether two numbers of environment steps count as the same."""
    return abs(steps - others) <= ALIKE * max(others, 1)


def own_answer(method: Method) -> str:
    """Its mode: its own answer to a lost observation, after masked fine-tuning."""
    return own_mode(method.seeds[0].evaluate["performance"])


def untuned(method: Method) -> str:
    """The same before masked fine-tuning."""
    return own_answer(method) + UNTUNED


def told(method: Method) -> Method | None:
    """The method as it plays where a blind agent is told which actions it has; None where a seed was not played so."""
    if not all(seed.evaluate.get("true_availability") for seed in method.seeds):
        return None
    seeds = [replace(seed, evaluate={**seed.evaluate, **seed.evaluate["true_availability"]}) for seed in method.seeds]
    return replace(method, seeds=tuple(seeds))


def mean_of(method: Method, number: Callable[[Seed], float]) -> float:
    """The mean over seeds."""
    return float(np.mean([number(seed) for seed in method.seeds]))


def env_steps(method: Method) -> float:
    """Steps played to learn from, the buffer's first and those of masked fine-tuning included; mean over seeds."""
    return mean_of(method, lambda seed: seed.pretrain["env_steps"] + seed.finetune["env_steps"])


def curves(method: Method, mode: str) -> npt.NDArray[np.float64]:
    """(S, P) performance of every seed over p_loss."""
    return np.asarray([seed.evaluate["performance"][mode] for seed in method.seeds], dtype=float)


def bands(method: Method, mode: str) -> npt.NDArray[np.float64]:
    """(S, P, 2) the seeds' own 95 % intervals: the luck of the episodes."""
    return np.asarray([seed.evaluate["ci95"][mode] for seed in method.seeds], dtype=float)


def areas(method: Method, mode: str) -> list[float]:
    """The AUC of every seed."""
    return [float(seed.evaluate["auc"][mode]) for seed in method.seeds]


def area(method: Method, mode: str) -> Estimate:
    """The AUC that another seed of the method can be expected to have; see over_seeds."""
    bounds = [seed.evaluate["auc_ci95"][mode] for seed in method.seeds]
    return _within(method, over_seeds(areas(method, mode), _half_widths(bounds)))


def performance(method: Method, mode: str, index: int) -> Estimate:
    """The same of the performance at a rate of the grid."""
    bounds = bands(method, mode)[:, index]
    return _within(method, over_seeds(curves(method, mode)[:, index].tolist(), _half_widths(bounds)))


def _half_widths(bounds: Any) -> list[float]:
    return [float(hi - lo) / 2 for lo, hi in bounds]


def _within(method: Method, found: Estimate) -> Estimate:
    """A win rate's interval ends at 0 and 1."""
    if found.bounds is None or method.seeds[0].evaluate["measure"] != "win_rate":
        return found
    return Estimate(found.mean, (max(0.0, found.bounds[0]), min(1.0, found.bounds[1])))


def over_seeds(values: Sequence[float], half_widths: Sequence[float]) -> Estimate:
    """Mean of values (S,) and its interval, half_widths being those of the seeds' own 95 % intervals.

    Student's t over the seeds: their spread holds the luck of training and that of the episodes both. Few seeds may lie
    closer together than the episodes of each allow, so it is never narrower than the half widths make the mean's,
    sqrt(sum of squares) / S.
    """
    mean, n = float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean, None)
    spread = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / np.sqrt(n))
    half = max(spread, math.hypot(*half_widths) / n)  # numpy's norm is BLAS's, which rounds by the processor
    return Estimate(mean, (mean - half, mean + half))


def decided(one: Estimate, other: Estimate) -> bool:
    """Whether the intervals of both are known and lie apart."""
    if one.bounds is None or other.bounds is None:
        return False
    return one.bounds[0] > other.bounds[1] or other.bounds[0] > one.bounds[1]


def estimate_said(found: Estimate, digits: int) -> str:
    """The mean and its interval, or that it is of one seed."""
    return f"{number(found.mean, digits)} {interval(found.bounds, digits) if found.bounds else '(one seed)'}"


def cost_of(method: Method) -> list[Any]:
    """The costs of those seeds of which they were kept."""
    return [seed.costs for seed in method.seeds if seed.costs is not None]
