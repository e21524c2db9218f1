"""docs/seeds/sweeps.json: when the sweep was run, on what, and what came of it, true also where a run was killed.

An entry is written when a run begins and again after each of its cells. As long as the run lives it holds a lock under
state/sweeps; where an entry says "running" and its lock is free, the run was killed, and the next one writes that down.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.processes.lifeline import held
from rmiov2.files import write_json
from rmiov2.reporting.pages.sweeps import ALL, KILLED, RUNNING, SOME_FAILED, STOPPED, SWEEP_KEYS, SWEEPS, read_sweeps
from rmiov2.types import UserError


@dataclass
class Sweep:
    """A run of the sweep: its entry, which is found again by the second in which it began, and the record's folder."""

    folder: Path
    entry: dict[str, Any]
    start: float = field(default_factory=time.monotonic)

    def note(self, key: str, label: str) -> None:
        """Write down that a cell was kept, or that it failed."""
        self.entry[key].append(label)
        self.write(RUNNING)

    def write(self, ended: str) -> None:
        """Bring its entry up to date; what hinders that is told and fails no cell."""
        self.entry |= {"seconds": round(time.monotonic() - self.start, 1), "ended": ended}
        try:
            with _held_record():
                self.put(read_sweeps(self.folder))
        except (UserError, OSError) as error:
            print(f"paper: {error}", flush=True)

    def put(self, entries: tuple[dict[str, Any], ...]) -> None:
        """Write its entry among these, of which it takes the place of its own."""
        others = [entry for entry in entries if entry["began"] != self.entry["began"]]
        write_json(self.folder / SWEEPS, sorted([*others, self.entry], key=lambda entry: str(entry["began"])))


@contextmanager
def recorded(folder: Path, about: Mapping[str, Any]) -> Iterator[Sweep]:
    """A run's entry in the folder's record: "running" while the block runs, then how it ended.

    about: those of SWEEP_KEYS that are known before it begins. Raises UserError, and nothing is run, where the record
    is incomplete.
    """
    known = {**about, "seconds": 0.0, "cores": os.cpu_count(), "kept": [], "failed": [], "ended": RUNNING}
    with ExitStack() as life:
        with _held_record():
            entries = _with_the_killed(read_sweeps(folder))
            began = _free_second({entry["began"] for entry in entries})
            life.enter_context(_lives(began))  # before the entry is there, so that nobody takes it for a killed one
            sweep = Sweep(folder, {key: began if key == "began" else known[key] for key in SWEEP_KEYS})
            sweep.put(entries)
        try:
            yield sweep
        except BaseException:
            sweep.write(STOPPED)
            raise
        sweep.write(SOME_FAILED if sweep.entry["failed"] else ALL)


def _with_the_killed(entries: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
    return tuple(
        entry | {"ended": KILLED} if entry["ended"] == RUNNING and _gone(entry["began"]) else entry for entry in entries
    )


def _gone(began: str) -> bool:
    """Whether the run that began then has no process any more."""
    try:
        with _lives(began):
            return True
    except UserError:
        return False


def _lives(began: str) -> AbstractContextManager[None]:
    """What a run holds while it lives."""
    return held(paths.STATE / "sweeps" / f"{began}.lock", f"the sweep of {began}")


def _free_second(taken: set[str]) -> str:
    while (began := datetime.now(UTC).isoformat(timespec="seconds")) in taken:
        time.sleep(0.05)
    return began


def _held_record() -> AbstractContextManager[None]:
    """Wait until no other run reads and writes the record."""
    return held(paths.STATE / "sweeps" / "record.lock", SWEEPS, math.inf)
