"""What one trial runs: the library's own stages in this process, on the data that DVC keeps, in a folder of its own.

A trial never touches what `dvc repro` makes. Its score is the AUC of the team's own answer to lost observations, on
validation games; those of the report, of validation and of confirmation are three sets with seeds of their own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import rmiov2
from pipelines import paths
from rmiov2 import config as settings
from rmiov2.config import Config
from rmiov2.evaluation import statistics
from rmiov2.files import write_json
from rmiov2.progress import news
from rmiov2.seeding import derive

# The stage of dvc.yaml at which a trial of a space begins, in place of that stage.
BEGINS = {"masking": "finetune", "smoothing": "pretrain"}
VALIDATION, CONFIRMATION = "validation", "confirmation"

Games = list[list[float]]  # [rate of p_loss][episode], what each adds to the measure
# Rounds of fine-tuning that are done, and L_rec after them: None of an agent that does not reconstruct.
Watch = Callable[[int, float | None], None]


@dataclass(frozen=True)
class Record:
    """One trial of a study as it stands in the storage; games is what it played on the validation seeds."""

    number: int
    state: str
    params: dict[str, Any]
    folder: Path
    auc: float | None = None
    l_rec: list[float] = field(default_factory=list)
    games: Games = field(default_factory=list)
    wall_s: float | None = None
    default: bool = False
    retry_of: int | None = None
    error: str = ""
    ended_ms: int = 0

    def updates(self, config: Config) -> int:
        """The masked updates that it cost or would have cost."""
        return int(self.params.get("finetune.updates", config.finetune.updates))


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """The settings with the values at section.name changed; raises UserError for one that is not allowed."""
    changed = config.model_dump(mode="json")
    for key, value in values.items():
        section, name = key.split(".")
        changed[section][name] = value
    return settings.parse(changed, ", ".join(f"{key}={value}" for key, value in values.items()))


def games_seed(config: Config, purpose: str) -> int:
    """The seed of the games of one purpose, VALIDATION or CONFIRMATION; the report plays evaluate.seed itself."""
    return derive(config.evaluate.seed, purpose)


def train(space: str, config: Config, data: str, folder: Path, watch: Watch = lambda done, l_rec: None) -> None:
    """Run the stages of a space in the folder, or what an earlier attempt at the same settings and data left undone.

    data is the fingerprint of what the stages begin from; watch is told every round of fine-tuning, earlier ones too.
    """
    _claim(folder, {"settings": config.model_dump(mode="json"), "data": data})
    pretrained, replay = paths.PRETRAINED, paths.REPLAY
    if (folder / "finetune.json").is_file():
        _tell_again(folder, watch)
        return
    if space == "smoothing":
        pretrained, replay = folder / "pretrain", folder / "replay"
        _pretrain(config, folder, pretrained, replay)
    _finetune(config, folder, pretrained, replay, watch)


def _claim(folder: Path, mine: dict[str, Any]) -> None:
    """Empty the folder unless what is in it was made with these settings and data."""
    owner = folder / "settings.json"
    if not owner.is_file() or json.loads(owner.read_text()) != mine:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(owner, mine)


def _pretrain(config: Config, folder: Path, out: Path, replay: Path) -> None:
    from rmiov2.training import pretrain as training

    done = folder / "pretrain.json"
    if done.is_file():
        return
    say = news(f"trial {folder.name}: pretrain")
    metrics = training.pretrain(config, paths.COLLECTED, out, replay, folder, folder / "resume" / "pretrain", say)
    write_json(done, metrics)
    shutil.rmtree(folder / "resume" / "pretrain", ignore_errors=True)


def _finetune(config: Config, folder: Path, pretrained: Path, replay: Path, watch: Watch) -> None:
    from rmiov2.training import finetune as training

    l_rec: list[float] = []

    def keep(done: int, value: float | None) -> None:
        if value is not None:
            l_rec.append(value)
        watch(done, value)

    say, resume = news(f"trial {folder.name}: finetune"), folder / "resume" / "finetune"
    metrics = training.finetune(config, pretrained, replay, folder / "finetune", folder, resume, say, watch=keep)
    write_json(folder / "finetune.json", metrics | {"curve": l_rec})
    shutil.rmtree(resume, ignore_errors=True)


def _tell_again(folder: Path, watch: Watch) -> None:
    for done, value in enumerate(json.loads((folder / "finetune.json").read_text())["curve"]):
        watch(done, value)


def play(config: Config, folder: Path, purpose: str) -> Games:
    """The games of one purpose, played by the team that `train` left in the folder."""
    import torch

    from rmiov2.evaluation import sweep
    from rmiov2.progress import bar

    torch.set_num_threads(config.threads)
    chosen = config.evaluate.model_copy(update={"seed": games_seed(config, purpose)})
    agent = rmiov2.load(folder / "finetune", config)
    shown = bar(f"trial {folder.name}: {purpose}")
    _, games, _ = sweep.play_own(agent, partial(rmiov2.make_env, config.env.name), chosen, shown)
    return [values.tolist() for values in games]


def auc(config: Config, games: Games) -> float:
    """The area under the mean performance over evaluate.p_loss."""
    return float(statistics.auc(np.asarray(config.evaluate.p_loss), np.asarray([np.mean(rate) for rate in games])))


def tidy(folder: Path) -> None:
    """Delete what nobody needs after a complete trial: all but the fine-tuned team and its curves."""
    for name in ("resume", "replay", "pretrain"):
        shutil.rmtree(folder / name, ignore_errors=True)
