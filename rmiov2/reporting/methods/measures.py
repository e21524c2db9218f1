"""What one seed reached: a number, and the half width of its 95 % interval over episodes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from rmiov2.evaluation.modes import UNTUNED, own_mode
from rmiov2.reporting.kept import Method, Seed

Measured = tuple[float, float]


def own_answer(team: Seed | Method) -> str:
    """Its mode: its own answer to a lost observation, after masked fine-tuning."""
    return own_mode(team.evaluate["performance"])


def untuned(team: Seed | Method) -> str:
    """The same before masked fine-tuning."""
    return own_answer(team) + UNTUNED


def auc(seed: Seed, mode: str) -> Measured:
    """The area under its curve over p_loss."""
    return float(seed.evaluate["auc"][mode]), half_width(seed.evaluate["auc_ci95"][mode])


def performance_at(seed: Seed, mode: str, index: int) -> Measured:
    """Its performance at a rate of the grid."""
    return float(seed.evaluate["performance"][mode][index]), half_width(seed.evaluate["ci95"][mode][index])


def own_auc(seed: Seed) -> Measured:
    """AUC of its own answer to a lost observation, after masked fine-tuning."""
    return auc(seed, own_answer(seed))


def own_sight(seed: Seed) -> Measured:
    """Performance with nothing lost, after masked fine-tuning."""
    return performance_at(seed, own_answer(seed), 0)


def told(seed: Seed) -> Seed | None:
    """The seed as it plays where a blind agent is told which actions it has; None where it was not played so."""
    known = seed.evaluate.get("true_availability")
    return replace(seed, evaluate={**seed.evaluate, **known}) if known else None


def less(mine: Measured, theirs: Measured) -> Measured:
    """Mine less theirs, of episodes that are not the same."""
    return mine[0] - theirs[0], math.hypot(mine[1], theirs[1])


def half_width(bounds: Sequence[float]) -> float:
    """Of an interval."""
    low, high = bounds
    return float(high - low) / 2
