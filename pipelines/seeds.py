"""The whole study again for several seeds, each in a clone of its own, and their results side by side.

    python -m pipelines.seeds 0 1 2 --jobs 2 env=smax_3m
    python -m pipelines.seeds --keep CLONE/state/seeds/smax-3m-0    keep what a finished one has; no stage is run
    python -m pipelines.seeds --table                               all that is kept as markdown, and who is ahead

A seed that has finished is not repeated; one that was stopped goes on. What is kept of each is small: its metrics, its
curves, what its team costs, and one picture of all. `python -m pipelines.paper` runs whole lists of studies.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.params import flat, worded
from pipelines.studies import workspace as workspaces
from pipelines.studies.cells import Cell, default_agent, folder_name, refuse_cells, refuse_kept_otherwise
from pipelines.studies.fan_out import fan_out, settings_read
from pipelines.studies.records import record_in, refuse_unnamed
from rmiov2.config import label_of
from rmiov2.files import write_json
from rmiov2.program import exit_code, parser_of, positive
from rmiov2.reporting.files import read_settings
from rmiov2.reporting.kept import differing
from rmiov2.types import UserError

SEEDS = paths.ROOT / "docs" / "seeds"


def run(seeds: list[int], overrides: list[str], jobs: int) -> Path:
    """Every seed to its end, `jobs` at a time, then the picture.

    Raises UserError if one failed, and before any begins if it cannot run here, or other settings' results are kept in
    their place.
    """
    cells = [Cell(tuple(overrides), seed) for seed in seeds]
    refuse_kept_otherwise(cells, SEEDS)
    refuse_cells(cells)
    if failed := fan_out(cells, jobs, lambda cell: None):
        names = ", ".join(cell.folder.name for cell in failed)
        raise UserError(f"{names} failed; see state/seeds/*.log, then run the same command again")
    return overlay([keep(cell) for cell in cells])


def keep(cell: Cell) -> Path:
    """What is small of a study that has ended, kept in its folder.

    One that was to stand beside another team and is that team tells whose processor was not recorded, and is not kept.
    """
    target, texts = SEEDS / cell.label, workspaces.small(cell.folder)
    place = SEEDS / replace(cell, beside="").label
    if cell.beside and workspaces.same_results(place, texts):
        path = place / Path(workspaces.VARIANT).name
        record = record_in(path) or json.loads(texts[workspaces.VARIANT])
        write_json(path, record | {"machine": record.get("machine", {}) | {"processor": cell.beside}})
        return place
    workspaces.keep(texts, target)
    return target


def keep_finished(folders: list[Path]) -> list[Path]:
    """Keep what finished workspaces hold, wherever they lie; the pictures of their studies. No stage is run.

    Raises UserError before anything is kept if one has not finished: what lies in it may be another run's.
    """
    finished = {}
    for folder in folders:
        values = settings_of(folder)
        texts = workspaces.small(folder)
        refuse_others(folder, values)
        finished[SEEDS / name_of(folder, values) / f"seed-{values['seed']}"] = texts
    for target, texts in finished.items():
        workspaces.keep(texts, target)
    return [overlay(sorted(study.glob("seed-*"))) for study in sorted({target.parent for target in finished})]


def name_of(folder: Path, values: Mapping[str, Any]) -> str:
    """What a workspace's study is kept under; raises UserError if its record or its settings are of another study."""
    record = record_in(folder / workspaces.VARIANT)
    if not record:  # made by hand, or before there were records
        refuse_unnamed(values)
        return folder_name(values)
    if told := differing(settings_read(values), record["settings"]):
        raise UserError(f"{folder}: params.yaml has {told} by state/variant.json; run its study again by its command")
    return folder_name(values, record["ablation"], record["scale"])


def settings_of(folder: Path) -> dict[str, Any]:
    """The params.yaml of a workspace."""
    path = folder / "params.yaml"
    if not path.is_file():
        raise UserError(f"no params.yaml in {folder}; expected a workspace, such as state/seeds/smax-3m-0")
    return read_settings(path)


def refuse_others(folder: Path, values: Mapping[str, Any]) -> None:
    """Raise UserError if a workspace holds results that its own settings did not make.

    It is a clone: until its own stages have ended, metrics of the commit lie in it.
    """
    from rmiov2.reporting.files import read_table

    expected = (values["env"]["name"], label_of(values["agent"]), int(values["seed"]))
    labels = ("env", "agent", "seed")
    rows = read_table(folder / "results/episodes.parquet", "evaluate", labels)[list(labels)].drop_duplicates()
    found = {"results/episodes.parquet": set(rows.itertuples(index=False, name=None))}
    for name in ("metrics/pretrain.json", "metrics/finetune.json", "metrics/evaluate.json"):
        metrics = json.loads((folder / name).read_bytes())
        seeds = metrics.get("seeds", [expected[2]])  # evaluate.json has none
        found[name] = {(metrics["env"], metrics["agent"], seed) for seed in seeds}
    for name, got in found.items():
        if got != {expected}:
            raise UserError(f"{folder}/{name} is of {sorted(got)}, expected {expected}; let its study run to its end")
    refuse_other_settings(folder, values)


def refuse_other_settings(folder: Path, values: Mapping[str, Any]) -> None:
    """Raise UserError if a stage ran on other settings, as an ablation's metrics do not say: dvc.lock does."""
    stages, own = workspaces.recorded_stages(folder), flat(dict(values))
    for stage in workspaces.STAGES:
        ran = flat(stages[stage]["params"]["params.yaml"]) if stage in stages else {"seed": None}
        if other := [key for key, value in ran.items() if own.get(key) != value]:
            told = f"{other[0]} = {ran[other[0]]}, expected {own.get(other[0])}"
            raise UserError(f"{folder}: {stage} ran with {told}; let its study run to its end")


def overlay(kept: list[Path]) -> Path:
    """The picture of a study's kept seeds, beside them."""
    from rmiov2.reporting.methods.seeds import overlay_seeds

    return overlay_seeds(
        [folder / "evaluate.json" for folder in kept],
        [folder / "learning.csv" for folder in kept],
        kept[0].parent / "seeds.png",
    )


def main() -> int:
    """0, or 2 and one sentence on standard error, or 130 when it was stopped."""
    parser = parser_of("python -m pipelines.seeds", __doc__)
    parser.add_argument("what", nargs="*", metavar="SEED or key=value", help="settings as for pipelines.params")
    parser.add_argument(
        "--jobs", type=positive, default=1, help="seeds side by side; give each as many threads as are left"
    )
    parser.add_argument("--keep", nargs="+", type=Path, metavar="WORKSPACE", help="keep what these hold, run nothing")
    parser.add_argument("--table", action="store_true", help="print what is kept, run nothing")
    options = parser.parse_intermixed_args()
    seeds = [int(text) for text in options.what if text.isdecimal()]
    overrides = [text for text in options.what if not text.isdecimal()]
    alone = bool(options.keep) or options.table
    if alone and options.what:
        parser.error(f"got {options.what[0]}, expected no seed and no setting beside --keep and --table")
    if any(text.startswith("seed=") for text in overrides):
        parser.error("got seed=, expected seeds by their numbers alone, for instance 0 1 2")
    if wrong := [text for text in overrides if "=" not in text] or (["no seed"] if not seeds and not alone else []):
        parser.error(f"got {wrong[0]}, expected seeds and key=value, for instance 0 1 2 env=smax_3m")

    def work() -> None:
        pictures: list[Path] = []
        if options.keep:
            pictures = keep_finished(options.keep)
        elif seeds:
            pictures = [run(seeds, worded(overrides), options.jobs)]
        if options.table:
            print(table())
        else:
            print("\n".join(f"seeds: {picture.relative_to(paths.ROOT)}" for picture in pictures))

    return exit_code("seeds", work, "the same command goes on where it was")


def table() -> str:
    """Every task's kept seeds as markdown, the default agent first."""
    from rmiov2.reporting.methods.table import methods_markdown

    return methods_markdown(SEEDS, default_agent())


if __name__ == "__main__":
    sys.exit(main())
