"""What the methods reach and what they cost, and in a sentence who is ahead: for the page, and as markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from rmiov2.reporting import costs
from rmiov2.reporting.kept import UPDATES, Benched, Method, read_methods, read_times, task_of
from rmiov2.reporting.methods import (
    Estimate,
    area,
    areas,
    cost_of,
    decided,
    estimate_said,
    mean_of,
    own_answer,
    performance,
    told,
    untuned,
)
from rmiov2.reporting.methods_summary import after, summary
from rmiov2.reporting.tables import ABSENT, Cell, Row, Table, estimate_cell, markdown, number_cell
from rmiov2.reporting.words import (
    NARROW_SPACE,
    count,
    decimals_of,
    focus_index,
    listed,
    measure_name,
    number,
    probability,
    significant,
)

OPEN_LOOP = "open_loop"
INTERVALS = (
    "Unless a column says open loop or not fine-tuned, performance, AUC, messages and bytes are those of the "
    "method’s own answer to a lost observation after masked fine-tuning, averaged over its seeds; open loop is the "
    "same team without any observation. True mask: a blind agent is told which actions are legal, which reveals who "
    "is in range and who is alive. Without it, blind agents of RMIOv2, RMIO, MAMBA and MAG try the actions that "
    "their world model considers possible; those of QMIX, FACMAC and MAPPO have learned from play without masks; "
    "those of GAWM try any action. Brackets are 95 % intervals: Student’s t over the seeds or, where that is wider, "
    "the uncertainty from the luck of the episodes alone; a single seed has none. Two methods are undecided if "
    "these intervals overlap, which is stricter than an interval of their difference, or if one of them has a "
    "single seed. Unless stated otherwise, a method had as many environment steps as the one it is compared with. "
    "Environment steps and updates: pre-training + masked fine-tuning. Messages and bytes: of the whole team. "
    "Parameters: all that are trained / those used in play. Milliseconds: a world-model update / a masked update / "
    "a policy round, with all methods measured side by side on one machine. A dash: not kept, or not measured."
)


def methods_tables(methods: Sequence[Method], times: Benched) -> tuple[Table, Table]:
    """What each method reaches, and what it costs; times as read_times gives them."""
    first = methods[0].seeds[0].evaluate
    at, digits, masked = focus_index(first["p_loss"]), _decimals(methods), any(map(told, methods))
    sight, middle = (f"p_loss {probability(first['p_loss'][index])}" for index in (0, at))
    reached = (
        *("agent", "environment steps", sight, middle, "AUC", "AUC by seed", "AUC, open loop"),
        *(f"{sight}, not fine-tuned", "AUC, not fine-tuned"),
        *(["AUC, true mask"] if masked else []),
    )
    spent = (
        *("agent", "updates", f"messages per step, {middle}", f"bytes per step, {middle}"),
        *("parameters", "ms per update"),
    )
    on = f"on {first['env']}, {methods[0].scale}"
    return (
        Table(
            f"Methods {on}: {measure_name(first)}", reached, _rows(methods, lambda m: _reached(m, at, digits, masked))
        ),
        Table(f"Methods {on}: costs", spent, _rows(methods, lambda m: _spent(m, at, times))),
    )


def _rows(methods: Sequence[Method], of: Callable[[Method], Iterator[Cell]]) -> tuple[Row, ...]:
    return tuple(Row(method.agent, tuple(of(method))) for method in methods)


def _decimals(methods: Sequence[Method]) -> int:
    return max(decimals_of(seed.evaluate) for method in methods for seed in method.seeds)


def _reached(method: Method, at: int, digits: int, masked: bool) -> Iterator[Cell]:
    own = own_answer(method)
    yield _both(method, "env_steps")
    for found in (performance(method, own, 0), performance(method, own, at), area(method, own)):
        yield estimate_cell(found, digits)
    yield Cell(None, ", ".join(number(value, digits) for value in areas(method, own)), "", best=False)
    before = performance(method, untuned(method), 0), area(method, untuned(method))
    played = all(OPEN_LOOP in seed.evaluate["auc"] for seed in method.seeds)
    yield _mean_cell(area(method, OPEN_LOOP), digits) if played else ABSENT
    yield from (_mean_cell(found, digits) for found in before)
    if masked:
        known = told(method)
        yield estimate_cell(area(known, own) if known else None, digits)


def _spent(method: Method, at: int, times: Benched) -> Iterator[Cell]:
    kept = cost_of(method)
    yield _both(method, "updates")
    for name in costs.COUNTED:
        yield _per_step(kept, name, at)
    yield _parameters(kept, own_answer(method))
    yield _time(method, times)


def _mean_cell(found: Estimate, digits: int) -> Cell:
    return number_cell(found.mean, number(found.mean, digits))


def _both(method: Method, key: str) -> Cell:
    """Of pre-training and of masked fine-tuning."""
    before = mean_of(method, lambda seed: seed.pretrain[key])
    after = mean_of(method, lambda seed: seed.finetune[key])
    return number_cell(before + after, f"{count(round(before))} + {count(round(after))}")


def _per_step(kept: Sequence[Any], name: str, at: int) -> Cell:
    if not kept:
        return ABSENT
    value = float(np.mean([cost[name][at] for cost in kept]))
    return number_cell(value, significant(value))


def _parameters(kept: Sequence[Any], own: str) -> Cell:
    if not kept:
        return ABSENT
    whole = costs.trained(kept[0])  # of every seed: the settings are the same
    return number_cell(whole, f"{count(whole)} / {count(costs.played(kept[0], own))}")


def _time(method: Method, times: Benched) -> Cell:
    """Of the world model, of the same while fine-tuning, of a policy round."""
    first = method.seeds[0]
    found = times.get(f"{method.agent}, {first.evaluate['env']}, {first.pretrain['preset']}")
    if found is None:
        return ABSENT
    return number_cell(found[UPDATES[0]], " / ".join(significant(found[name]) for name in UPDATES))


def verdict(methods: Sequence[Method], reference: str) -> list[str]:
    """Who is ahead of the reference and behind it: in AUC, also with the true masks, and with nothing lost.

    Every method is named. Intervals that overlap decide nothing, nor does a method of one seed. Empty without the
    reference or without others.
    """
    others = [method for method in methods if method.agent != reference]
    if len(others) in (0, len(methods)):
        return []
    (own,) = (method for method in methods if method.agent == reference)
    digits = _decimals(methods)
    sight = probability(own.seeds[0].evaluate["p_loss"][0])
    found = [_standings("AUC", own, others, _own_area, digits)]
    if known := told(own):
        theirs = [method for method in map(told, others) if method]
        found.append(_standings("true-mask AUC", known, theirs, _own_area, digits))
    return [
        *found,
        _standings(f"performance at p_loss {sight}", own, others, lambda m: performance(m, own_answer(m), 0), digits),
    ]


def _own_area(method: Method) -> Estimate:
    return area(method, own_answer(method))


def _standings(what: str, own: Method, others: Sequence[Method], of: Callable[[Method], Estimate], digits: int) -> str:
    mine = of(own)
    groups: dict[tuple[bool, bool], list[str]] = {key: [] for key in _GROUPS}
    for method in sorted(others, key=lambda method: -of(method).mean):
        found = of(method)
        said = f"{method.agent} ({number(found.mean, digits)}{after(method, own)}{_alone(method)})"
        groups[found.mean > mine.mean, decided(found, mine)].append(said)
    highest = not any(groups[True, sure] for sure in (True, False))
    none = ["No other method has a higher mean."] if highest else []
    named = [f"{_GROUPS[key]} {listed(names)}." for key, names in groups.items() if names]
    return " ".join((f"Mean {what} of {own.agent}: {estimate_said(mine, digits)}.", *none, *named))


# By whether the other's mean is higher, and whether that is decided.
_GROUPS = {
    (True, True): "It is beaten by",
    (False, True): "It is ahead of",
    (True, False): "Undecided, with a higher mean:",
    (False, False): "Undecided, with no higher mean:",
}


def _alone(method: Method) -> str:
    return ", one seed" if len(method.seeds) == 1 else ""


def methods_markdown(kept: Path, reference: str) -> str:
    """A summary, then tables and sentences of every task that has kept seeds, the reference's row first."""
    methods = sorted(read_methods(kept), key=lambda method: (task_of(method), method.agent != reference))
    tasks = [list(group) for _, group in groupby(methods, key=task_of)]
    parts = [markdown(summary(tasks, reference))] if tasks else []
    for found in tasks:
        reached, spent = map(markdown, methods_tables(found, read_times(kept)))
        parts.append("\n\n".join((reached, *verdict(found, reference), spent)))
    return "\n\n".join([*parts, INTERVALS] if parts else []).replace(NARROW_SPACE, ",")
