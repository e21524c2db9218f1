"""One line that moves while something long is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from tqdm import tqdm

from rmiov2.types import UserError

Say = Callable[[str, float], None]  # what is going on, and the share that is done
VARIABLE = "RMIOV2_PROGRESS_SECONDS"
_lines: WeakSet[tqdm[Any]] = WeakSet()  # those that are drawn and may still move


def seconds() -> float:
    """Between two drawings. A log keeps each of them, so there are few, unless whoever shows the log asks for more.

    Raises UserError if RMIOV2_PROGRESS_SECONDS is no number.
    """
    asked = os.environ.get(VARIABLE) or ("0.5" if sys.stderr.isatty() else "10")
    try:
        return float(asked)
    except ValueError as error:
        raise UserError(f"{VARIABLE} is {asked!r}, expected a number of seconds, such as 0.5") from error


def end_lines() -> None:
    """End those lines that are still moving, so that what is said next has a line of its own."""
    for line in list(_lines):
        line.close()


def bar(label: str, unit: str = "episode") -> Callable[[int, int], None]:
    """A function to call with (done, wanted), each time more is done; the line stays when all is."""
    line: tqdm[Any] | None = None

    def show(done: int, wanted: int) -> None:
        nonlocal line
        if line is None:
            line = _line(desc=label, total=wanted, unit=unit)
        line.update(done - line.n)
        if done >= wanted:
            line.close()

    return show


def news(label: str) -> Say:
    """What says it in a line, which 1 closes."""
    line: tqdm[Any] | None = None
    shape = "{desc} {percentage:3.0f}% {elapsed}<{remaining} {postfix}"

    def say(what: str, share: float) -> None:
        nonlocal line
        if line is None:
            line = _line(desc=label, total=1.0, initial=share, bar_format=shape)
        line.set_postfix_str(what, refresh=False)
        line.update(min(share, 1.0) - line.n)
        if share >= 1.0:
            line.close()

    return say


def _line(**options: Any) -> tqdm[Any]:
    line = tqdm(mininterval=seconds(), dynamic_ncols=True, **options)
    _lines.add(line)
    return line
