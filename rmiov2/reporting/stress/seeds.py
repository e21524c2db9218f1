"""What several seeds of a method did under loss that they were not trained on, as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rmiov2.evaluation.stress import lasts
from rmiov2.reporting.estimates import Sample, by_seed, grouped, over_seeds
from rmiov2.reporting.stress.figures import Stress
from rmiov2.types import UserError

Teams = Sequence[tuple[int, Mapping[str, Any]]]  # a part of metrics/stress.json of each team, behind its seed


def over_the_seeds(teams: Sequence[tuple[int, Stress]]) -> dict[str, Any]:
    """The means over seeds where each has its own number, with their 95 % intervals, and "seeds": how many there are.

    "each", beside curves that are drawn: those of the single seeds. Of one team its own intervals stay. Raises
    UserError where they played other tasks, rates or lengths.
    """
    first = teams[0][1]
    for _, other in teams[1:]:
        if _played(other) != _played(first):
            raise UserError("metrics/stress.json of one method differ in task, rates or lengths; keep its seeds anew")
    win, steps = first["measure"] == "win_rate", first["blackout"]["steps"]
    sights, darks, bursts, ones, memories = (
        [(seed, stress[name]) for seed, stress in teams if name in stress]
        for name in ("full_sight", "blackout", "bursty", "one_agent", "memory")
    )
    sight, dark = _mean(sights, win), _by_mode(darks, win)
    endured = {
        mode: np.mean(_each((seed, block["endured"][mode]) for seed, block in darks), axis=0).tolist()
        for mode in first["blackout"]["endured"]
    }
    last = {
        mode: lasts(steps, values, dark["ci95"][mode], sight["performance"])
        for mode, values in dark["performance"].items()
    }
    usual = int(np.median(_each((seed, block["usual_length"]) for seed, block in sights)))
    memory = {"memory": {**first["memory"], **_mean(memories, win), **_single(memories, "auc")}} if memories else {}
    return {
        "env": first["env"], "agent": first["agent"], "measure": first["measure"], "episodes": first["episodes"],
        "seeds": len(grouped(teams)),
        "full_sight": {**sight, "usual_length": usual},
        "bursty": {
            "p_loss": first["bursty"]["p_loss"], **_by_mode(bursts, win), **_single(bursts, "performance")
        },
        "one_agent": _by_mode(ones, win),
        "blackout": {
            "steps": steps, "endured": endured, **dark, "lasts": last, **_single(darks, "performance")
        },
        **memory,
    }  # fmt: skip


def _played(stress: Stress) -> tuple[Any, ...]:
    """What must be the same: the task, how long it was played, and what the numbers are over."""
    memory = stress.get("memory", {})
    over = stress["bursty"]["p_loss"], stress["blackout"]["steps"], memory.get("history"), memory.get("own")
    return *(stress[key] for key in ("env", "agent", "measure", "episodes")), *over


def _each(teams: Iterable[tuple[int, Any]]) -> list[Any]:
    """Of every seed a number, or a list of them: the mean of its teams."""
    return [np.mean(group, axis=0).tolist() for group in grouped(teams)]


def _single(teams: Teams, name: str) -> dict[str, Any]:
    """What every seed has of it, one after the other, by mode where there are modes; nothing of a single seed."""
    if len(grouped(teams)) == 1:
        return {}
    first = teams[0][1][name]
    if not isinstance(first, Mapping):
        return {"each": _each((seed, block[name]) for seed, block in teams)}
    return {"each": {mode: _each((seed, block[name][mode]) for seed, block in teams) for mode in first}}


def _by_mode(teams: Teams, win: bool) -> dict[str, dict[str, Any]]:
    """What _mean says, each by mode."""
    first = teams[0][1]
    names = [name for name in ("performance", "ci95", "auc", "auc_ci95") if name in first]
    parts = {
        mode: _mean([(seed, {name: block[name][mode] for name in names}) for seed, block in teams], win)
        for mode in first["performance"]
    }
    return {name: {mode: part[name] for mode, part in parts.items()} for name in names}


def _mean(teams: Teams, win: bool) -> dict[str, Any]:
    """performance with its ci95, and auc with its own where there is one, numbers or lists of them."""
    made: dict[str, Any] = {}
    for name, bounds in (("performance", "ci95"), ("auc", "auc_ci95")):
        if name in teams[0][1]:
            values, ends = (np.asarray([block[key] for _, block in teams], dtype=float) for key in (name, bounds))
            made[name], made[bounds] = _over([seed for seed, _ in teams], values, ends, win)
    return made


def _over(seeds: Sequence[int], values: Any, bounds: Any, win: bool) -> tuple[Any, Any]:
    """Means over seeds of values (T, ...) and their intervals, from those of the teams (T, ..., 2), as plain lists."""
    if len(values) == 1:
        return values[0].tolist(), bounds[0].tolist()
    shape, halves = values.shape[1:], (bounds[..., 1] - bounds[..., 0]) / 2
    points = zip(values.reshape(len(values), -1).T, halves.reshape(len(values), -1).T, strict=True)
    found = [_estimated(by_seed(seeds, own.tolist(), half.tolist())) for own, half in points]
    ends = np.asarray([bounds for _, bounds in found]).reshape(*shape, 2)
    ends = ends.clip(0, 1) if win else ends  # a win rate ends at 0 and 1
    return np.asarray([mean for mean, _ in found]).reshape(shape).tolist(), ends.tolist()


def _estimated(sample: Sample) -> tuple[float, tuple[float, float]]:
    """The mean and its interval; of one seed that which the episodes of its teams allow."""
    found = over_seeds(sample)
    half = sample.half_widths[0]
    return found.mean, found.bounds or (found.mean - half, found.mean + half)
