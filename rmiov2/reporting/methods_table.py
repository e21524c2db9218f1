"""The methods in a table, and in a sentence who is ahead: for the page, and as markdown for the README."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from rmiov2.reporting import costs
from rmiov2.reporting.kept import UPDATES, Method, Times, read_methods, read_times
from rmiov2.reporting.methods import (
    Estimate,
    area,
    areas,
    cost_of,
    decided,
    env_steps,
    equal,
    mean_of,
    own_answer,
    performance,
    untuned,
)
from rmiov2.reporting.tables import ABSENT, Cell, Row, Table, markdown
from rmiov2.reporting.words import (
    NARROW_SPACE,
    count,
    decimals_of,
    focus_index,
    interval,
    measure_name,
    number,
    probability,
    significant,
)

INTERVALS = (
    "Everything but what is called not fine-tuned is of the method’s own answer to a lost observation after masked"
    " fine-tuning, the mean over its seeds; brackets are 95 % intervals, Student’s t over the seeds or, where that is"
    " wider, what the luck of the episodes alone leaves open; a single seed has none. Environment steps and updates: of"
    " pre-training + of masked fine-tuning. Messages and bytes: of a team. Parameters: of all that is trained / of what"
    " plays. Milliseconds: a world-model update / a masked one / a policy round, of all methods side by side on one"
    " machine. A dash: not kept, or not measured."
)


def methods_table(methods: Sequence[Method], times: Times) -> Table:
    """A row for each method; times as read_times gives them."""
    first = methods[0].seeds[0].evaluate
    at = focus_index(first["p_loss"])
    digits = _decimals(methods)
    rows = tuple(Row(method.agent, (*_cells(method, at, digits), _time(method, times))) for method in methods)
    sight = f"p_loss {probability(first['p_loss'][0])}"
    middle = f"p_loss {probability(first['p_loss'][at])}"
    head = (
        *("agent", "seeds", "environment steps", "updates"),
        *(sight, middle, "AUC", "AUC by seed", f"{sight}, not fine-tuned", "AUC, not fine-tuned"),
        *(f"messages a step, {middle}", f"bytes a step, {middle}", "parameters", "ms an update"),
    )
    caption = f"Methods on {first['env']}, {methods[0].scale}: {measure_name(first)} and costs"
    return Table(caption, head, rows)


def _decimals(methods: Sequence[Method]) -> int:
    return max(decimals_of(seed.evaluate) for method in methods for seed in method.seeds)


def _cells(method: Method, at: int, digits: int) -> Iterator[Cell]:
    own = own_answer(method)
    yield _cell(len(method.seeds), str(len(method.seeds)))
    yield _both(method, "env_steps")
    yield _both(method, "updates")
    for found in (performance(method, own, 0), performance(method, own, at), area(method, own)):
        bounds = interval(found.bounds, digits) if found.bounds else ""
        yield Cell(found.mean, number(found.mean, digits), bounds, best=False)
    yield Cell(None, ", ".join(number(value, digits) for value in areas(method, own)), "", best=False)
    for before in (performance(method, untuned(method), 0).mean, area(method, untuned(method)).mean):
        yield _cell(before, number(before, digits))
    kept = cost_of(method)
    for name in costs.COUNTED:
        yield _per_step(kept, name, at)
    yield _parameters(kept, own)


def _cell(value: float, text: str) -> Cell:
    return Cell(value, text, "", best=False)


def _both(method: Method, key: str) -> Cell:
    """Of pre-training and of masked fine-tuning."""
    before = mean_of(method, lambda seed: seed.pretrain[key])
    after = mean_of(method, lambda seed: seed.finetune[key])
    return _cell(before + after, f"{count(round(before))} + {count(round(after))}")


def _per_step(kept: Sequence[Any], name: str, at: int) -> Cell:
    if not kept:
        return ABSENT
    value = float(np.mean([cost[name][at] for cost in kept]))
    return _cell(value, significant(value))


def _parameters(kept: Sequence[Any], own: str) -> Cell:
    if not kept:
        return ABSENT
    whole = costs.trained(kept[0])  # of every seed: the settings are the same
    return _cell(whole, f"{count(whole)} / {count(costs.played(kept[0], own))}")


def _time(method: Method, times: Times) -> Cell:
    """Of the world model, of the same while fine-tuning, of a policy round."""
    first = method.seeds[0]
    found = times.get(f"{method.agent}, {first.evaluate['env']}, {first.pretrain['preset']}")
    if found is None:
        return ABSENT
    return _cell(found[UPDATES[0]], " / ".join(significant(found[name]) for name in UPDATES))


def verdict(methods: Sequence[Method], reference: str) -> list[str]:
    """Whether any method has a higher mean than the reference, in AUC and with nothing lost; every one is named.

    Intervals that overlap decide nothing, nor does a method of one seed. Empty without the reference or without others.
    """
    others = [method for method in methods if method.agent != reference]
    if len(others) in (0, len(methods)):
        return []
    (own,) = (method for method in methods if method.agent == reference)
    digits = _decimals(methods)
    sight = probability(own.seeds[0].evaluate["p_loss"][0])
    return [
        _standings("AUC", own, others, lambda method: area(method, own_answer(method)), digits),
        _standings(
            f"at p_loss {sight}", own, others, lambda method: performance(method, own_answer(method), 0), digits
        ),
    ]


def _standings(what: str, own: Method, others: Sequence[Method], of: Callable[[Method], Estimate], digits: int) -> str:
    mine, higher, ahead, level = of(own), [], [], []
    for method in sorted(others, key=lambda method: -of(method).mean):
        found = of(method)
        said = f"{_said(found, digits)}{_after(method, own)}"
        if found.mean > mine.mean:
            more = number(found.mean - mine.mean, digits + 1)
            tail = f"{method.agent} beats {own.agent}" if decided(found, mine) else _undecided(found, mine)
            higher.append(f"{method.agent} has a higher one, {said}, by {more}: {tail}.")
        elif decided(found, mine):
            ahead.append(f"{method.agent}, {said}")
        else:
            level.append(f"{method.agent}, {said}, {_undecided(found, mine)}")
    sentences = [
        f"Mean {what} of {own.agent}: {_said(mine, digits)}.",
        *(higher or ["No other method has a higher one."]),
    ]
    sentences += [f"It is ahead of {'; '.join(ahead)}."] if ahead else []
    sentences += [f"Not higher: {'; '.join(level)}."] if level else []
    return " ".join(sentences)


def _said(found: Estimate, digits: int) -> str:
    return f"{number(found.mean, digits)} {interval(found.bounds, digits) if found.bounds else '(one seed)'}"


def _undecided(found: Estimate, mine: Estimate) -> str:
    known = found.bounds is not None and mine.bounds is not None
    return f"undecided, as {'the intervals overlap' if known else 'one seed has no interval'}"


def _after(method: Method, own: Method) -> str:
    mine, theirs = env_steps(own), env_steps(method)
    if equal(theirs, mine):
        return " after as many environment steps"
    ratio = theirs / max(mine, 1)
    return f" after {significant(ratio) if ratio < 10 else count(round(ratio))} times as many environment steps"


def methods_markdown(kept: Path, reference: str) -> str:
    """The table and the sentence of every task that has kept seeds, the reference's row first."""
    methods = sorted(read_methods(kept), key=lambda method: (_task(method), method.agent != reference))
    parts = []
    for _, group in groupby(methods, key=_task):
        found = list(group)
        parts.append("\n\n".join((markdown(methods_table(found, read_times(kept))), *verdict(found, reference))))
    return "\n\n".join([*parts, INTERVALS] if parts else []).replace(NARROW_SPACE, ",")


def _task(method: Method) -> tuple[str, str, str]:
    evaluate = method.seeds[0].evaluate
    return evaluate["env"], method.scale, str(evaluate["p_loss"])
