"""What a study found: the best trial against the settings it began from, and the preset that this may justify.

The best of many trials looks better than it is, because it was chosen for its luck too. So both are played again on
games that chose nothing, and only that comparison decides.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipelines import paths
from pipelines.params import as_text, changes
from pipelines.tuning import trial as trials
from pipelines.tuning.trial import Games, Record
from rmiov2 import config as settings
from rmiov2.config import Config
from rmiov2.evaluation import statistics
from rmiov2.files import read_bytes, write_bytes, write_json
from rmiov2.types import UserError

COLUMNS = ("number", "state", "default", "retry_of", "auc", "updates", "l_rec", "wall_s", "error")


def best_and_default(records: Sequence[Record]) -> tuple[Record, Record]:
    """The trial of the highest AUC, default if equal; and the default. Raises UserError before the default's end."""
    complete = [record for record in records if record.state == "COMPLETE"]
    defaults = [record for record in complete if record.default]
    if not defaults:
        raise UserError("the trial of the settings of params.yaml has not finished; there is nothing to compare with")
    best = max(complete, key=lambda record: (record.auc, record.default, -record.number))
    return best, defaults[0]


def compared(config: Config, best: Games, default: Games) -> dict[str, Any]:
    """The AUC of both over the same games, and their paired difference with its 95 % interval."""
    ours, theirs = ([np.asarray(rate) for rate in games] for games in (best, default))
    rates = np.asarray(config.evaluate.p_loss)
    value, interval = statistics.paired_auc_difference(rates, ours, theirs, config.evaluate.bootstrap)
    return {
        "episodes": sum(len(rate) for rate in best),
        "best": trials.auc(config, best),
        "default": trials.auc(config, default),
        "difference": value,
        "ci95": list(interval),
    }


def confirm(space: str, config: Config, data: str, record: Record) -> Games:
    """What a trial's team plays on the games that chose nothing; it is trained again if its folder is gone."""
    changed = trials.with_values(config, record.params)
    trials.train(space, changed, data, record.folder)
    return trials.play(changed, record.folder, trials.CONFIRMATION)


def better(found: dict[str, Any]) -> bool:
    """Whether the best trial is measurably better than the default on the games that chose nothing."""
    return bool(found["confirmation"] and found["confirmation"]["ci95"][0] > 0)


def write(found: dict[str, Any], records: Sequence[Record], config: Config) -> Path:
    """tuning/STUDY/best.json and trials.csv."""
    folder = paths.TUNING / str(found["study"])
    write_json(folder / "best.json", found)
    write_bytes(folder / "trials.csv", table(records, config).encode())
    return folder


def settle(found: dict[str, Any]) -> None:
    """conf/tuned/STUDY.yaml if the best is measurably better; if not, an earlier one of this study goes."""
    preset = preset_path(found["study"])
    if not better(found):
        preset.unlink(missing_ok=True)
        return
    write_bytes(preset, preset_text(found).encode())


def preset_path(study: str) -> Path:
    """The file of the group `tuned` that belongs to a study."""
    return paths.CONF / "tuned" / f"{study}.yaml"


def preset_text(found: dict[str, Any]) -> str:
    """A short diff of the settings, which cites the study and its numbers."""
    nested: dict[str, dict[str, Any]] = {}
    for key, value in found["values"].items():
        section, name = key.split(".")
        nested.setdefault(section, {})[name] = value
    chosen, fresh = found["validation"], found["confirmation"]
    low, high = fresh["ci95"]
    return (
        "# @package _global_\n"
        f"# Study tuning/{found['study']}: trial {found['best']}, {found['trials']} trials, on {found['env']},"
        f" preset {found['preset']}, seed {found['seed']}.\n"
        f"# AUC {chosen['best']:.3f} where it was chosen ({chosen['default']:.3f} before); on fresh games"
        f" {fresh['best']:.3f} against {fresh['default']:.3f}, difference {fresh['difference']:.3f}"
        f" [{low:.3f}, {high:.3f}].\n"
        f"{yaml.safe_dump(nested, sort_keys=False, default_flow_style=None, width=1000)}"
    )


def table(records: Sequence[Record], config: Config) -> str:
    """One row per trial."""
    keys = list(dict.fromkeys(key for record in records for key in record.params))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *keys])
    for record in records:
        last = record.l_rec[-1] if record.l_rec else None
        row = [record.number, record.state, record.default, record.retry_of, record.auc, record.updates(config)]
        writer.writerow([*row, last, record.wall_s, record.error, *(record.params.get(key) for key in keys)])
    return text.getvalue()


def sentences(found: dict[str, Any]) -> list[str]:
    """The comparison in words."""
    if found["best"] == found["default"]:
        return ["the settings of params.yaml are the best of all trials: nothing better was found"]
    if found["confirmation"] is None:
        return [f"trial {found['best']} leads; `run` plays it and the default on fresh games when the study is full"]
    lines = []
    for label, where in (("on the games that chose it", "validation"), ("on fresh games", "confirmation")):
        numbers = found[where]
        low, high = numbers["ci95"]
        lines.append(
            f"{label}: trial {found['best']} AUC {numbers['best']:.3f}, default {numbers['default']:.3f},"
            f" difference {numbers['difference']:+.3f} [{low:+.3f}, {high:+.3f}], {numbers['episodes']} episodes each"
        )
    verdict = "measurably better than the default" if better(found) else "not measurably better than the default"
    return [*lines, f"trial {found['best']} is {verdict}; fresh games decide, since the choice was made on the others"]


def apply(study: str) -> list[str]:
    """Write the values of a study's preset into params.yaml and nothing else; returns what changed.

    Raises UserError if the study has no preset, or was made for another environment than params.yaml plays.
    """
    preset, found = preset_path(study), paths.TUNING / study / "best.json"
    if not preset.is_file():
        raise UserError(f"no conf/tuned/{study}.yaml: the study found nothing better, or has not come to its end")
    tuned = json.loads(read_bytes(found, f"no tuning/{study}/best.json; `show {study}` writes it"))["env"]
    values = yaml.safe_load(paths.PARAMS.read_text())
    if tuned != values["env"]["name"]:
        raise UserError(
            f"the study {study} tuned {tuned}, but params.yaml plays {values['env']['name']}; compose it first"
        )
    for section, changed in yaml.safe_load(preset.read_text()).items():
        values[section] |= changed
    checked = settings.parse(values, str(preset)).model_dump(mode="json")
    lines = changes(paths.PARAMS, checked)
    write_bytes(paths.PARAMS, as_text(checked).encode())
    return lines
