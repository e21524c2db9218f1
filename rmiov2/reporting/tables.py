"""Tables as plain records: each cell keeps the exact value beside the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rmiov2.reporting.estimates import Estimate
from rmiov2.reporting.words import interval, number


@dataclass(frozen=True)
class Cell:
    """A number: exact (None: words alone), as it is read, and its interval; best marks the largest of its column."""

    value: float | None
    text: str
    bounds: str = ""
    best: bool = False


ABSENT = Cell(None, "–")  # not kept, not measured, not run


def words_cell(text: str) -> Cell:
    """Words alone; ABSENT for none."""
    return Cell(None, text) if text else ABSENT


def values_cell(values: Sequence[float], digits: int) -> Cell:
    """Numbers one after the other; ABSENT for none."""
    return words_cell(", ".join(number(value, digits) for value in values))


def interval_cell(value: float, bounds: Sequence[float] | None, digits: int) -> Cell:
    """A number and its interval, where it has one."""
    return Cell(value, number(value, digits), "" if bounds is None else interval(bounds, digits))


def estimate_cell(found: Estimate | None, digits: int) -> Cell:
    """A mean over seeds and its interval, where there are any."""
    return ABSENT if found is None else interval_cell(found.mean, found.bounds, digits)


@dataclass(frozen=True)
class Row:
    """One mode: its name and its cells."""

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """Column heads (the first one heads the names) and rows; totalled: the last column sums the others up.

    words: it is read rather than compared, so that its lines may break. folded: few read it, so that the page keeps it
    closed until it is asked for.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[Row, ...]
    totalled: bool = False
    words: bool = False
    folded: bool = False


def markdown(table: Table) -> str:
    """The table under its caption."""
    lines = [table.head, ["---"] * len(table.head)]
    lines += [[row.name, *(f"{cell.text} {cell.bounds}".strip() for cell in row.cells)] for row in table.rows]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{table.caption}**\n\n{rows}"
