"""A run among the methods whose seeds were kept: what each reached over its seeds, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rmiov2.reporting.estimates import Estimate, Sample, by_seed, grouped, over_seeds
from rmiov2.reporting.kept import L_REC_COLUMNS, LOSS_COLUMNS, Method, Seed, measured
from rmiov2.reporting.methods import measures
from rmiov2.reporting.methods.measures import Measured, auc, half_width, performance_at
from rmiov2.reporting.methods.seeds import curve_of
from rmiov2.reporting.run.results import Results
from rmiov2.reporting.scene.moment import telling_moment
from rmiov2.reporting.words import WHOLE, completes, decimals_of

_UNKNOWN = object()
MOST = 0.9  # of the way of L_rec, within which it is as good as down
ALIKE = 0.05  # by which share environment steps may differ and still be called equal: games end when they end


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
    kept = [s for method in mine for s in method.seeds if not _same_team(s, run) and trained_alike(s, run)]
    seeds = tuple(sorted([run, *kept], key=lambda seed: seed.seed))
    return Method(agent, seeds, scale=results.scale, commits=tuple(c for method in mine for c in method.commits))


def _same_team(kept: Seed, run: Seed) -> bool:
    """Whether a kept team gives way to the run: it has its seed and, where that is known, its processor."""
    return kept.pair == run.pair if run.processor else kept.seed == run.seed


def _processor_of(results: Results) -> str:
    """What trained the run, which its own files do not tell: as of the kept team that played the same to the bit."""
    mine = [method for method in results.methods if method.agent == results.evaluate["agent"]]
    return next((s.processor for method in mine for s in method.seeds if s.evaluate == results.evaluate), "")


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
        l_rec=measured(results.finetuning, *L_REC_COLUMNS) if completes(results.evaluate) else None,
        costs=results.costs,
        losses=measured(results.pretraining, *LOSS_COLUMNS),
        moment=telling_moment(results.scene),
        processor=_processor_of(results),
    )


def trained_alike(seed: Seed, run: Seed) -> bool:
    """Whether preset, masked updates and, but for ALIKE, environment steps are the same."""
    same = seed.pretrain["preset"] == run.pretrain["preset"] and seed.finetune["updates"] == run.finetune["updates"]
    return bool(same and equal(seed.pretrain["env_steps"], run.pretrain["env_steps"]))


def equal(steps: float, others: float) -> bool:
    """Whether two numbers of environment steps count as the same."""
    return abs(steps - others) <= ALIKE * max(others, 1)


def told(method: Method) -> Method | None:
    """The method as it plays where a blind agent is told which actions it has; None where a seed was not played so."""
    seeds = [known for seed in method.seeds if (known := measures.told(seed)) is not None]
    return replace(method, seeds=tuple(seeds)) if len(seeds) == len(method.seeds) else None


def mean_of(method: Method, number: Callable[[Seed], float]) -> float:
    """The mean over seeds."""
    return over_seeds(sample(method, lambda seed: (number(seed), 0.0))).mean


def env_steps(method: Method) -> float:
    """Steps played to learn from, the buffer's first and those of masked fine-tuning included; mean over seeds."""
    return mean_of(method, lambda seed: seed.pretrain["env_steps"] + seed.finetune["env_steps"])


def curves(method: Method, mode: str) -> npt.NDArray[np.float64]:
    """(T, P) performance of every team over p_loss."""
    return np.asarray([seed.evaluate["performance"][mode] for seed in method.seeds], dtype=float)


def sample(method: Method, measure: Callable[[Seed], Measured]) -> Sample:
    """A measure that every seed has."""
    return by_seed(numbers(method), *zip(*map(measure, method.seeds), strict=True))


def sample_known(method: Method, measure: Callable[[Seed], Measured | None]) -> Sample | None:
    """A measure of the seeds that have it; None without any."""
    found = [(seed.seed, *value) for seed in method.seeds if (value := measure(seed)) is not None]
    return by_seed(*zip(*found, strict=True)) if found else None


def areas(method: Method, mode: str) -> Sample:
    """The AUC of every seed."""
    return sample(method, lambda seed: auc(seed, mode))


def performances(method: Method, mode: str, index: int) -> Sample:
    """The performance of every seed at a rate of the grid."""
    return sample(method, lambda seed: performance_at(seed, mode, index))


def shares_kept(method: Method, mode: str) -> Sample | None:
    """AUC as a share of what each seed wins with nothing lost: how robust it is, whatever its skill.

    None where a seed wins nothing, and for returns, whose zero is arbitrary.
    """
    sights = [performance_at(seed, mode, 0)[0] for seed in method.seeds]
    if min(sights) <= 0 or method.evaluate["measure"] != "win_rate":
        return None

    def share(seed: Seed) -> Measured:
        (area, luck), (sight, _) = auc(seed, mode), performance_at(seed, mode, 0)
        return area / sight, luck / sight  # the luck of sight would add to it

    return sample(method, share)


def after_steps(method: Method, steps: float) -> Sample | None:
    """The greedy performance with nothing lost after so many environment steps of pre-training, between the two
    evaluations around them; None where a seed was not evaluated before or after."""
    played = [seed.learning["env_steps"] for seed in method.seeds]
    if any(not on.iloc[0] <= steps <= on.iloc[-1] for on in played):
        return None

    def then(seed: Seed) -> Measured:
        curve = seed.learning
        value, *bounds = (float(np.interp(steps, curve["env_steps"], curve[of])) for of in ("performance", "lo", "hi"))
        return value, half_width(bounds)

    return sample(method, then)


def by_updates(method: Method) -> Sample | None:
    """Within how many masked updates each seed's L_rec has made MOST of its way, as often as it was measured; None
    where one has no L_rec, or one that does not fall."""
    errors = [curve_of(seed.l_rec, *L_REC_COLUMNS) for seed in method.seeds if seed.l_rec is not None]
    if len(errors) < len(method.seeds) or any(values.min() >= values[0] for _, values in errors):
        return None
    ends = [values[0] + MOST * (values.min() - values[0]) for _, values in errors]
    found = [float(updates[np.argmax(values <= end)]) for (updates, values), end in zip(errors, ends, strict=True)]
    return by_seed(numbers(method), found, [0.0] * len(found))


def seed_curves(method: Method, mode: str) -> npt.NDArray[np.float64]:
    """(S, P) performance over p_loss; teams of one seed count once, with their mean."""
    teams = zip(numbers(method), curves(method, mode), strict=True)
    return np.asarray([np.mean(group, axis=0) for group in grouped(teams)])


def expected(method: Method, found: Sample) -> Estimate:
    """What another seed can be expected to have: see over_seeds. A win rate's interval ends at 0 and 1."""
    made = over_seeds(found)
    if made.bounds is None or method.evaluate["measure"] != "win_rate":
        return made
    return replace(made, bounds=(max(0.0, made.bounds[0]), min(1.0, made.bounds[1])))


def area(method: Method, mode: str) -> Estimate:
    """The AUC to be expected."""
    return expected(method, areas(method, mode))


def performance(method: Method, mode: str, index: int) -> Estimate:
    """The performance to be expected at a rate of the grid."""
    return expected(method, performances(method, mode, index))


def decimals(methods: Iterable[Method]) -> int:
    """Digits behind the point in which the performances of all of them can be told apart."""
    return max(decimals_of(seed.evaluate) for method in methods for seed in method.seeds)


def numbers(method: Method) -> list[int]:
    """The seed of each of its teams."""
    return [seed.seed for seed in method.seeds]


def seeds_said(method: Method) -> str:
    """How many seeds, and that some were trained more than once."""
    seeds, teams = len(set(numbers(method))), len(method.seeds)
    said = "one seed" if seeds == 1 else f"{seeds} seeds"
    return said if teams == seeds else f"{said} in {teams} teams"
