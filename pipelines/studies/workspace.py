"""Clones of the committed code with other settings, so that what is tried never changes this checkout's params.yaml.

They share this checkout's DVC cache: nothing is stored twice, and a stage that one of them has run is restored in the
others. `dvc gc` knows only the checkout that it runs in; do not use it while workspaces matter.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.models import tracking
from pipelines.params import as_text, compose_values, worded
from pipelines.processes.dvc_stage import ask_dvc
from pipelines.processes.lifeline import WATCHED, held
from pipelines.studies.records import record_in
from rmiov2.files import sync_folder, write_bytes, write_json, writing
from rmiov2.reporting.words import WHOLE
from rmiov2.types import UserError

# What is kept of a finished study as it is: small, and enough to lay seeds side by side.
FILES = ("metrics/pretrain.json", "metrics/finetune.json", "metrics/evaluate.json", "plots/learning.csv")
TUNING_CURVE, COSTS, MOMENT = "plots/finetune.csv", "costs.json", "moment.json"
# Of what variants are compared to alone: an episode whole, and loss that it was not trained on.
SCENE, STRESS = "results/scene.json", "metrics/stress.json"
TEAM = "models/finetune"
REACHED = FILES[2:]  # by its team; the others say how long that took
LOSSES, LOSS = "plots/pretrain.csv", ("env_steps", "loss_model")  # the curve and what is kept of it
# A kept result is of these, in order; each brings the gates before it along.
STAGES = ("collect", "pretrain", "finetune", "evaluate")
CODE = ("rmiov2", "pipelines", "dvc.yaml")
VARIANT = "state/variant.json"  # what the study was made of, see pipelines.studies.cells.Cell.record


def slug(overrides: Sequence[str]) -> str:
    """The settings as the name of a folder."""
    return re.sub(r"[^\w.]+", "-", " ".join(overrides)).strip("-")


def make(folder: Path, overrides: Sequence[str], share: bool = True, record: Mapping[str, Any] | None = None) -> Path:
    """A clone of the newest commit with these settings; the same folder is found again and brought to that commit.

    share: use this checkout's DVC cache, in which a stage may be found that would else be run. record: what is to be
    kept of how it was made, to which its commit is added. A clone appears with its settings and record, or not at all.
    """
    text = as_text(compose_values(overrides))
    _say_what_is_left_out()
    if not folder.is_dir():
        unfinished = folder.with_name(folder.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        subprocess.run(["git", "clone", "--quiet", str(paths.ROOT), str(unfinished)], check=True)
        if share:
            _share_cache(unfinished)
        _settle(unfinished, text, record)
        unfinished.rename(folder)
        return folder
    if _commit(folder) != _commit(paths.ROOT):
        subprocess.run(["git", "fetch", "--quiet", str(paths.ROOT), "HEAD"], cwd=folder, check=True)
        subprocess.run(["git", "reset", "--quiet", "--hard", "FETCH_HEAD"], cwd=folder, check=True)
    _settle(folder, text, record)
    return folder


@cache
def _say_what_is_left_out() -> None:
    """Once, which code is not in the newest commit, and so in no workspace."""
    if found := uncommitted(*CODE):
        changed = ", ".join(found)
        print(f"WARNING workspaces have the committed code alone, not what has changed in {changed}", file=sys.stderr)


def uncommitted(*places: str) -> list[str]:
    """Files in these places of this checkout that are not in git as they are here."""
    asked = ["git", "status", "--porcelain", "--no-renames", "--untracked-files=all", "--", *places]
    said = subprocess.run(asked, cwd=paths.ROOT, capture_output=True, text=True, check=True).stdout
    return [line[3:] for line in said.splitlines()]


def _settle(folder: Path, text: str, record: Mapping[str, Any] | None) -> None:
    """The record before the settings: where a kill leaves one of them, they do not agree, and nothing is kept."""
    if record is not None:
        write_json(folder / VARIANT, {**record, "commit": _commit(folder)})
    write_bytes(folder / "params.yaml", text.encode())


def _commit(folder: Path) -> str:
    asked = ["git", "rev-parse", "HEAD"]
    return subprocess.run(asked, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def _share_cache(folder: Path) -> None:
    shared = ask_dvc("cache", "dir")
    write_bytes(folder / ".dvc" / "config.local", f"[cache]\n    dir = {shared}\n".encode())


def alone_in(folder: Path) -> AbstractContextManager[None]:
    """Keep other runs out of a workspace; raises UserError if one is in it."""
    return held(folder.with_name(f"{folder.name}.lock"), str(folder))


def overrides_of(settings: Sequence[str] = (), **choices: Any) -> list[str]:
    """What was chosen and set, as pipelines.params takes it; raises UserError for a key that is there twice."""
    keys = {"p_mask": "finetune.p_mask"}
    given = [f"{keys.get(name, name)}={value}" for name, value in choices.items() if value is not None]
    return worded([*given, *settings])


def folder_of(overrides: Sequence[str]) -> Path:
    """This checkout if nothing was chosen, else where the workspace of the settings lies."""
    return paths.STATE / "studies" / slug(overrides) if overrides else paths.ROOT


@contextmanager
def checkout(overrides: Sequence[str]) -> Iterator[Path]:
    """The folder of the settings, made if need be, for this run alone."""
    folder = folder_of(overrides)
    if not overrides:
        yield folder
        return
    with alone_in(folder):
        yield make(folder, overrides)


def variables(root: Path) -> dict[str, str]:
    """What a stage needs beside DVC's surroundings: its code before the user's, this checkout's MLflow, and that it is
    to end with this process.
    """
    code = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": code, "MLFLOW_TRACKING_URI": tracking.uri(), WATCHED: str(os.getpid())}


def keep(texts: dict[str, bytes], target: Path) -> None:
    """Put what `small` has read of a finished study in the place of what an older one left there, whole or not at all.

    It is written beside the target, under a name that no reader of seed-* looks at, and then takes its place. The next
    one takes away what a kill has left. Results that are the same to the byte keep the record of what made them first.
    """
    record = target / Path(VARIANT).name
    if record.is_file() and VARIANT in texts and same_results(target, texts, FILES):
        texts = texts | {VARIANT: record.read_bytes()}
    new, old = (target.with_name(f".{target.name}.{state}") for state in ("new", "old"))
    with writing(target):
        # An old one is of no use once another is about to be kept, whoever left it there.
        for left in (new, *target.parent.glob(".*.old")):
            shutil.rmtree(left, ignore_errors=True)
        for name, text in texts.items():
            write_bytes(new / Path(name).name, text)
        if target.exists():
            target.rename(old)
        new.rename(target)
        sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)


def same_results(kept: Path, texts: Mapping[str, bytes], names: Sequence[str] = REACHED) -> bool:
    """Whether files of what is kept in the folder are those of another study, to the byte."""
    files = {name: kept / Path(name).name for name in names}
    return all(path.is_file() and path.read_bytes() == texts.get(name) for name, path in files.items())


def small(folder: Path) -> dict[str, bytes]:
    """What is kept of a finished study: its FILES, the curves of L_rec and of the world model's loss, and a moment
    of an episode where it has them, what its team costs, and which variant it is; of what variants are compared to, the
    whole episode, and stress where it was run.

    All of it is read off the files that the stages have written. Raises UserError where one is missing.
    """
    from rmiov2.reporting.files import CHECKPOINT, EPISODE_COLUMNS, SCENE_KEYS, read_json, read_table
    from rmiov2.reporting.run.costs import costs
    from rmiov2.reporting.scene.moment import telling_moment

    if absent := [name for name in (*FILES, TUNING_CURVE, LOSSES) if not (folder / name).is_file()]:
        raise UserError(f"{folder} has no {', '.join(absent)}: its study has not finished; let it run to its end")
    texts = {name: (folder / name).read_bytes() for name in FILES}
    curve = (folder / TUNING_CURVE).read_bytes()
    if b"l_rec" in curve.splitlines()[0].split(b","):
        texts[TUNING_CURVE] = curve
    if losses := _losses(folder / LOSSES):
        texts[LOSSES] = losses
    if (folder / VARIANT).is_file():
        texts[VARIANT] = _as_json(record_in(folder / VARIANT) | {"code": code_of(folder)}, indent=1)
    episodes = read_table(folder / "results/episodes.parquet", "evaluate", EPISODE_COLUMNS)
    scene = read_json(folder / SCENE, "evaluate", SCENE_KEYS)
    if moment := telling_moment(scene):
        texts[MOMENT] = _as_json(moment)
    if _is_compared_to(folder, texts):
        kept = [SCENE, STRESS] if was_stressed(folder) else [SCENE]
        texts |= {name: (folder / name).read_bytes() for name in kept}
    return {**texts, COSTS: _as_json(costs(episodes, folder / CHECKPOINT), indent=1)}


def was_stressed(folder: Path) -> bool:
    """Whether STRESS is of the team that lies in the folder: until the stage has run there, it is the commit's."""
    stages = recorded_stages(folder) if (folder / "dvc.lock").is_file() else {}
    made = [out["md5"] for out in stages.get("finetune", {}).get("outs", []) if out["path"] == TEAM]
    played = [dep["md5"] for dep in stages.get("stress", {}).get("deps", []) if dep["path"] == TEAM]
    return bool(made) and made == played


def recorded_stages(folder: Path) -> dict[str, Any]:
    """The stages of its dvc.lock: what they ran on and what they made."""
    from dvc.utils.serialize import load_yaml  # its 1e-05 is a number; PyYAML reads a word

    return dict(load_yaml(str(folder / "dvc.lock"))["stages"])


def code_of(folder: Path) -> str:
    """A digest of the code that a finished study's stages have read, by its dvc.lock: two commits may have the same."""
    stages = recorded_stages(folder)
    deps = [dep for stage in STAGES for dep in stages[stage]["deps"]]
    read = {dep["path"]: dep["md5"] for dep in deps if dep["path"].startswith(("rmiov2", "pipelines"))}
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()[:12]


def _is_compared_to(folder: Path, texts: Mapping[str, bytes]) -> bool:
    """Whether the study is of the default agent, whole."""
    default = compose_values()["agent"]["name"]
    whole = record_in(folder / VARIANT).get("ablation", WHOLE) == WHOLE
    return bool(whole and json.loads(texts["metrics/evaluate.json"])["agent"] == default)


def _as_json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent, allow_nan=False).encode() + b"\n"


def _losses(path: Path) -> bytes:
    """The LOSS columns where both have a value; nothing where the method has no such loss."""
    import pandas as pd

    rows = pd.read_csv(path, dtype=str).reindex(columns=LOSS).dropna()  # words: what is kept is what was written
    return b"" if rows.empty else bytes(rows.to_csv(index=False).encode())
