"""The cells of a list of experiments: a method or an ablation, a task and a seed each; what is kept, begun and open.

The lists are the files of conf/experiments. A cell's label, ENV[-AGENT][+ABLATION][@SCALE]/seed-S, is its folder under
docs/seeds, and its workspace lies under state/seeds. seed-S-PROCESSOR is the team that another processor trained.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from pipelines import paths
from pipelines.params import compose_values, flat
from pipelines.refusals import refuse_unrunnable
from pipelines.studies import workspace as workspaces
from pipelines.studies.fan_out import MACHINE, settings_read, stages_of
from pipelines.studies.records import processor, record_in, refuse_unnamed
from pipelines.studies.workspace import STAGES
from rmiov2.config import label_of, parse
from rmiov2.reporting.kept import differing
from rmiov2.reporting.words import WHOLE
from rmiov2.types import UserError

KEPT, OTHER, INCOMPLETE, BEGUN, OPEN = STATES = ("kept", "kept with other settings", "incomplete", "begun", "open")
LISTS = paths.CONF / "experiments"
TIMED = ("pretrain", "finetune")  # stages whose metrics say how long they took


class Task(BaseModel):
    """What is run on one task: methods with their own settings behind them, and ablations of the default agent.

    ablations may have lists in it, which are taken as their names, so that one task's can be another's and more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[str, ...] = ()
    methods: tuple[str, ...]
    ablations: tuple[str, ...] = ()

    @field_validator("ablations", mode="before")
    @classmethod
    def _of_lists(cls, parts: Any) -> Any:
        if not isinstance(parts, list):
            return parts
        return [name for part in parts for name in (part if isinstance(part, list) else [part])]


class Experiments(BaseModel):
    """A file of conf/experiments: settings of every cell, seeds, and what is run on each file of conf/env."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...]
    tasks: dict[str, Task]


@dataclass(frozen=True)
class Cell:
    """One study: its settings but for the seed, the seed, and what it is kept under beside its names ("": its preset).

    machine: settings of where it runs, which change no name. beside: the processor that it runs on, where it is to be
    kept beside the team of another one; "" where it has its seed's place.
    """

    overrides: tuple[str, ...]
    seed: int
    scale: str = ""
    machine: tuple[str, ...] = ()
    beside: str = ""

    @property
    def ablation(self) -> str:
        """A file of conf/ablation."""
        chosen = [text.partition("=")[2] for text in self.overrides if text.startswith("ablation=")]
        return chosen[-1] if chosen else WHOLE

    @cached_property
    def values(self) -> dict[str, Any]:
        """Complete settings."""
        return _composed((*self.overrides, *self.machine)) | {"seed": self.seed}

    @cached_property
    def label(self) -> str:
        """Where it is kept, from docs/seeds; raises UserError for settings that do not compose."""
        name = folder_name(_composed(self.whole), self.ablation, self.scale)
        return f"{name}/seed-{self.seed}{self.beside and f'-{self.beside}'}"

    @property
    def folder(self) -> Path:
        """Its workspace."""
        return paths.STATE / "seeds" / self.label.replace("/seed", "")

    @cached_property
    def stages(self) -> dict[str, str]:
        """See pipelines.studies.fan_out.stages_of; what variants are compared to is put under stress, too."""
        return stages_of(self.values, (*STAGES, "stress") if self.compared_to else STAGES)

    @property
    def compared_to(self) -> bool:
        """Whether it is the default agent, whole."""
        return self.ablation == WHOLE and label_of(self.values["agent"]) == default_agent()

    @property
    def whole(self) -> tuple[str, ...]:
        """Its settings with nothing taken away."""
        return tuple(text for text in self.overrides if not text.startswith("ablation="))

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that its ablation changes, by section.name."""
        before, after = (flat(_composed(overrides)) for overrides in (self.whole, self.overrides))
        return {key: value for key, value in after.items() if before.get(key) != value}

    @property
    def record(self) -> dict[str, Any]:
        """What it is made of: kept with it, so that a name alone never says what a result is of."""
        whole = flat(_composed(self.whole))
        return {
            "ablation": self.ablation,
            "scale": self.scale or self.values["preset"],
            "changes": self.changes,
            "instead": {key: whole.get(key) for key in self.changes},
            "machine": {name: self.values[name] for name in MACHINE} | {"processor": processor(self.values["device"])},
            "settings": settings_read(self.values),
        }

    def make(self) -> Path:
        """Its workspace, with its settings and its record.

        Raises UserError for an ablation that changes nothing, as what it takes away is not there, and for settings of
        its own that take a part away without saying so.
        """
        if self.ablation != WHOLE and not self.changes:
            told = " ".join(self.whole)
            raise UserError(f"ablation={self.ablation} changes nothing of {told}; leave it out of the list")
        refuse_unnamed(_composed(self.whole))
        overrides = [*self.overrides, *self.machine, f"seed={self.seed}"]
        return workspaces.make(self.folder, overrides, record=self.record)


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return compose_values(overrides)


def default_agent() -> str:
    """What conf/ has where no agent is named."""
    return str(_composed(())["agent"]["name"])


def folder_name(values: Mapping[str, Any], ablation: str = WHOLE, scale: str = "") -> str:
    """ENV[-AGENT][+ABLATION][@SCALE] of complete settings, each but the first where it is not the default."""
    name, agent = values["env"]["name"].replace("/", "-"), label_of(values["agent"])
    default, scale = _composed(()), scale or values["preset"]
    name += "" if agent == default["agent"]["name"] else f"-{agent}"
    name += "" if ablation == WHOLE else f"+{ablation}"
    return str(name if scale == default["preset"] else f"{name}@{scale}")


def lists() -> list[str]:
    """The files of conf/experiments."""
    return sorted(path.stem for path in LISTS.glob("*.yaml"))


def read_list(name: str) -> Experiments:
    """A list by its name; raises UserError with one sentence for each mistake."""
    path = LISTS / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"conf/experiments has no {name!r}; it has {', '.join(lists())}")
    try:
        return Experiments.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    except ValidationError as error:
        told = [f"{path}: {'.'.join(map(str, m['loc']))}: {m['msg']}" for m in error.errors()]
        raise UserError("\n".join(told)) from error


def cells_of(name: str) -> list[Cell]:
    """The cells of a list: the default agent with its ablations first, seed by seed, then the other methods.

    Raises UserError for two that would be kept in one place.
    """
    experiments, ours = read_list(name), default_agent()
    scale = "" if name == _composed(experiments.settings)["preset"] else name
    own: list[Cell] = []
    others: list[Cell] = []
    for seed in experiments.seeds:
        for env, task in experiments.tasks.items():
            shared = (*experiments.settings, *task.settings, f"env={env}")
            for method, *settings in (text.split() for text in task.methods):
                cell = Cell((*shared, f"agent={method}", *settings), seed, scale)
                (own if method == ours else others).append(cell)
            own += [Cell((*shared, f"agent={ours}", f"ablation={part}"), seed, scale) for part in task.ablations]
    cells = [*own, *others]
    if twice := [label for label, times in Counter(cell.label for cell in cells).items() if times > 1]:
        raise UserError(f"conf/experiments/{name}.yaml has {twice[0]} twice; expected a method of each name a task")
    return cells


def state_of(cell: Cell, kept: Path) -> str:
    """Which of STATES it is in."""
    folder = kept / cell.label
    if folder.is_dir():
        return OTHER if kept_otherwise(cell, kept) else INCOMPLETE if lacking(cell, folder) else KEPT
    return BEGUN if cell.folder.is_dir() else OPEN


def kept_otherwise(cell: Cell, kept: Path) -> str:
    """In which setting what is kept under its name was made otherwise, in words; "" if in none that is known."""
    record = record_in(kept / cell.label / Path(workspaces.VARIANT).name)
    return differing(record["settings"], settings_read(cell.values)) if "settings" in record else ""


def lacking(cell: Cell, folder: Path) -> list[str]:
    """The files that would now be kept of it and are not in its folder.

    All of them of the default agent, whose variants are compared; of the others those without which nothing is drawn.
    A whole method at its preset may have been kept before there were records.
    """
    needed = [*workspaces.FILES]
    if set("+@") & set(cell.label):
        needed.append(workspaces.VARIANT)
    if label_of(cell.values["agent"]) == default_agent():
        needed += [workspaces.COSTS, workspaces.LOSSES]
        needed += [workspaces.TUNING_CURVE] if "l_rec" in record_in(folder / "finetune.json") else []
    if cell.compared_to:
        needed += [workspaces.SCENE, workspaces.STRESS]
    return [name for name in needed if not (folder / Path(name).name).is_file()]


def refuse_kept_otherwise(cells: Iterable[Cell], kept: Path) -> None:
    """Raise UserError for a cell under whose name another's results are kept."""
    for cell in cells:
        if told := kept_otherwise(cell, kept):
            raise UserError(f"{kept / cell.label} was made with {told}; move it away, or leave {cell.label} out")


def refuse_cells(cells: Iterable[Cell]) -> None:
    """Raise UserError for the first that cannot run on this machine with its settings."""
    for cell in cells:
        try:
            refuse_unrunnable(parse(cell.values, cell.label))
        except UserError as error:
            raise UserError(f"{cell.label}: {error}") from error


def seconds(cells: list[Cell], kept: Path) -> Iterator[float | None]:
    """How long pre-training and masked fine-tuning took of a kept study like each cell's; what is shared counts once.

    None for a cell of which nothing like it is kept.
    """
    counted: set[str] = set()
    for cell in cells:
        alike = folder_name(_composed(cell.whole), scale=cell.scale)
        known = [walls(seed) for seed in (kept / alike).glob("seed-*") if _timed(seed)]
        if not known:
            yield None
            continue
        new = [stage for stage in TIMED if cell.stages[stage] not in counted]
        counted |= {cell.stages[stage] for stage in TIMED}
        yield sum(sum(one[stage] for one in known) / len(known) for stage in new)


def _timed(seed: Path) -> bool:
    return all((seed / f"{stage}.json").is_file() for stage in TIMED)


def walls(seed: Path) -> dict[str, float]:
    """How long each of TIMED took, in seconds, by the metrics in a folder."""
    return {stage: float(json.loads((seed / f"{stage}.json").read_bytes())["wall_s"]) for stage in TIMED}
