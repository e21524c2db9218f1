"""One row per measurement, and the table and the JSON that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

HEADINGS = ("what", "measured", "beside", "aim", "met")
NO_AIM = "none was set"


@dataclass(frozen=True)
class Row:
    """One measurement in words, and its numbers for the JSON; met is None where no aim was set."""

    what: str
    measured: str
    beside: str
    aim: str = NO_AIM
    met: bool | None = None
    numbers: dict[str, float] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """What the table shows."""
        return self.what, self.measured, self.beside, self.aim, {True: "yes", False: "NO", None: "-"}[self.met]

    def record(self) -> dict[str, Any]:
        """What the JSON holds."""
        return asdict(self)


def render(rows: Sequence[Row]) -> str:
    """The table, its columns as wide as their widest cell."""
    cells = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def verdict(rows: Sequence[Row]) -> str:
    """How many aims were met, and which were not."""
    aims = [row for row in rows if row.met is not None]
    missed = [row.what for row in aims if not row.met]
    return f"{len(aims) - len(missed)} of {len(aims)} aims met" + (f"; not met: {'; '.join(missed)}" if missed else "")


def in_flop(operations: float) -> str:
    """A number of operations with its prefix, such as 1.58 MFLOP."""
    for prefix, scale in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if operations >= scale:
            return f"{operations / scale:.3g} {prefix}FLOP"
    return f"{operations / 1e3:.3g} kFLOP"
