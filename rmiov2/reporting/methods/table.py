"""What the methods reach and what they cost: for the page, and as markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rmiov2.evaluation.modes import OPEN_LOOP
from rmiov2.reporting.estimates import Sample, over_seeds
from rmiov2.reporting.kept import UPDATES, Benched, Method, by_task, read_methods, read_times
from rmiov2.reporting.methods.measures import own_answer, untuned
from rmiov2.reporting.methods.reached import (
    after_steps,
    area,
    areas,
    decimals,
    expected,
    mean_of,
    performance,
    sample_known,
    shares_kept,
    told,
)
from rmiov2.reporting.methods.standings import verdict
from rmiov2.reporting.methods.summary import summary
from rmiov2.reporting.run import costs
from rmiov2.reporting.tables import ABSENT, Cell, Row, Table, estimate_cell, interval_cell, markdown, values_cell
from rmiov2.reporting.words import (
    NARROW_SPACE,
    count,
    focus_index,
    measure_name,
    probability,
    significant,
)

INTERVALS = (
    "Unless a column says open loop or not fine-tuned, performance, AUC, messages and bytes are those of the method’s "
    "own answer to a lost observation after masked fine-tuning, averaged over its seeds; open loop is the same team "
    "without any observation. True mask: a blind agent is told which actions are legal, which reveals who is in range "
    "and who is alive. Without it, blind agents of RMIOv2, RMIO, MAMBA and MAG try the actions that their world model "
    "considers possible; those of QMIX, FACMAC and MAPPO have learned from play without masks; those of GAWM try any "
    "action. Brackets are 95 % intervals: Student’s t over the seeds or, where that is wider, the uncertainty from "
    "the luck of the episodes alone; a single seed has none. Teams of one seed, trained on processors that round "
    "differently, count once, with their mean, which is surer than a single team. Two methods are compared by the "
    "difference of their means and its 95 % interval (Welch’s t, whose two samples may differ in spread), not "
    "corrected for the number of comparisons; a lead is the first method’s mean minus the other’s. They are undecided "
    "if it contains zero, or if one of them has a single seed. Unless stated otherwise, a method had as many "
    "environment steps as the one it is compared with; the column “after … steps” is pre-training, after equally many "
    "for all, between the two greedy evaluations around them. AUC ÷ p_loss 0 is the share of its own wins that a "
    "method keeps over all rates. Environment steps and updates: pre-training + masked fine-tuning. Messages and "
    "bytes: of the whole team. Parameters: all that are trained / those used in play. Milliseconds: a world-model "
    "update / a masked update / a policy round, with all methods measured side by side on one machine. A dash: not "
    "kept, or not measured."
)


def methods_tables(methods: Sequence[Method], times: Benched) -> tuple[Table, Table, Table]:
    """What each method reaches, over all rates and at each, and what it costs; times as read_times gives them."""
    first = methods[0].evaluate
    measure, on = measure_name(first), f"on {first['env']}, {methods[0].scale}"
    made = (
        (f"Methods {on}: {measure}", *_reached(methods)),
        (f"Methods {on}: {measure} by p_loss", *_by_rate(methods)),
        (f"Methods {on}: costs", *_spent(methods, times)),
    )
    over, rates, spent = (Table(caption, ("agent", *head), rows) for caption, head, rows in made)
    return over, rates, replace(spent, folded=True)


Columns = tuple[tuple[str, ...], tuple[Row, ...]]


def _reached(methods: Sequence[Method]) -> Columns:
    digits, masked, steps = decimals(methods), any(map(told, methods)), _common_steps(methods)
    sight = f"p_loss {probability(methods[0].evaluate['p_loss'][0])}"
    head = (
        *("AUC", sight, *(["AUC, true mask"] if masked else []), "AUC by seed"),
        *("AUC, not fine-tuned", f"{sight}, not fine-tuned"),
        *([f"{sight} after {count(steps)} steps"] if steps else []),
        *("AUC, open loop", "environment steps"),
    )

    def cells(method: Method) -> Iterator[Cell]:
        own, before = own_answer(method), untuned(method)
        yield estimate_cell(area(method, own), digits)
        yield estimate_cell(performance(method, own, 0), digits)
        if masked:
            known = told(method)
            yield estimate_cell(area(known, own) if known else None, digits)
        yield values_cell(areas(method, own).values, digits)
        yield estimate_cell(area(method, before), digits)
        yield estimate_cell(performance(method, before, 0), digits)
        if steps:
            yield _sample_cell(method, after_steps(method, steps), digits)
        played = all(OPEN_LOOP in seed.evaluate["auc"] for seed in method.seeds)
        yield interval_cell(area(method, OPEN_LOOP).mean, None, digits) if played else ABSENT
        yield _both(method, "env_steps")

    return head, tuple(Row(method.agent, tuple(cells(method))) for method in methods)


def _common_steps(methods: Sequence[Method]) -> int:
    """The last thousand of environment steps to which every seed was evaluated while it was pre-trained."""
    return min(int(seed.learning["env_steps"].iloc[-1]) for m in methods for seed in m.seeds) // 1000 * 1000


def _by_rate(methods: Sequence[Method]) -> Columns:
    p_loss, digits = methods[0].evaluate["p_loss"], decimals(methods)
    sight = probability(p_loss[0])
    shares = {method.agent: shares_kept(method, own_answer(method)) for method in methods}
    rated = any(shares.values())

    def cells(method: Method) -> Iterator[Cell]:
        for index in range(len(p_loss)):
            yield estimate_cell(performance(method, own_answer(method), index), digits)
        if rated:
            yield _sample_cell(method, shares[method.agent], 2)

    head = (*(f"p_loss {probability(rate)}" for rate in p_loss), *([f"AUC ÷ p_loss {sight}"] if rated else []))
    return head, tuple(Row(method.agent, tuple(cells(method))) for method in methods)


def _spent(methods: Sequence[Method], times: Benched) -> Columns:
    p_loss = methods[0].evaluate["p_loss"]
    at = focus_index(p_loss)
    middle = f"p_loss {probability(p_loss[at])}"
    head = (
        *("updates", f"messages per step, {middle}", f"bytes per step, {middle}"),
        *("parameters", "ms per update"),
    )

    def cells(method: Method) -> Iterator[Cell]:
        yield _both(method, "updates")
        for name in costs.COUNTED:
            yield _per_step(method, name, at)
        yield _parameters(method)
        yield _time(method, times)

    return head, tuple(Row(method.agent, tuple(cells(method))) for method in methods)


def _sample_cell(method: Method, found: Sample | None, digits: int) -> Cell:
    return estimate_cell(expected(method, found) if found else None, digits)


def _both(method: Method, key: str) -> Cell:
    """Of pre-training and of masked fine-tuning."""
    before = mean_of(method, lambda seed: seed.pretrain[key])
    after = mean_of(method, lambda seed: seed.finetune[key])
    return Cell(before + after, f"{count(round(before))} + {count(round(after))}")


def _per_step(method: Method, name: str, at: int) -> Cell:
    known = sample_known(method, lambda seed: (seed.costs[name][at], 0.0) if seed.costs else None)
    if known is None:
        return ABSENT
    value = over_seeds(known).mean
    return Cell(value, significant(value))


def _parameters(method: Method) -> Cell:
    cost = next((seed.costs for seed in method.seeds if seed.costs), None)  # of every seed: the settings are the same
    if cost is None:
        return ABSENT
    whole = costs.trained(cost)
    return Cell(whole, f"{count(whole)} / {count(costs.played(cost, own_answer(method)))}")


def _time(method: Method, times: Benched) -> Cell:
    """Of the world model, of the same while fine-tuning, of a policy round."""
    first = method.seeds[0]
    found = times.get(f"{method.agent}, {first.evaluate['env']}, {first.pretrain['preset']}")
    if found is None:
        return ABSENT
    return Cell(found[UPDATES[0]], " / ".join(significant(found[name]) for name in UPDATES))


def methods_markdown(kept: Path, reference: str) -> str:
    """A summary, then tables and sentences of every task that has kept seeds, the reference's row first."""
    tasks = by_task(sorted(read_methods(kept), key=lambda method: method.agent != reference))
    parts = [markdown(summary(tasks, reference))] if tasks else []
    for found in tasks:
        reached, *rest = map(markdown, methods_tables(found, read_times(kept)))
        parts.append("\n\n".join((reached, *verdict(found, reference), *rest)))
    return "\n\n".join([*parts, INTERVALS] if parts else []).replace(NARROW_SPACE, ",")
