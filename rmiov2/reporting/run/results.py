"""What the page is drawn from: everything that one run has left, and what was kept of others like it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmiov2.reporting.files import (
    CHECKPOINT,
    EPISODE_COLUMNS,
    EVALUATE_KEYS,
    LEARNING_COLUMNS,
    RUN_KEYS,
    SCENE_KEYS,
    read_json,
    read_settings,
    read_table,
)
from rmiov2.reporting.kept import Benched, Method, alike, read_kept, read_stress, read_times
from rmiov2.reporting.run.costs import costs
from rmiov2.reporting.words import WHOLE, completes
from rmiov2.types import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

COMPLETION_KEYS = ("error", "messages")  # of the scene of a team that completes
ABLATE_KEYS = ("p_mask", "updates", "episodes", "auc", "auc_ci95")
GATE_KEYS = ("expectations", "met", "warnings")
GATES = ("collect", "replay", "results")  # in the order in which data pass them


@dataclass(frozen=True)
class Results:
    """Everything that one run has left in files; collect and stress are None where that stage was not run.

    settings: of the run, nested as in params.yaml. ablation, scale: what the run itself is, as its record says.
    methods: those whose seeds were kept on this run's task, grid of p_loss and scale, this run's own among them.
    variants: the same of this run's method without one of its parts each.
    costs: of this run; None where its team is not at hand.
    times: milliseconds per update by "AGENT, ENV, PRESET"; empty where none were measured.
    ablate: a record per cell, of another p_mask each.
    gates: what was checked of the data between stages, by gate; those not passed are left out.
    """

    evaluate: Mapping[str, Any]
    collect: Mapping[str, Any] | None
    pretrain: Mapping[str, Any]
    finetune: Mapping[str, Any]
    learning: DataFrame
    pretraining: DataFrame
    finetuning: DataFrame
    episodes: DataFrame
    scene: Mapping[str, Any]
    stress: Mapping[str, Any] | None
    ablate: tuple[Mapping[str, Any], ...]
    gates: Mapping[str, Mapping[str, Any]]
    methods: tuple[Method, ...]
    variants: tuple[Method, ...]
    costs: Mapping[str, Any] | None
    times: Benched
    settings: Mapping[str, Any]
    ablation: str
    scale: str

    def stages(self) -> dict[str, Mapping[str, Any]]:
        """The metrics of every stage that left some, by its name, each cell of the ablation by its own."""
        once = {
            "collect": self.collect, "pretrain": self.pretrain, "finetune": self.finetune, "evaluate": self.evaluate,
            "stress": self.stress,
        }  # fmt: skip
        cells = {f"ablate, p_mask {cell['p_mask']:g}": cell for cell in self.ablate}
        return {name: metrics for name, metrics in once.items() if metrics is not None} | cells


def read_results(root: Path, cells: Sequence[str]) -> Results:
    """Read the run under root, with these cells of the ablation.

    Raises UserError that names the stage whose file is missing or incomplete.
    """
    evaluate = read_json(root / "metrics/evaluate.json", "evaluate", EVALUATE_KEYS)
    errs, beliefs = (("l_rec",), COMPLETION_KEYS) if completes(evaluate) else ((), ())
    collect, stress, team = root / "metrics/collect.json", root / "metrics/stress.json", root / CHECKPOINT
    episodes = read_table(root / "results/episodes.parquet", "evaluate", EPISODE_COLUMNS)
    pretrain = read_json(root / "metrics/pretrain.json", "pretrain", RUN_KEYS)
    own = own_record(root, pretrain["preset"])
    kept = [m for m in read_kept(root / "docs/seeds") if alike(m, evaluate) and m.scale == own["scale"]]
    receipts = {name: root / f"metrics/gates/{name}.json" for name in GATES}
    return Results(
        evaluate=evaluate,
        collect=read_json(collect, "collect", ()) if collect.is_file() else None,
        pretrain=pretrain,
        finetune=read_json(root / "metrics/finetune.json", "finetune", (*RUN_KEYS, *errs)),
        learning=read_table(root / "plots/learning.csv", "pretrain", LEARNING_COLUMNS),
        pretraining=read_table(root / "plots/pretrain.csv", "pretrain", ("env_steps",)),
        finetuning=read_table(root / "plots/finetune.csv", "finetune", ("update", *errs)),
        episodes=episodes,
        scene=read_scene(root / "results/scene.json", beliefs),
        stress=read_stress(stress, evaluate) if stress.is_file() else None,
        ablate=tuple(
            read_json(root / f"metrics/ablate/{cell}.json", "ablate", (*ABLATE_KEYS, *errs)) for cell in cells
        ),
        gates={name: read_json(path, f"gate_{name}", GATE_KEYS) for name, path in receipts.items() if path.is_file()},
        methods=tuple(method for method in kept if method.ablation == WHOLE),
        variants=tuple(m for m in kept if m.ablation != WHOLE and m.agent == evaluate["agent"]),
        costs=costs(episodes, team) if team.is_file() else None,
        times=read_times(root / "docs/seeds"),
        settings=read_settings(root / "params.yaml"),
        **own,
    )


def read_scene(path: Path, beliefs: tuple[str, ...]) -> dict[str, Any]:
    """results/scene.json; raises UserError where it is incomplete, or names no columns of each agent."""
    found = read_json(path, "evaluate", (*SCENE_KEYS, *beliefs))
    names = found["series"]["names"]
    if len(names) != found["agents"] or any(isinstance(own, str) for own in names):
        raise UserError(f"{path}: got series.names of an older version, expected a list of each agent; run `dvc repro`")
    return found


def own_record(root: Path, preset: str) -> dict[str, str]:
    """The ablation and the scale of the run under root: the workspace of a list of experiments has a record of them."""
    path = root / "state/variant.json"
    found = read_json(path, "", ("ablation", "scale")) if path.is_file() else {"ablation": WHOLE, "scale": preset}
    return {key: str(found[key]) for key in ("ablation", "scale")}
