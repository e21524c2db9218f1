"""What the page is drawn from, read and checked; the only module that imports pandas."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rmiov2.files import replace_file
from rmiov2.reporting.costs import costs
from rmiov2.reporting.words import WHOLE, completes
from rmiov2.types import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

EPISODE_COLUMNS = ("mode", "pattern", "p_loss", "won", "return", "length", "messages", "bytes")
LEARNING_COLUMNS = ("env_steps", "performance", "lo", "hi", "episodes")
EVALUATE_KEYS = ("env", "agent", "measure", "episodes", "p_loss", "performance", "ci95", "auc", "auc_ci95", "random")
SCENE_KEYS = ("env", "measure", "p_loss", "seed", "agents", "seen", "won", "series", "reward")
COMPLETION_KEYS = ("error", "messages")  # of the scene of a team that completes
ABLATE_KEYS = ("p_mask", "updates", "episodes", "auc", "auc_ci95")
STRESS_KEYS = ("env", "agent", "measure", "episodes", "full_sight", "bursty", "one_agent", "blackout")
BLACKOUT_KEYS = ("steps", "endured", "performance", "ci95", "lasts")
RUN_KEYS = ("env", "agent", "preset", "seeds", "env_steps", "updates", "wall_s")
COST_KEYS = ("p_loss", "messages", "bytes", "parameters")  # of a kept seed, as rmiov2.reporting.costs gives them
# What a kept seed was made of; one without is of the whole method at its preset, kept before there were records.
VARIANT_KEYS = ("ablation", "scale", "changes", "instead", "settings", "commit")
GATE_KEYS = ("expectations", "met", "warnings")
CHECKPOINT = "models/finetune/checkpoint.safetensors"
TIMES, UPDATES = "update_time.json", ("model_ms", "masked_ms", "policy_ms")  # a file of the benchmarks, what it has
GATES = ("collect", "replay", "results")  # in the order in which data pass them

Times = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Seed:
    """One training of a method, as its run left it or as it was kept.

    learning: LEARNING_COLUMNS. l_rec: (update, l_rec) of masked fine-tuning, None where nothing is reconstructed or it
    was not kept. costs: what rmiov2.reporting.costs gives, None where it was not kept. losses: (env_steps, loss_model)
    of pre-training, None without a world model or where they were not kept.
    """

    seed: int
    evaluate: Mapping[str, Any]
    pretrain: Mapping[str, Any]
    finetune: Mapping[str, Any]
    learning: DataFrame
    l_rec: DataFrame | None
    costs: Mapping[str, Any] | None
    losses: DataFrame | None = None


@dataclass(frozen=True)
class Method:
    """A method and its seeds, all on one task and grid of p_loss.

    ablation, changes: the part that it goes without, and the settings that this changes. scale: its preset, or the list
    of experiments that it is of. settings: those of the whole method that it is or is a variant of, by section.name.
    commits: of the code that its seeds were made by. Both are empty where they were not recorded.
    """

    agent: str
    seeds: tuple[Seed, ...]
    ablation: str = WHOLE
    scale: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    commits: tuple[str, ...] = ()


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
    times: Times
    settings: Mapping[str, Any]
    ablation: str
    scale: str


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
        scene=read_json(root / "results/scene.json", "evaluate", (*SCENE_KEYS, *beliefs)),
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


def read_stress(path: Path, evaluate: Mapping[str, Any]) -> dict[str, Any]:
    """metrics/stress.json; raises UserError where it is incomplete, or of another team or task than evaluate."""
    found = read_json(path, "stress", STRESS_KEYS)
    _refuse_incomplete(path, "stress", BLACKOUT_KEYS, list(found["blackout"]))
    got, expected = ([of[key] for key in ("agent", "env")] for of in (found, evaluate))
    if got != expected:
        others = f"{' on '.join(got)}, and metrics/evaluate.json of {' on '.join(expected)}"
        raise UserError(f"{path} is of {others}; run `dvc repro -f stress`, or delete it")
    return found


def own_record(root: Path, preset: str) -> dict[str, str]:
    """The ablation and the scale of the run under root: the workspace of a list of experiments has a record of them."""
    path = root / "state/variant.json"
    found = read_json(path, "", ("ablation", "scale")) if path.is_file() else {"ablation": WHOLE, "scale": preset}
    return {key: str(found[key]) for key in ("ablation", "scale")}


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a run, nested as they are written; nothing where they were not left with it."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def read_methods(kept: Path) -> Iterator[Method]:
    """The whole methods in the folder kept, by name; see read_kept."""
    return (method for method in read_kept(kept) if method.ablation == WHOLE)


def read_kept(kept: Path) -> Iterator[Method]:
    """The studies in the folder kept, by name, variants among them; none where there is no folder.

    Raises UserError for a file that is incomplete, and for seeds of one study that are not of one.
    """
    for study in sorted(kept.glob("*")):
        seeds = {folder: read_seed(folder) for folder in sorted(study.glob("seed-*"))}
        if not seeds:
            continue
        records = [read_record(folder, seed) for folder, seed in seeds.items()]
        method = Method(next(iter(seeds.values())).evaluate["agent"], tuple(seeds.values()), **_one_of(records, study))
        if not alike(method, method.seeds[0].evaluate):
            raise UserError(f"{study}: its seeds differ in environment, agent or grid of p_loss; keep them anew")
        yield method


def _one_of(records: Sequence[Mapping[str, Any]], study: Path) -> dict[str, Any]:
    """What the records of a study's seeds say of all of them; those without settings say nothing of these."""
    said = {key: records[0][key] for key in ("ablation", "scale", "changes")}
    settings = [record["settings"] | record["instead"] for record in records if record["settings"]]
    if any(record[key] != said[key] for record in records for key in said) or settings[1:] != settings[:-1]:
        raise UserError(f"{study}: its seeds differ in ablation, scale or settings; keep them anew")
    commits = {str(record["commit"]) for record in records if record["commit"]}
    return said | {"settings": settings[0] if settings else {}, "commits": tuple(sorted(commits))}


def read_record(folder: Path, seed: Seed) -> dict[str, Any]:
    """VARIANT_KEYS of a kept seed; of a whole method's that was kept before there were any, without its settings.

    Raises UserError for a variant without a record, and for a record that is not of what the folder is named after.
    """
    path, name = folder / "variant.json", folder.parent.name
    if not path.is_file():
        if set("+@") & set(name):
            raise UserError(f"no variant.json in {folder}, so what it is of is not known; remove it and run it again")
        scale = seed.pretrain["preset"]
        return {"ablation": WHOLE, "scale": scale, "changes": {}, "instead": {}, "settings": {}, "commit": ""}
    found = read_json(path, "", VARIANT_KEYS)
    rest, _, scale = name.partition("@")
    part = rest.partition("+")[2] or WHOLE
    if part != found["ablation"] or scale not in ("", found["scale"]):
        raise UserError(f"{path} is of {found['ablation']} at {found['scale']}, which is not kept as {name}; move it")
    return {key: found[key] for key in VARIANT_KEYS}


def read_times(kept: Path) -> Times:
    """What `python -m benchmarks --only methods --out docs/seeds/TIMES` measured; nothing where that was not run."""
    path = kept / TIMES
    if not path.is_file():
        return {}
    rows = read_json(path, "", ("benches",))["benches"].get("methods", [])
    return {row["what"]: row["numbers"] for row in rows}


def alike(method: Method, evaluate: Mapping[str, Any]) -> bool:
    """Whether every seed played the task of evaluate over its grid, and was the method's."""
    played = [seed.evaluate for seed in method.seeds]
    same = all(other[key] == evaluate[key] for other in played for key in ("env", "measure", "p_loss"))
    return same and all(other["agent"] == method.agent for other in played)


def read_seed(folder: Path) -> Seed:
    """A kept seed; what older ones lack, L_rec and costs, is None. Raises UserError for costs over another grid."""
    l_rec, cost, losses = folder / "finetune.csv", folder / "costs.json", folder / "pretrain.csv"
    evaluate = read_json(folder / "evaluate.json", "evaluate", EVALUATE_KEYS)
    costly = read_json(cost, "evaluate", COST_KEYS) if cost.is_file() else None
    if costly is not None and costly["p_loss"] != evaluate["p_loss"]:
        raise UserError(f"{cost} is of p_loss {costly['p_loss']}, expected {evaluate['p_loss']}; keep the seed anew")
    return Seed(
        seed=int(folder.name.removeprefix("seed-")),
        evaluate=evaluate,
        pretrain=read_json(folder / "pretrain.json", "pretrain", RUN_KEYS),
        finetune=read_json(folder / "finetune.json", "finetune", RUN_KEYS),
        learning=read_table(folder / "learning.csv", "pretrain", LEARNING_COLUMNS),
        l_rec=measured(read_table(l_rec, "finetune", ("update", "l_rec"))) if l_rec.is_file() else None,
        costs=costly,
        losses=read_table(losses, "pretrain", ("env_steps", "loss_model")) if losses.is_file() else None,
    )


def measured(finetuning: DataFrame) -> DataFrame | None:
    """The points of masked fine-tuning at which L_rec was measured, (update, l_rec); None without any."""
    if "l_rec" not in finetuning:
        return None
    points = finetuning[["update", "l_rec"]].dropna()
    return None if points.empty else points


def read_json(path: Path, stage: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Read an object that has these keys; raises UserError that names the stage that writes it."""
    _refuse_absent(path, stage)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON ({error}); write it anew with `dvc repro -f {stage}`") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}, expected an object; run `dvc repro -f {stage}`")
    _refuse_incomplete(path, stage, keys, list(values))
    return values


def read_table(path: Path, stage: str, columns: tuple[str, ...]) -> DataFrame:
    """Read a CSV or Parquet table that has these columns and a row; raises UserError that names its stage."""
    import pandas

    _refuse_absent(path, stage)
    try:
        table = pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path)
    except (ValueError, OSError) as error:  # pandas and pyarrow raise children of these for a damaged file
        raise UserError(f"{path} cannot be read ({error}); write it anew with `dvc repro -f {stage}`") from error
    _refuse_incomplete(path, stage, columns, list(table.columns))
    if table.empty:
        raise UserError(f"{path} has no row; write it anew with `dvc repro -f {stage}`")
    return table


def write_bytes(path: Path, content: bytes) -> None:
    """Write content whole or not at all; raises UserError if it cannot be written."""
    with replace_file(path) as handle:
        handle.write(content)


def _refuse_absent(path: Path, stage: str) -> None:
    if not path.is_file():
        raise UserError(f"no {path.name} in {path.parent}; write it with `dvc repro {stage}`")


def _refuse_incomplete(path: Path, stage: str, expected: tuple[str, ...], got: list[str]) -> None:
    absent = [name for name in expected if name not in got]
    if absent:
        raise UserError(f"{path} lacks {', '.join(absent)} (it has {', '.join(got)}); run `dvc repro -f {stage}`")
