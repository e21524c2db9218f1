"""Every method on every task at a glance: with nothing lost, over all rates of loss, and after how many steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from rmiov2.reporting.estimates import ALONE
from rmiov2.reporting.kept import Method
from rmiov2.reporting.methods.measures import own_answer
from rmiov2.reporting.methods.reached import area, env_steps, equal, performance
from rmiov2.reporting.tables import ABSENT, Cell, Row, Table, estimate_cell, words_cell
from rmiov2.reporting.words import count, decimals_of, measure_name, probability, significant


def summary(tasks: Sequence[Sequence[Method]], reference: str) -> Table:
    """A row for each method, the reference first; two columns for each task, and the steps.

    Steps are told as a multiple of the reference's on each task; a method, or a reference, that is not kept is a dash.
    """
    on = [{method.agent: method for method in methods} for methods in tasks]
    digits = [min(decimals_of(seed.evaluate) for method in methods for seed in method.seeds) for methods in tasks]
    agents = sorted({agent for task in on for agent in task}, key=lambda agent: (agent != reference, agent))
    scales = {methods[0].scale for methods in tasks}
    columns = [name for methods in tasks for name in _columns(methods[0], said=len(scales) > 1)]
    rows = [Row(agent, (*_reached(on, digits, agent), words_cell(_steps(on, agent, reference)))) for agent in agents]
    caption = ", ".join(("Every method on every task", *(scales if len(scales) == 1 else ())))
    return Table(caption, ("agent", *columns, f"steps, beside {reference}’s"), tuple(rows))


def _columns(first: Method, said: bool) -> tuple[str, str]:
    """said: the scale, which differs."""
    evaluate = first.evaluate
    task = f"{evaluate['env']}, {first.scale}" if said else evaluate["env"]
    return f"{task}: {measure_name(evaluate)} at p_loss {probability(evaluate['p_loss'][0])}", f"{task}: AUC"


def _reached(on: Sequence[Mapping[str, Method]], digits: Sequence[int], agent: str) -> Iterator[Cell]:
    for task, places in zip(on, digits, strict=True):
        if agent not in task:
            yield from (ABSENT, ABSENT)
            continue
        method = task[agent]
        for found in (performance(method, own_answer(method), 0), area(method, own_answer(method))):
            cell = estimate_cell(found, places)
            yield cell if found.bounds else replace(cell, bounds=ALONE)


def _steps(on: Sequence[Mapping[str, Method]], agent: str, reference: str) -> str:
    return " / ".join(times(t[agent], t[reference]) if {agent, reference} <= t.keys() else "–" for t in on)


def times(method: Method, own: Method) -> str:
    """How many times own's environment steps the method had, in digits; 1 where they are called equal."""
    mine, theirs = env_steps(own), env_steps(method)
    ratio = 1.0 if equal(theirs, mine) else theirs / max(mine, 1)
    return "1" if ratio == 1 else significant(ratio) if ratio < 10 else count(round(ratio))


def after(method: Method, own: Method) -> str:
    """The same behind a method's number; nothing where its steps are called equal."""
    ratio = times(method, own)
    return "" if ratio == "1" else f" after {ratio} times as many environment steps"
