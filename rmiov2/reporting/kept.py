"""Seeds that were kept of methods and of variants, read and checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmiov2.config import held_before
from rmiov2.reporting.files import EVALUATE_KEYS, LEARNING_COLUMNS, RUN_KEYS, read_json, read_table, refuse_incomplete
from rmiov2.reporting.words import WHOLE
from rmiov2.types import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

L_REC_COLUMNS, LOSS_COLUMNS = ("update", "l_rec"), ("env_steps", "loss_model")
SCENE = "scene.json"  # of a kept seed: an episode whole, of the method that the page is about
COST_KEYS = ("p_loss", "messages", "bytes", "parameters")  # of a kept seed, as run.costs gives them
MOMENT_KEYS = ("env", "measure", "p_loss", "seed", "agents", "won", "agent", "step")  # of a kept seed
# What a kept seed was made of; one without is of the whole method at its preset, kept before there were records.
VARIANT_KEYS = ("ablation", "scale", "changes", "instead", "settings", "commit")
STRESS_KEYS = ("env", "agent", "measure", "episodes", "full_sight", "bursty", "one_agent", "blackout")
BLACKOUT_KEYS = ("steps", "endured", "performance", "ci95", "lasts")
MEMORY_KEYS = ("history", "own", "p_loss", "performance", "ci95", "auc", "auc_ci95")  # of a team that completes
SAME_CODE = "same_code.json"  # digest of a version to that of another
TIMES, UPDATES = "update_time.json", ("model_ms", "masked_ms", "policy_ms")  # a file of the benchmarks, what it has
Benched = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Seed:
    """One training of a method, as its run left it or as it was kept.

    learning: LEARNING_COLUMNS. l_rec: L_REC_COLUMNS of masked fine-tuning, None where nothing is reconstructed or it
    was not kept. costs: what run.costs gives, None where it was not kept. losses: LOSS_COLUMNS
    of pre-training, None without a world model or where they were not kept. moment: one of an episode, as
    scene.moment gives it; None where nothing was reconstructed, or where it was not kept. scene: the file of
    a whole episode, None where none was kept. stress: metrics/stress.json, None where it was not kept. processor: what
    trained it, "" where that was not recorded.
    """

    seed: int
    evaluate: Mapping[str, Any]
    pretrain: Mapping[str, Any]
    finetune: Mapping[str, Any]
    learning: DataFrame
    l_rec: DataFrame | None
    costs: Mapping[str, Any] | None
    losses: DataFrame | None = None
    moment: Mapping[str, Any] | None = None
    scene: Path | None = None
    stress: Mapping[str, Any] | None = None
    processor: str = ""

    @property
    def pair(self) -> tuple[int, str]:
        """What two teams share that began alike: a processor that rounds otherwise trains another team of a seed."""
        return self.seed, self.processor

    @property
    def name(self) -> str:
        """Its number, and on what it was trained where that is known."""
        return f"{self.seed} on {self.processor}" if self.processor else str(self.seed)


@dataclass(frozen=True)
class Method:
    """A method and its seeds, all on one task and grid of p_loss.

    ablation, changes: the part that it goes without, and the settings that this changes. scale: its preset, or the list
    of experiments that it is of. settings: those of the whole method that it is or is a variant of, by section.name.
    commits: that its seeds were made at; code: digests of what of them was run, see same_version. Empty where it was
    not recorded.
    """

    agent: str
    seeds: tuple[Seed, ...]
    ablation: str = WHOLE
    scale: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    commits: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    @property
    def evaluate(self) -> Mapping[str, Any]:
        """That of its first seed, for what all of them share: env, measure, modes and grid of p_loss."""
        return self.seeds[0].evaluate


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
        teams = (replace(s, processor=record["processor"]) for s, record in zip(seeds.values(), records, strict=True))
        method = Method(next(iter(seeds.values())).evaluate["agent"], tuple(teams), **_one_of(records, study))
        if not alike(method, method.evaluate):
            raise UserError(f"{study}: its seeds differ in env, measure, agent or grid of p_loss; keep them anew")
        yield method


def _one_of(records: Sequence[Mapping[str, Any]], study: Path) -> dict[str, Any]:
    """What the records of a study's seeds say of all of them; those without settings say nothing of these."""
    said = {key: records[0][key] for key in ("ablation", "scale", "changes")}
    known = [record["settings"] | record["instead"] for record in records if record["settings"]]
    unlike = any(record[key] != said[key] for record in records for key in said)
    if unlike or any(differing(*pair) for pair in permutations(known, 2)):
        raise UserError(f"{study}: its seeds differ in ablation, scale or settings; keep them anew")
    commits = {str(record["commit"]) for record in records if record["commit"]}
    code = {str(record["code"]) for record in records}
    settings = {key: value for own in known for key, value in own.items()}
    return said | {"settings": settings, "commits": tuple(sorted(commits)), "code": tuple(sorted(code))}


def differing(got: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """The first setting in which they differ, in words; what got does not know is newer, and says nothing unless
    rmiov2.config knows what held before it was there.
    """
    for key, value in expected.items():
        own = got.get(key, held_before(key))
        if own not in (None, value):
            return f"{key} = {own}, expected {value}"
    return ""


def read_record(folder: Path, seed: Seed) -> dict[str, Any]:
    """VARIANT_KEYS of a kept seed; of a whole method's that was kept before there were any, without its settings.

    Raises UserError for a variant without a record, and for a record that is not of what the folder is named after.
    """
    path, name = folder / "variant.json", folder.parent.name
    if not path.is_file():
        if set("+@") & set(name):
            raise UserError(f"no variant.json in {folder}, so what it is of is not known; remove it and run it again")
        scale = seed.pretrain["preset"]
        unknown = {"changes": {}, "instead": {}, "settings": {}, "commit": "", "code": "", "processor": ""}
        return {"ablation": WHOLE, "scale": scale, **unknown}
    found = read_json(path, "", VARIANT_KEYS)
    rest, _, scale = name.partition("@")
    part = rest.partition("+")[2] or WHOLE
    if part != found["ablation"] or scale not in ("", found["scale"]):
        raise UserError(f"{path} is of {found['ablation']} at {found['scale']}, which is not kept as {name}; move it")
    code = same_version(folder.parent.parent, found.get("code", ""))
    newer = {"code": code, "processor": found.get("machine", {}).get("processor", "")}
    return {key: found[key] for key in VARIANT_KEYS} | newer


def same_version(kept: Path, code: str) -> str:
    """The digest of the first version of the code that makes the committed run's team as this one does, to the byte.

    The folder kept tells, in SAME_CODE, of a version which other one that is.
    """
    path = kept / SAME_CODE
    return str(read_json(path, "", ()).get(code, code)) if path.is_file() else code


def read_times(kept: Path) -> Benched:
    """What `python -m benchmarks --only methods --out docs/seeds/TIMES` measured; nothing where that was not run."""
    return read_bench(kept / TIMES, "methods")


def read_bench(path: Path, bench: str) -> Benched:
    """The numbers of a benchmark by what they are of; nothing where there is no file, or they could not be had."""
    rows = read_json(path, "", ("benches",))["benches"].get(bench, []) if path.is_file() else []
    return {row["what"]: row["numbers"] for row in rows if row["numbers"]}


def by_task(methods: Iterable[Method]) -> list[list[Method]]:
    """Methods that can be set side by side, together and in the order in which they came; battles are first."""
    return [list(group) for _, group in groupby(sorted(methods, key=_task_of), key=_task_of)]


def _task_of(method: Method) -> tuple[bool, str, str, str]:
    """What they must share: environment, scale, grid of p_loss."""
    env = method.evaluate["env"]
    return not env.startswith("sma"), env, method.scale, str(method.evaluate["p_loss"])


def alike(method: Method, evaluate: Mapping[str, Any]) -> bool:
    """Whether every seed played the task of evaluate over its grid, and was the method's."""
    played = [seed.evaluate for seed in method.seeds]
    same = all(other[key] == evaluate[key] for other in played for key in ("env", "measure", "p_loss"))
    return same and all(other["agent"] == method.agent for other in played)


def read_seed(folder: Path) -> Seed:
    """A kept seed, in seed-S or, beside one of another processor, in seed-S-PROCESSOR; what older ones lack is None.

    Raises UserError for costs over another grid.
    """
    l_rec, cost, losses = folder / "finetune.csv", folder / "costs.json", folder / "pretrain.csv"
    moment, scene, stress = folder / "moment.json", folder / SCENE, folder / "stress.json"
    evaluate = read_json(folder / "evaluate.json", "evaluate", EVALUATE_KEYS)
    costly = read_json(cost, "evaluate", COST_KEYS) if cost.is_file() else None
    if costly is not None and costly["p_loss"] != evaluate["p_loss"]:
        raise UserError(f"{cost} is of p_loss {costly['p_loss']}, expected {evaluate['p_loss']}; keep the seed anew")
    return Seed(
        seed=int(folder.name.split("-")[1]),
        evaluate=evaluate,
        pretrain=read_json(folder / "pretrain.json", "pretrain", RUN_KEYS),
        finetune=read_json(folder / "finetune.json", "finetune", RUN_KEYS),
        learning=read_table(folder / "learning.csv", "pretrain", LEARNING_COLUMNS),
        l_rec=measured(read_table(l_rec, "finetune", L_REC_COLUMNS), *L_REC_COLUMNS) if l_rec.is_file() else None,
        costs=costly,
        losses=read_table(losses, "pretrain", LOSS_COLUMNS) if losses.is_file() else None,
        moment=_read_moment(moment) if moment.is_file() else None,
        scene=scene if scene.is_file() else None,
        stress=read_stress(stress, evaluate) if stress.is_file() else None,
    )


def read_stress(path: Path, evaluate: Mapping[str, Any]) -> dict[str, Any]:
    """metrics/stress.json; raises UserError where it is incomplete, or of another team or task than evaluate."""
    found = read_json(path, "stress", STRESS_KEYS)
    refuse_incomplete(path, "stress", BLACKOUT_KEYS, list(found["blackout"]))
    refuse_incomplete(path, "stress", MEMORY_KEYS, list(found.get("memory", MEMORY_KEYS)))
    got, expected = ([of[key] for key in ("agent", "env")] for of in (found, evaluate))
    if got != expected:
        others = f"{' on '.join(got)}, and metrics/evaluate.json of {' on '.join(expected)}"
        raise UserError(f"{path} is of {others}; run `dvc repro -f -s stress`, or delete it")
    return found


def _read_moment(path: Path) -> dict[str, Any]:
    found = read_json(path, "evaluate", MOMENT_KEYS)
    if not {"map", "series"} & set(found):
        refuse_incomplete(path, "evaluate", ("map or series",), list(found))
    return found


def measured(table: DataFrame, over: str, what: str) -> DataFrame | None:
    """The rows of pre-training or of masked fine-tuning in which something was measured, (over, what); None without."""
    if what not in table:
        return None
    points = table[[over, what]].dropna()
    return None if points.empty else points
