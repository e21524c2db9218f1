"""One line that moves while something long is done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

Say = Callable[[str, float], None]  # what is going on, and the share that is done
VARIABLE = "RMIOV2_PROGRESS_SECONDS"
# Between two drawings. A log keeps each of them, so there are few, unless whoever shows the log asks for more.
SECONDS = float(os.environ.get(VARIABLE, 0.5 if sys.stderr.isatty() else 10.0))


def bar(label: str, unit: str = "episode") -> Callable[[int, int], None]:
    """A function to call with (done, wanted), each time more is done; the line stays when all is."""
    line: tqdm[Any] | None = None

    def show(done: int, wanted: int) -> None:
        nonlocal line
        if line is None:
            line = tqdm(desc=label, total=wanted, unit=unit, mininterval=SECONDS, dynamic_ncols=True)
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
            line = tqdm(desc=label, total=1.0, initial=share, mininterval=SECONDS, bar_format=shape, dynamic_ncols=True)
        line.set_postfix_str(what, refresh=False)
        line.update(min(share, 1.0) - line.n)
        if share >= 1.0:
            line.close()

    return say
