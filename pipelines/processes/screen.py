"""What stages that run side by side say: on a terminal a line of each that moves, in a log one of them now and then."""

from __future__ import annotations

import re
import sys
import time
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from pipelines.processes.dvc_stage import Say
from rmiov2 import progress

PROGRESS = re.compile(r"\d+%(\|| \d\d:)")  # as rmiov2.progress draws it
PROGRESS_SECONDS = 10.0
# What DVC says after every stage, which is worth saying once or not at all.
REPEATED = re.compile(
    r"(Generating|Updating) lock file|To track the changes with git|\s*git add |To enable auto staging"
    r"|\s*dvc config core\.autostage|Use `dvc push`|Data and pipelines are up to date"
)


class Screen:
    """A context in which say and of(stage) print, from any thread."""

    def __init__(self, console: Console | None = None) -> None:
        plain = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
        self._console = console or Console(force_terminal=sys.stdout.isatty(), **plain)  # type: ignore[arg-type]
        self._moving: dict[str, Text] = {}
        self._live = Live(get_renderable=self._lines, console=self._console, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @property
    def variables(self) -> dict[str, str]:
        """What a stage is told so that its line moves as often as it is drawn here."""
        return {progress.VARIABLE: "0.5"} if self._console.is_terminal else {}

    def say(self, line: str) -> None:
        """A line that stays."""
        if not REPEATED.match(line):
            self._console.print(line)

    def of(self, stage: str) -> Say:
        """What takes the lines of a stage, the moving one's among them, until `ended`."""
        if not self._console.is_terminal:
            return throttled(self.say)

        def say(line: str) -> None:
            if PROGRESS.search(line) and "100%" not in line:
                self._moving[stage] = Text(line, no_wrap=True, overflow="ellipsis")
            else:
                self.ended(stage)
                self.say(line)

        return say

    def ended(self, stage: str) -> None:
        """Take away its line that moves."""
        self._moving.pop(stage, None)

    def _lines(self) -> Group:
        return Group(*list(self._moving.values()))


def throttled(say: Say) -> Say:
    """Let every line through but those of a moving progress line, of which one is enough in PROGRESS_SECONDS."""
    last = float("-inf")

    def maybe_say(line: str) -> None:
        nonlocal last
        if PROGRESS.search(line):
            now = time.monotonic()
            if now - last < PROGRESS_SECONDS:
                return
            last = now
        say(line.rstrip())

    return maybe_say
