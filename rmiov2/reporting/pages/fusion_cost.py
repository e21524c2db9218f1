"""What the two fusions cost in weights and operations (appendix D): counted on models that were built, never timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rmiov2.reporting.html import Chapter
from rmiov2.reporting.kept import Benched, read_bench
from rmiov2.reporting.tables import Cell, Row, Table
from rmiov2.reporting.words import count, number, significant

FUSIONS = "fusion_cost.json"
MODULES = OBSERVATION, ACTION = "observation fusion", "action fusion"
HEAD = (
    "task", "weights of a fusion", "both, % of M’s weights", "MFLOP of a fusion per step of the team",
    "observation fusion, % of an update’s FLOP", "action fusion, %",
)  # fmt: skip
NOTE = "M: the world model. An update: its forward and backward pass over a batch. Operations are counted, not timed."
Modules = Mapping[str, Mapping[str, float]]
Fusions = Mapping[tuple[str, str], Modules]  # by task and preset


def read_fusions(kept: Path) -> Fusions:
    """What `python -m benchmarks --only fusion --out docs/seeds/FUSIONS` counted; nothing where that was not run."""
    return sorted_out(read_bench(kept / FUSIONS, "fusion"))


def sorted_out(benched: Benched) -> Fusions:
    """The numbers of the tasks of which both modules were counted."""
    found: dict[tuple[str, str], dict[str, Mapping[str, float]]] = {}
    for what, numbers in benched.items():
        module, task, preset = what.split(", ")
        found.setdefault((task, preset), {})[module] = numbers
    return {key: modules for key, modules in found.items() if modules.keys() == set(MODULES)}


def fusion_chapters(fusions: Fusions) -> list[Chapter]:
    """A table for each preset; nothing where nothing was counted."""
    presets = dict.fromkeys(preset for _, preset in fusions)
    found = {preset: {task: fusions[task, its] for task, its in fusions if its == preset} for preset in presets}
    tables = tuple(_table(preset, tasks) for preset, tasks in found.items())
    lead = tuple(_said(preset, tasks) for preset, tasks in found.items())
    return [Chapter("fusions", "What the two fusions cost (appendix D)", (), lead, tables, NOTE)] if tables else []


def cost_said(modules: Modules) -> str:
    """What both together cost, in a few words."""
    share = shares(modules)
    flop = sum(share[name] for name in MODULES)
    return f"{number(100 * share['weights'], 0)} % of M’s weights, {number(100 * flop, 0)} % of an update"


def shares(modules: Modules) -> dict[str, float]:
    """Of both together in M's weights, and of each in the operations of an update."""
    weights = sum(module["parameters"] for module in modules.values())
    found = {"weights": weights / modules[ACTION]["model_parameters"]}
    return found | {name: module["update_flop"] / module["model_update_flop"] for name, module in modules.items()}


def _table(preset: str, tasks: Mapping[str, Modules]) -> Table:
    rows = tuple(Row(task, tuple(_cells(modules))) for task, modules in tasks.items())
    return Table(f"The two fusions, preset {preset}", HEAD, rows)


def _cells(modules: Modules) -> Sequence[Cell]:
    share = shares(modules)
    return (
        _both(modules, "parameters", count),
        _percent(share["weights"]),
        _both(modules, "step_flop", lambda flop: significant(flop / 1e6)),
        *(_percent(share[name]) for name in MODULES),
    )


def _both(modules: Modules, key: str, said: Callable[[float], str]) -> Cell:
    """One number where they are alike."""
    values = list(dict.fromkeys(modules[name][key] for name in MODULES))
    return Cell(values[0] if len(values) == 1 else None, " and ".join(map(said, values)))


def _percent(share: float) -> Cell:
    return Cell(share, number(100 * share, 1))


def _said(preset: str, tasks: Mapping[str, Modules]) -> str:
    found = [shares(modules) for modules in tasks.values()]
    flop = [share[OBSERVATION] + share[ACTION] for share in found]
    return (
        f"At the size of the preset {preset}, the two together are {_range([share['weights'] for share in found])} % of"
        f" the world model’s weights and {_range(flop)} % of the operations of one of its updates."
    )


def _range(values: Sequence[float]) -> str:
    low, high = (number(100 * bound, 0) for bound in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
