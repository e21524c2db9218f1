"""The cells of a list of experiments: a method or an ablation, a task and a seed each; what is kept, begun and open.

The lists are the files of conf/experiments. A cell's label, ENV[-AGENT][+ABLATION][@SCALE]/seed-S, is its folder under
docs/seeds, and its workspace lies under state/seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines import paths
from pipelines import workspace as workspaces
from pipelines.fan_out import stages_of
from pipelines.params import compose_values, flat
from rmiov2.files import write_json
from rmiov2.types import UserError

WHOLE = "none"  # the ablation that takes nothing away
LISTS = paths.CONF / "experiments"
TIMED = ("pretrain", "finetune")  # stages whose metrics say how long they took


class Task(BaseModel):
    """What is run on one task: methods with their own settings behind them, and ablations of the default agent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[str, ...] = ()
    methods: tuple[str, ...]
    ablations: tuple[str, ...] = ()


class Experiments(BaseModel):
    """A file of conf/experiments: settings of every cell, seeds, and what is run on each file of conf/env."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...]
    tasks: dict[str, Task]


@dataclass(frozen=True)
class Cell:
    """One study: its settings but for the seed, the seed, and what it is kept under beside its names ("": its preset).

    machine: settings of where it runs, which change no name.
    """

    overrides: tuple[str, ...]
    seed: int
    scale: str = ""
    machine: tuple[str, ...] = ()

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
        return f"{name}/seed-{self.seed}"

    @property
    def folder(self) -> Path:
        """Its workspace."""
        return paths.STATE / "seeds" / self.label.replace("/seed", "")

    @cached_property
    def stages(self) -> dict[str, str]:
        """See pipelines.fan_out.stages_of."""
        return stages_of(self.values)

    @property
    def whole(self) -> tuple[str, ...]:
        """Its settings with nothing taken away."""
        return tuple(text for text in self.overrides if not text.startswith("ablation="))

    @property
    def changes(self) -> dict[str, Any]:
        """The settings that its ablation changes, by section.name."""
        before, after = (flat(_composed(overrides)) for overrides in (self.whole, self.overrides))
        return {key: value for key, value in after.items() if before.get(key) != value}

    def make(self) -> Path:
        """Its workspace, with its settings and a record of which part it goes without.

        Raises UserError for an ablation that changes nothing, as what it takes away is not there.
        """
        if self.ablation != WHOLE and not self.changes:
            told = " ".join(self.whole)
            raise UserError(f"ablation={self.ablation} changes nothing of {told}; leave it out of the list")
        workspaces.make(self.folder, [*self.overrides, *self.machine, f"seed={self.seed}"])
        variant = {"ablation": self.ablation, "scale": self.scale or self.values["preset"], "changes": self.changes}
        write_json(self.folder / workspaces.VARIANT, variant)
        return self.folder


@cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    return compose_values(overrides)


def default_agent() -> str:
    """What conf/ has where no agent is named."""
    return str(_composed(())["agent"]["name"])


def folder_name(values: Mapping[str, Any], ablation: str = WHOLE, scale: str = "") -> str:
    """ENV[-AGENT][+ABLATION][@SCALE] of complete settings, each but the first where it is not the default."""
    name, agent = values["env"]["name"].replace("/", "-"), values["agent"]["name"]
    default, scale = _composed(()), scale or values["preset"]
    name += "" if agent == default["agent"]["name"] else f"-{agent}"
    name += "" if ablation == WHOLE else f"+{ablation}"
    return str(name if scale == default["preset"] else f"{name}@{scale}")


def variant_of(folder: Path) -> dict[str, str]:
    """The ablation and the scale that a workspace was made for; nothing where it was made before there were any."""
    path = folder / workspaces.VARIANT
    if not path.is_file():
        return {}
    values = json.loads(path.read_bytes())
    return {name: str(values[name]) for name in ("ablation", "scale")}


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
    """The cells of a list: the default agent with its ablations first, seed by seed, then the other methods."""
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
    return [*own, *others]


def state_of(cell: Cell, kept: Path) -> str:
    """Whether it is kept, begun or open."""
    if (kept / cell.label / "evaluate.json").is_file():
        return "kept"
    return "begun" if cell.folder.is_dir() else "open"


def seconds(cells: list[Cell], kept: Path) -> Iterator[float | None]:
    """How long pre-training and masked fine-tuning took of a kept study like each cell's; what is shared counts once.

    None for a cell of which nothing like it is kept.
    """
    counted: set[str] = set()
    for cell in cells:
        alike = folder_name(_composed(cell.whole), scale=cell.scale)
        known = [_walls(seed) for seed in (kept / alike).glob("seed-*")]
        if not known:
            yield None
            continue
        new = [stage for stage in TIMED if cell.stages[stage] not in counted]
        counted |= {cell.stages[stage] for stage in TIMED}
        yield sum(sum(walls[stage] for walls in known) / len(known) for stage in new)


def _walls(seed: Path) -> dict[str, float]:
    return {stage: float(json.loads((seed / f"{stage}.json").read_bytes())["wall_s"]) for stage in TIMED}
