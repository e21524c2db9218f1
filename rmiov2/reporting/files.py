"""Files that stages have written, read and checked; the only module that imports pandas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from rmiov2.types import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

EPISODE_COLUMNS = ("mode", "pattern", "p_loss", "won", "return", "length", "messages", "bytes")
LEARNING_COLUMNS = ("env_steps", "performance", "lo", "hi", "episodes")
EVALUATE_KEYS = ("env", "agent", "measure", "episodes", "p_loss", "performance", "ci95", "auc", "auc_ci95", "random")
SCENE_KEYS = ("env", "measure", "p_loss", "seed", "agents", "seen", "won", "series", "reward")
RUN_KEYS = ("env", "agent", "preset", "seeds", "env_steps", "updates", "wall_s")
CHECKPOINT = "models/finetune/checkpoint.safetensors"


def read_settings(path: Path) -> dict[str, Any]:
    """The settings of a run, nested as they are written; nothing where they were not left with it."""
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def read_json(path: Path, stage: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """Read an object that has these keys; raises UserError that names the stage that writes it."""
    _refuse_absent(path, stage)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}); write it anew with {_anew(path, stage)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}, expected an object; run {_anew(path, stage)}")
    refuse_incomplete(path, stage, keys, list(values))
    return values


def read_table(path: Path, stage: str, columns: tuple[str, ...]) -> DataFrame:
    """Read a CSV or Parquet table that has these columns and a row; raises UserError that names its stage."""
    import pandas

    _refuse_absent(path, stage)
    try:
        table = pandas.read_parquet(path) if path.suffix == ".parquet" else pandas.read_csv(path)
    except (ValueError, OSError) as error:  # pandas and pyarrow raise children of these for a damaged file
        raise UserError(f"{path} cannot be read ({error}); write it anew with {_anew(path, stage)}") from error
    refuse_incomplete(path, stage, columns, list(table.columns))
    if table.empty:
        raise UserError(f"{path} has no row; write it anew with {_anew(path, stage)}")
    return table


def _refuse_absent(path: Path, stage: str) -> None:
    if not path.is_file():
        raise UserError(f"no {path.name} in {path.parent}; write it with {_anew(path, stage, absent=True)}")


def _anew(path: Path, stage: str, absent: bool = False) -> str:
    """The command that makes a file again: of one that is there, nothing that comes before it; what was kept of a study
    is git's.
    """
    kept = not stage or "docs/seeds" in path.as_posix()
    return f"`git checkout -- {path}`" if kept else f"`dvc repro {'' if absent else '-f -s '}{stage}`"


def refuse_incomplete(path: Path, stage: str, expected: tuple[str, ...], got: list[str]) -> None:
    """Raise UserError that names what the file lacks and the stage that writes it."""
    absent = [name for name in expected if name not in got]
    if absent:
        raise UserError(f"{path} lacks {', '.join(absent)} (it has {', '.join(got)}); run {_anew(path, stage)}")
