"""The runs of `python -m pipelines.paper` that made what is kept, as they were written down, and what the page says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmiov2.reporting.words import count, duration, listed
from rmiov2.types import UserError

SWEEPS = "sweeps.json"
# Of a run: the list of experiments, which cells of it were asked for, when it began and how long it took, how many at
# once on what, the labels of cells that it kept, found begun and saw fail, and one of ENDS.
SWEEP_KEYS = (
    "list", "only", "began", "seconds", "jobs", "cores", "device", "kept", "resumed", "failed", "ended",
)  # fmt: skip
RUNNING, ALL, SOME_FAILED, STOPPED, KILLED = ENDS = ("running", "all", "some failed", "stopped", "killed")


def read_sweeps(kept: Path) -> tuple[dict[str, Any], ...]:
    """The runs in the order in which they began; none where there is no file.

    Raises UserError for an incomplete one.
    """
    path = kept / SWEEPS
    if not path.is_file():
        return ()
    mend = "mend it, or restore it with `git checkout`"
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); {mend}") from error
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} is no list of objects; {mend}")
    for number, entry in enumerate(entries):
        if absent := [key for key in SWEEP_KEYS if key not in entry]:
            raise UserError(f"{path}: entry {number} lacks {', '.join(absent)}; {mend}")
    return tuple(entries)


def sweeps_said(entries: Sequence[Mapping[str, Any]], teams: int) -> str:
    """How what is kept, so many teams, was made, in words; "" where nothing was written down."""
    if not entries:
        return ""
    kept, resumed = ({label for entry in entries for label in entry[key]} for key in ("kept", "resumed"))
    times, in_all = ("once", "") if len(entries) == 1 else (f"{len(entries)} times", " in all")
    # A run that was killed took longer than what it last wrote.
    known = "at least " if {RUNNING, KILLED} & {entry["ended"] for entry in entries} else ""
    took = known + duration(sum(entry["seconds"] for entry in entries)) + in_all
    jobs = max(entry["jobs"] for entry in entries)
    at_once = "one cell at a time" if jobs == 1 else f"at most {jobs} cells at once"
    went = f"{_cells(len(kept & resumed))} resumed after a stop, and " if kept & resumed else ""
    return (
        f"The sweep is one command, `python -m pipelines.paper`; it was run {times}, for {took}, {at_once} on"
        f" {_machine(entries)}; {went}{_cells(len(kept))} {'was' if len(kept) == 1 else 'were'} kept."
        f"{_elsewhere(teams - len(kept))}"
    )


def _elsewhere(others: int) -> str:
    if others <= 0:
        return ""
    made = "was made" if others == 1 else "were made"
    return f" {count(others)} more teams {made} by `python -m pipelines.seeds`, or before sweeps were recorded."


def _cells(number: int) -> str:
    return f"{number} cell{'' if number == 1 else 's'}"


def _machine(entries: Sequence[Mapping[str, Any]]) -> str:
    cores = sorted({int(entry["cores"]) for entry in entries})
    gpu = " and a GPU" if any("cuda" in entry["device"] for entry in entries) else ""
    return f"{listed([str(number) for number in cores])} core{'' if cores == [1] else 's'}{gpu}"
