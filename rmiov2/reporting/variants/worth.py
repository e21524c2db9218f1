"""What each part of the method is worth: variants without it, paired with the whole by seed; the paper's findings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from rmiov2.reporting.estimates import Estimate, by_seed, over_seeds
from rmiov2.reporting.kept import LOSS_COLUMNS, Method, Seed
from rmiov2.reporting.methods.measures import Measured, less, own_auc, own_sight, told
from rmiov2.reporting.methods.reached import expected, not_whole, own_method, sample_known, trained_alike
from rmiov2.reporting.methods.seeds import curve_of
from rmiov2.reporting.run.results import Results
from rmiov2.reporting.scene.battle_map import distances
from rmiov2.reporting.words import WHOLE
from rmiov2.types import UserError

Verdict = Literal["confirmed", "not confirmed", "undecided at this size", "not run"]
END = 0.2  # share of pre-training over which the world model's last losses are averaged


@dataclass(frozen=True)
class Family:
    """The whole method and its variants on one task at one scale, every seed trained as long as those of the whole."""

    whole: Method
    variants: tuple[Method, ...]

    @property
    def named(self) -> Mapping[str, Method]:
        """By ablation."""
        return {method.ablation: method for method in (self.whole, *self.variants)}


@dataclass(frozen=True)
class Claim:
    """A finding of the paper: `better` is ahead of `worse` in a measure, which more is better of, or less."""

    place: str
    better: str
    worse: str
    measure: str
    more: bool = True


@dataclass(frozen=True)
class Paired:
    """A difference between two variants over the seeds that both have, team by team, and its mean over seeds."""

    seeds: tuple[int, ...]
    values: tuple[float, ...]
    estimate: Estimate


def auc_told(seed: Seed) -> Measured | None:
    """AUC where blind agents are handed the true availability mask; None where actions are continuous."""
    known = told(seed)
    return None if known is None else own_auc(known)


def l_rec(seed: Seed) -> Measured | None:
    """Reconstruction loss of lost observations after masked fine-tuning; None where nothing is reconstructed."""
    found = seed.finetune.get("l_rec")
    return None if found is None else (float(found["after"]), 0.0)


def learned_on_the_way(seed: Seed) -> Measured:
    """The mean of its learning curve over environment steps: how soon it learned as well as how much."""
    steps, values = curve_of(seed.learning, "env_steps", "performance")
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]) if len(steps) > 1 else values[0]), 0.0


def model_loss(seed: Seed) -> Measured | None:
    """The world model's mean loss over the last fifth of pre-training; None where it was not kept."""
    if seed.losses is None:
        return None
    steps, values = curve_of(seed.losses, *LOSS_COLUMNS)
    return float(values[steps >= steps[-1] - END * (steps[-1] - steps[0])].mean()), 0.0


def belief_error(seed: Seed) -> Measured | None:
    """How far from where they are a blind agent believes units to be, at the moment of one episode that figure 13
    shows; None without a map or such a moment."""
    if seed.moment is None or "map" not in seed.moment:
        return None
    return float(np.mean(distances(seed.moment, 0, seed.moment["agent"]))), 0.0


MEASURES: Mapping[str, Callable[[Seed], Measured | None]] = {
    "AUC": own_auc,
    "AUC, true availability": auc_told,
    "L_rec": l_rec,
    "performance with nothing lost": own_sight,
    "mean of the learning curve": learned_on_the_way,
    "world-model loss at the end": model_loss,
    "error of a blind agent’s belief": belief_error,
}
RATED = ("AUC", "AUC, true availability", "performance with nothing lost")  # rates, where wins are counted
A, B, C, TREND = "no_observation_fusion", "no_action_fusion", "no_fusion", "no_reward_trend"
NORMALISED = "normalised_trend"
FUSIONS = (WHOLE, A, B, C)
HALF = "constant_p_mask"  # as in the paper, at 0.5; the whole method draws a rate for each sequence, unless told not to
RATES = {"no_masking": 0.0, "p_mask_0.125": 0.125, "p_mask_0.25": 0.25, "p_mask_0.375": 0.375, HALF: 0.5,
         "p_mask_0.75": 0.75}  # fmt: skip
RISING = [name for name, rate in RATES.items() if rate <= 0.5]
STEPS = [(more, less) for less, more in zip(RISING, RISING[1:], strict=False)]
MASKED = (*STEPS, (HALF, RISING[0]), (HALF, "p_mask_0.75"))  # better and worse: step by step, the whole way, and beyond
FUSED = ((WHOLE, B), (B, A), (A, C), (WHOLE, A))
CLAIMS = (
    *(Claim("table 1", better, worse, "AUC") for better, worse in ((WHOLE, A), (A, B), (B, C), (WHOLE, C))),
    *(Claim("table 1", better, worse, "L_rec", more=False) for better, worse in FUSED),
    *(Claim("table 2", better, worse, "AUC") for better, worse in MASKED),
    *(Claim("table 2", better, worse, "L_rec", more=False) for better, worse in MASKED),
    *(Claim("figure 10", WHOLE, part, "world-model loss at the end", more=False) for part in (A, TREND)),
    *(Claim("figure 11", WHOLE, part, "mean of the learning curve") for part in (A, TREND)),
    *(Claim("figure 11", WHOLE, part, "performance with nothing lost") for part in (A, TREND)),
    *(Claim("figure 13", WHOLE, part, "error of a blind agent’s belief", more=False) for part in (A, B, C)),
)


def rates(found: Family) -> dict[str, float]:
    """RATES in this family's names: a whole method that masks every sequence at 0.5 is HALF itself."""
    return {_own_name(found, name): rate for name, rate in RATES.items()}


def claims(found: Family) -> list[Claim]:
    """CLAIMS in this family's names, see rates; where the trend acts only if it is normalised, adding it is judged."""
    said = [replace(claim, better=_own_name(found, claim.better)) for claim in CLAIMS]
    if inert_trend(found):
        said = [replace(c, better=NORMALISED, worse=WHOLE) if c.worse == TREND else c for c in said]
    return said


def inert_trend(found: Family) -> bool:
    """Whether no window of the whole method's reward trend opens: in battles, whose rewards vary by less than eq. (11)
    asks for, unless the variance is normalised. tests/test_params.py has the bound."""
    suite = found.whole.evaluate["env"].partition("/")[0]
    return suite == "smax" and not found.whole.settings.get("reward_trend.normalise", False)


def _own_name(found: Family, ablation: str) -> str:
    constant = found.whole.settings.get("finetune.vary_p_mask") is False
    return WHOLE if constant and ablation == HALF else ablation


def family(whole: Method, variants: Sequence[Method]) -> Family | None:
    """Those seeds of all that were trained as the first of the whole; None where no variant is left."""
    first = whole.seeds[0]
    whole, *kept = (
        replace(m, seeds=tuple(seed for seed in m.seeds if trained_alike(seed, first))) for m in (whole, *variants)
    )
    kept = [variant for variant in kept if variant.seeds]
    return Family(whole, tuple(kept)) if kept else None


def of_run(results: Results) -> Family | None:
    """The run's method and its kept variants; None where none was kept, and for a run that is itself a variant."""
    return None if not_whole(results) else family(own_method(results), results.variants)


def estimate(method: Method, measure: str) -> Estimate | None:
    """The mean over the seeds that have it with its interval, which ends where its values do; None without any."""
    found = sample_known(method, MEASURES[measure])
    if found is None:
        return None
    if measure in RATED:
        return expected(method, found)
    made = over_seeds(found)
    if measure == "L_rec" and made.bounds:
        return replace(made, bounds=(max(0.0, made.bounds[0]), made.bounds[1]))
    return made


def paired(left: Method, right: Method, measure: str) -> Paired | None:
    """left less right, seed by seed of one processor; None where no such seed of both has the measure.

    Student's t over the differences, never narrower than the episodes of both allow: see over_seeds. Raises UserError
    for a value that is not finite, as no difference to it means anything.
    """
    others = {seed.pair: MEASURES[measure](seed) for seed in right.seeds}
    pairs = [
        (seed.seed, mine, theirs)
        for seed in left.seeds
        if (mine := MEASURES[measure](seed)) is not None and (theirs := others.get(seed.pair)) is not None
    ]
    if not pairs:
        return None
    for seed, *both in pairs:
        if strange := [value for value in both if not np.isfinite(value).all()]:
            raise UserError(
                f"{measure} of seed {seed} of {left.agent}, {left.ablation} or {right.ablation}, is {strange[0][0]},"
                " expected a finite number: its training diverged; train it anew or take it out of docs/seeds"
            )
    seeds = tuple(seed for seed, _, _ in pairs)
    values, widths = zip(*(less(mine, theirs) for _, mine, theirs in pairs), strict=True)
    return Paired(seeds, values, over_seeds(by_seed(seeds, values, widths)))


def less_whole(variant: Method, found: Family, measure: str) -> Paired | None:
    """A variant less the whole method: what the part is worth. None where it was played otherwise than the whole method
    was, or its L_rec is over windows of another length."""
    other_test = any(key.startswith("evaluate.") for key in variant.changes)
    other_windows = measure == "L_rec" and "execution.history" in variant.changes
    return None if other_test or other_windows else paired(variant, found.whole, measure)


def judged(claim: Claim, found: Family) -> tuple[Paired | None, Verdict]:
    """The difference that a claim is about, better less worse, and what it says of the claim.

    Confirmed or not only if the whole interval lies on one side of zero; one seed decides nothing.
    """
    named = found.named
    if claim.better not in named or claim.worse not in named:
        return None, "not run"
    pair = paired(named[claim.better], named[claim.worse], claim.measure)
    if pair is None:
        return None, "not run"
    return pair, of_bounds(pair.estimate, claim.more)


def of_bounds(difference: Estimate, more: bool) -> Verdict:
    """What an interval says: nothing without bounds, around zero, or with bounds that are no numbers."""
    if not difference.decided:
        return "undecided at this size"
    return "confirmed" if (difference.mean > 0) == more else "not confirmed"
