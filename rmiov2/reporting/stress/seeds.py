"""What several seeds of a method did under loss that they were not trained on, as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmiov2.evaluation.stress import lasts
from rmiov2.reporting.estimates import Sample, over_seeds
from rmiov2.reporting.stress.figures import Stress
from rmiov2.types import UserError


def over_the_seeds(found: Sequence[Stress]) -> dict[str, Any]:
    """The means over seeds where each has its own number, with their 95 % intervals, and "seeds": how many there are.

    "each", beside curves that are drawn: those of the single seeds. Of one seed its own intervals stay. Raises
    UserError where they played other tasks, rates or lengths.
    """
    first = found[0]
    for other in found[1:]:
        if _played(other) != _played(first):
            raise UserError("metrics/stress.json of one method differ in task, rates or lengths; keep its seeds anew")
    win, steps = first["measure"] == "win_rate", first["blackout"]["steps"]
    sight = _mean([one["full_sight"] for one in found], win)
    dark, bursty, gone = (_by_mode([one[name] for one in found], win) for name in ("blackout", "bursty", "one_agent"))
    endured = {
        mode: np.mean([one["blackout"]["endured"][mode] for one in found], axis=0).tolist()
        for mode in first["blackout"]["endured"]
    }
    last = {
        mode: lasts(steps, values, dark["ci95"][mode], sight["performance"])
        for mode, values in dark["performance"].items()
    }
    usual = int(np.median([one["full_sight"]["usual_length"] for one in found]))
    memories = [one["memory"] for one in found if "memory" in one]
    memory = {"memory": {**first["memory"], **_mean(memories, win), **_single(memories, "auc")}} if memories else {}
    return {
        "env": first["env"], "agent": first["agent"], "measure": first["measure"], "episodes": first["episodes"],
        "seeds": len(found),
        "full_sight": {**sight, "usual_length": usual},
        "bursty": {
            "p_loss": first["bursty"]["p_loss"], **bursty, **_single([one["bursty"] for one in found], "performance")
        },
        "one_agent": gone,
        "blackout": {
            "steps": steps, "endured": endured, **dark, "lasts": last,
            **_single([one["blackout"] for one in found], "performance"),
        },
        **memory,
    }  # fmt: skip


def _played(stress: Stress) -> tuple[Any, ...]:
    """What must be the same: the task, how long it was played, and what the numbers are over."""
    memory = stress.get("memory", {})
    over = stress["bursty"]["p_loss"], stress["blackout"]["steps"], memory.get("history"), memory.get("own")
    return *(stress[key] for key in ("env", "agent", "measure", "episodes")), *over


def _single(blocks: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """What every seed has of it, one after the other, by mode where there are modes; nothing of a single seed."""
    if len(blocks) == 1:
        return {}
    first = blocks[0][name]
    if not isinstance(first, Mapping):
        return {"each": [block[name] for block in blocks]}
    return {"each": {mode: [block[name][mode] for block in blocks] for mode in first}}


def _by_mode(blocks: Sequence[Mapping[str, Any]], win: bool) -> dict[str, dict[str, Any]]:
    """What _mean says, each by mode."""
    names = [name for name in ("performance", "ci95", "auc", "auc_ci95") if name in blocks[0]]
    modes = blocks[0]["performance"]
    parts = {mode: _mean([{name: block[name][mode] for name in names} for block in blocks], win) for mode in modes}
    return {name: {mode: part[name] for mode, part in parts.items()} for name in names}


def _mean(blocks: Sequence[Mapping[str, Any]], win: bool) -> dict[str, Any]:
    """performance with its ci95, and auc with its own where there is one, numbers or lists of them."""
    made: dict[str, Any] = {}
    for name, bounds in (("performance", "ci95"), ("auc", "auc_ci95")):
        if name in blocks[0]:
            values, ends = (np.asarray([block[key] for block in blocks], dtype=float) for key in (name, bounds))
            made[name], made[bounds] = _over(values, ends, win)
    return made


def _over(values: Any, bounds: Any, win: bool) -> tuple[Any, Any]:
    """Means of values (S, ...) and their intervals, from those of the seeds (S, ..., 2), as plain lists."""
    if len(values) == 1:
        return values[0].tolist(), bounds[0].tolist()
    shape, halves = values.shape[1:], (bounds[..., 1] - bounds[..., 0]) / 2
    points = zip(values.reshape(len(values), -1).T, halves.reshape(len(values), -1).T, strict=True)
    estimates = [over_seeds(Sample(tuple(own.tolist()), tuple(half.tolist()))) for own, half in points]
    ends = np.asarray([estimate.bounds for estimate in estimates]).reshape(*shape, 2)
    ends = ends.clip(0, 1) if win else ends  # a win rate ends at 0 and 1
    return np.asarray([estimate.mean for estimate in estimates]).reshape(shape).tolist(), ends.tolist()
