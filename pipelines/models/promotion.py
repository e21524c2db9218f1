"""Whether a candidate is better than the champion, judged on rows of evaluated episodes, and the record of it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from rmiov2.config import Config
from rmiov2.evaluation import statistics
from rmiov2.evaluation.episodes import Columns, performances
from rmiov2.evaluation.modes import own_mode
from rmiov2.evaluation.sweep import AVAILABILITIES, RANDOM
from rmiov2.types import UserError


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate is promoted, what was compared, and why, in a readable line."""

    promoted: bool
    numbers: dict[str, float]
    reason: str


@dataclass(frozen=True)
class Decision:
    """One line of the record."""

    time: str
    model: str
    decision: str  # promoted | refused | rolled back
    version: str  # that was decided on
    champion: str  # afterwards; empty if there is none
    reason: str
    numbers: dict[str, float]


def write_down(decision: Decision, path: Path) -> None:
    """Append it to the record; it survives a power cut."""
    with path.open("a") as handle:
        handle.write(json.dumps(asdict(decision), ensure_ascii=False, allow_nan=False) + "\n")
        handle.flush()
        os.fsync(handle.fileno())


def now() -> str:
    """The time of a decision, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def protocol(config: Config) -> str:
    """A hash of what two evaluations must share to be compared game by game."""
    shared = config.evaluate.model_dump(mode="json", exclude={"bootstrap"}) | {"env": config.env.name}
    return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]


def first(candidate: Columns, resamples: int) -> Verdict:
    """Without a champion: promoted if the whole interval of its AUC is above what uniform play earns."""
    grid, curve = _curve(candidate)
    area = float(statistics.auc(grid, np.array([values.mean() for values in curve])))
    low, high = statistics.auc_interval(grid, [[values] for values in curve], resamples)
    rows = {name: values[candidate["mode"] == RANDOM] for name, values in candidate.items()}
    chance = float(performances(rows, str(candidate["measure"][0])).mean())
    told = f"AUC {area:.4f} [{low:.4f}, {high:.4f}], uniform play {chance:.4f}"
    numbers = {"auc": area, "auc_low": low, "auc_high": high, "random": chance}
    return Verdict(low > chance, numbers, f"{told}: {'better' if low > chance else 'not clearly better'} than chance")


def against(candidate: Columns, champion: Columns, resamples: int) -> Verdict:
    """Promoted if the whole interval of the paired difference of AUC is above zero, and it is not worse at p_loss = 0.

    Not worse: the interval of the paired difference at p_loss = 0 does not lie below zero altogether. Pairs are
    episodes of the same rate, row and number, whose games begin from the same seed; what an earlier episode of the row
    did to the generator is the candidate's own luck. Raises UserError where the episodes are not the same.
    """
    (grid, mine), (other_grid, theirs) = _curve(candidate), _curve(champion)
    if not np.array_equal(grid, other_grid) or grid[0] != 0:
        raise UserError(f"got p_loss {grid} and {other_grid}, expected the same grid, which begins with 0")
    area, (low, high) = statistics.paired_auc_difference(grid, mine, theirs, resamples)
    sight, (sight_low, sight_high) = statistics.paired_difference(mine[0], theirs[0], resamples)
    numbers = {
        "auc_difference": area, "auc_difference_low": low, "auc_difference_high": high,
        "full_sight_difference": sight, "full_sight_difference_low": sight_low,
        "full_sight_difference_high": sight_high,
    }  # fmt: skip
    better, sound = low > 0, sight_high >= 0
    told = (
        f"AUC {area:+.4f} [{low:+.4f}, {high:+.4f}], at p_loss = 0 {sight:+.4f} [{sight_low:+.4f}, {sight_high:+.4f}]"
    )
    judged = "better under loss" if better else "not clearly better under loss"
    return Verdict(better and sound, numbers, f"{told}: {judged}, {'not worse' if sound else 'worse'} with full sight")


def _curve(rows: Columns) -> tuple[statistics.Values, list[statistics.Values]]:
    """The rates (P,), and per rate the performances of the headline mode's episodes in their order, masks lost."""
    chosen = (rows["mode"] == own_mode(rows["mode"])) & (rows["availability"] == AVAILABILITIES[0])
    values = performances(rows, str(rows["measure"][0]))
    order = np.flatnonzero(chosen)[np.lexsort((rows["episode"][chosen], rows["seed"][chosen]))]
    grid = np.unique(rows["p_loss"][chosen])
    return grid, [values[order[rows["p_loss"][order] == rate]] for rate in grid]
