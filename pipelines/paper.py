"""Every figure and table of the paper: methods and ablations, tasks and seeds, by one command that may be stopped.

    python -m pipelines.paper                 the list conf/experiments/small.yaml, as many cells at once as cores idle
    python -m pipelines.paper paper           another list; on a GPU where torch sees one
    python -m pipelines.paper --list          what is kept, begun and open; nothing is run
    python -m pipelines.paper --table         what each part is worth, docs/ablations.md, of all that is kept
    python -m pipelines.paper --page          docs/paper.html, figures and tables of all that is kept
    python -m pipelines.paper --only 'smax-3m/*' 'smax-3m+no_*fusion/*'       cells whose names look so
    python -m pipelines.paper --only 'smax-3m/*' --here    anew where another processor trained what is kept, beside it

A cell that is kept in docs/seeds is not repeated; one that was begun goes on. Cells share DVC's cache: what an ablation
has in common with the whole method, its pre-training for instance, is made once. `make report` draws the page, too;
docs/seeds/sweeps.json has a record of each run of this command.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.seeds import SEEDS, keep, overlay
from pipelines.studies.cells import (
    BEGUN,
    KEPT,
    OPEN,
    OTHER,
    STATES,
    Cell,
    cells_of,
    default_agent,
    refuse_cells,
    refuse_kept_otherwise,
    seconds,
    state_of,
)
from pipelines.studies.fan_out import MACHINE, ON_GPU, at_once, fan_out
from pipelines.studies.records import processor, record_in
from pipelines.studies.sweep_record import recorded
from pipelines.studies.workspace import VARIANT
from rmiov2 import config
from rmiov2.program import exit_code, parser_of, positive
from rmiov2.reporting.files import read_settings
from rmiov2.reporting.words import WHOLE
from rmiov2.types import UserError

PAGE = paths.ROOT / "docs" / "paper.html"


def run(cells: list[Cell], about: Mapping[str, Any], jobs: int, on_gpu: int, device: str, threads: int) -> None:
    """Every one to its end and kept, jobs at once, but no more than on_gpu if any runs on a GPU; then the pictures.

    about: what the record shall say of how it was called. Raises UserError that names the cells that failed, or, before
    any begins, one that cannot run here.
    """
    placed = [replace(cell, machine=machine_of(cell, device, threads)) for cell in cells]
    refuse_cells(placed)
    devices = sorted({cell.values["device"] for cell in placed})
    jobs = min(jobs, on_gpu) if "cuda" in devices else jobs
    kept: list[Cell] = []
    try:
        with recorded(SEEDS, {**about, "jobs": jobs, "device": ", ".join(devices)}) as sweep:

            def ended(cell: Cell) -> None:
                label = keep(cell).relative_to(SEEDS).as_posix()
                kept.append(cell)
                sweep.note("kept", label)
                print(f"{label} is kept", flush=True)

            failed = fan_out(placed, jobs, ended, lambda cell: sweep.note("failed", cell.label))
    finally:
        draw_seeds(kept)
    if failed:
        names = ", ".join(cell.label for cell in failed)
        raise UserError(f"{names} failed; see state/seeds/*.log, then run the same command again")


def draw_seeds(kept: list[Cell]) -> None:
    """The picture of all seeds of each whole method among the cells; one that cannot be drawn is told."""
    for study in sorted({(SEEDS / cell.label).parent for cell in kept if cell.ablation == WHOLE}):
        try:
            overlay(sorted(study.glob("seed-*")))
        except (UserError, OSError) as error:
            print(f"{study.name}/seeds.png is not drawn: {error}", flush=True)


def machine_of(cell: Cell, device: str, threads: int) -> tuple[str, ...]:
    """The settings of where the cell runs: those that it was begun with, or it would begin anew, else those wanted.

    device: cpu, cuda, or auto, which is cuda where the method can and torch sees one. Raises UserError where a cell was
    begun on another one than is asked for.
    """
    begun = record_in(cell.folder / VARIANT).get("machine") or read_settings(cell.folder / "params.yaml")
    if begun:
        if device not in ("auto", begun["device"]):
            raise UserError(
                f"{cell.label} was begun with device={begun['device']}, got --device {device}; leave that out, or"
                f" remove {cell.folder} to begin anew"
            )
        found = config.upgraded(begun)
    else:
        chosen = _device(cell, device)
        precision = cell.values["precision"] if chosen == "cuda" else "float32"
        found = {"device": chosen, "precision": precision, "threads": threads}
    return tuple(f"{name}={found[name]}" for name in MACHINE)


def _device(cell: Cell, asked: str) -> str:
    """What was asked for; of auto the best for its method that is here."""
    if asked != "auto":
        return asked
    import torch

    from rmiov2.agents.registry import class_of

    fits = class_of(config.parse(cell.values, cell.label).agent).capabilities.gpu
    return "cuda" if fits and torch.cuda.is_available() else "cpu"


def chosen(name: str, patterns: list[str]) -> list[Cell]:
    """The cells of a list whose labels match one of the patterns; raises UserError for a pattern that none matches."""
    cells = cells_of(name)
    for pattern in patterns:
        if not any(fits(cell, pattern) for cell in cells):
            raise UserError(
                f"--only {pattern} fits no cell of {name}; `python -m pipelines.paper {name} --list` has them"
            )
    return [cell for cell in cells if not patterns or any(fits(cell, pattern) for pattern in patterns)]


def fits(cell: Cell, pattern: str) -> bool:
    """Whether it is the cell's name, smax-3m/seed-0, or that name with the environment's own, smax/3m/seed-0."""
    return any(fnmatchcase(name, pattern) for name in (cell.label, cell.label.replace("-", "/", 1)))


def of_this_processor(cell: Cell, device: str) -> Cell:
    """The cell; beside its kept team, if another processor trained that, or one that was not recorded."""
    folder = SEEDS / cell.label
    trained = record_in(folder / Path(VARIANT).name).get("machine", {}).get("processor")
    here = processor(_device(cell, device))
    return replace(cell, beside=here) if folder.is_dir() and trained != here else cell


def summary(states: Mapping[Cell, str], jobs: int) -> str:
    """How many cells are in which state, and about how long the rest takes."""
    times, always = Counter(states.values()), (KEPT, BEGUN, OPEN)
    counted = ", ".join(f"{times[state]} {state}" for state in STATES if state in always or times[state])
    left = list(seconds([cell for cell, state in states.items() if state not in (KEPT, OTHER)], SEEDS))
    known = [wall for wall in left if wall is not None]
    if not left:
        return f"{counted}: nothing is left to do"
    told = f"about {sum(known) / jobs / 3600:.1f} h of training, {jobs} at once" if known else "time not known"
    unknown = f"; {len(left) - len(known)} of whose kind none is kept are not counted" if known and None in left else ""
    return f"{counted}: {told}{unknown}"


def table() -> str:
    """What each part is worth, of every task that has kept variants, as markdown."""
    from rmiov2.reporting.variants.table import variants_markdown

    return variants_markdown(SEEDS, default_agent())


def page() -> Path:
    """Draw docs/paper.html of all that is kept; its path."""
    from rmiov2.reporting.pages.paper import build_paper

    return build_paper(SEEDS, default_agent(), PAGE)


def main(arguments: list[str] | None = None) -> int:
    """0, or 2 and one sentence on standard error, or 130 when it was stopped."""
    parser = parser_of("python -m pipelines.paper", __doc__)
    parser.add_argument("name", nargs="?", default="small", metavar="LIST", help="a file of conf/experiments: small")
    parser.add_argument("--list", action="store_true", help="print every cell and its state, run nothing")
    parser.add_argument("--only", nargs="+", default=[], metavar="PATTERN", help="cells whose names match one of these")
    parser.add_argument(
        "--here",
        action="store_true",
        help="train anew, beside it, what is kept of another processor: these round otherwise, and only teams of one"
        " are compared",
    )
    parser.add_argument("--table", action="store_true", help="print what each part is worth, run nothing")
    parser.add_argument("--page", action="store_true", help="draw docs/paper.html of what is kept, run nothing")
    parser.add_argument("--jobs", type=positive, help="cells side by side; as many as cores idle, 4 on a GPU")
    parser.add_argument("--threads", type=positive, default=1, help="of each cell: 1")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: a GPU where there is one"
    )
    options = parser.parse_args(arguments)
    stopped = "the same command goes on where it was"
    return exit_code("paper", lambda: done(options), stopped)


def done(options: argparse.Namespace) -> None:
    """What was asked for: the table, the page, or the cells."""
    if options.table:
        print(table())
    elif options.page:
        print(f"page: {page()}")
    else:
        reproduce(options)


def reproduce(options: argparse.Namespace) -> None:
    """Say which cells there are and how they stand, and run what is left of them."""
    cells = chosen(options.name, options.only)
    cells = [of_this_processor(cell, options.device) for cell in cells] if options.here else cells
    states = {cell: state_of(cell, SEEDS) for cell in cells}
    jobs = options.jobs or at_once(options.threads)
    if options.list:
        for cell, state in states.items():
            print(f"{state:5} {cell.label}")
    print(f"paper: {summary(states, jobs)}", flush=True)
    if not options.list:
        refuse_kept_otherwise(states, SEEDS)
        begun = [cell for cell, state in states.items() if state == BEGUN]
        if left := begun + [cell for cell, state in states.items() if state not in (BEGUN, KEPT)]:
            about = {"list": options.name, "only": options.only, "resumed": [cell.label for cell in begun]}
            run(left, about, jobs, options.jobs or ON_GPU, options.device, options.threads)


if __name__ == "__main__":
    sys.exit(main())
