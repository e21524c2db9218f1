"""The tables of a run: what it reached by p_loss, and in rows how it was run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmiov2.reporting.run.games import game_rows
from rmiov2.reporting.run.results import Results
from rmiov2.reporting.tables import Cell, Row, Table
from rmiov2.reporting.words import (
    MODE_NAMES,
    count,
    decimals_of,
    duration,
    interval,
    measure_name,
    modes_of,
    number,
    probability,
)


def result_table(block: Mapping[str, Any], evaluate: Mapping[str, Any], caption: str) -> Table:
    """Performance per mode and p_loss with intervals, and the area under the curve; block as in evaluate.json."""
    modes = modes_of(block)
    columns = [
        ([block["performance"][mode][i] for mode in modes], [block["ci95"][mode][i] for mode in modes])
        for i in range(len(evaluate["p_loss"]))
    ]
    columns.append(([block["auc"][mode] for mode in modes], [block["auc_ci95"][mode] for mode in modes]))
    digits = decimals_of(evaluate)
    filled = [_column(values, bounds, digits) for values, bounds in columns]
    rows = tuple(Row(MODE_NAMES[mode], tuple(column[i] for column in filled)) for i, mode in enumerate(modes))
    return Table(
        caption, ("lost observations become", *map(probability, evaluate["p_loss"]), "AUC"), rows, totalled=True
    )


def _column(values: list[float], bounds: list[list[float]], digits: int) -> list[Cell]:
    texts = [number(value, digits) for value in values]
    best = texts[values.index(max(values))]
    alone = texts.count(best) == 1  # a tie, as printed, has no winner
    return [
        Cell(value, text, interval(bound, digits), alone and text == best)
        for value, text, bound in zip(values, texts, bounds, strict=True)
    ]


def setting_rows(results: Results) -> list[tuple[str, str]]:
    """How it was run, as (name, value) in words."""
    first, evaluate = results.pretrain, results.evaluate
    return [
        ("environment", str(evaluate["env"])),
        ("agent", str(evaluate["agent"])),
        ("preset", str(first["preset"])),
        *([("device", str(first["device"]))] if "device" in first else []),
        ("seeds", _listed(first["seeds"])),
        ("measure", measure_name(evaluate)),
        ("evaluated episodes", f"{count(evaluate['episodes'])} per mode and p_loss"),
        ("grid of p_loss", _listed(evaluate["p_loss"])),
        *game_rows(results),
    ]


def stage_rows(results: Results) -> list[tuple[str, str, str, str]]:
    """Stage, environment steps, updates, wall time; a dash for what a stage does not have."""
    return [
        (name, *(_said(metrics.get(key), say) for key, say in _STAGE_COLUMNS))  # type: ignore[misc]
        for name, metrics in results.stages().items()
        if any(key in metrics for key, _ in _STAGE_COLUMNS)
    ]


def gate_rows(results: Results) -> list[tuple[str, str, str]]:
    """Gate, expectations that its data met, and the names of those that only warn and were not met."""
    return [
        (name, f"{receipt['met']} of {receipt['expectations']}", ", ".join(receipt["warnings"]) or "none")
        for name, receipt in results.gates.items()
    ]


_STAGE_COLUMNS = (("env_steps", count), ("updates", count), ("wall_s", duration))


def _said(value: Any, say: Any) -> str:
    return "–" if value is None else str(say(value))


def _listed(values: Any) -> str:
    values = values if isinstance(values, (list, tuple)) else [values]
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
