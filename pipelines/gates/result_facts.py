"""Facts of results/episodes.parquet: the file, each evaluated episode, each cell of the grid, each curve."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.gates.suites import Table, cell_rules, curve_rules, episode_rules, file_rules
from rmiov2.agents.registry import class_of
from rmiov2.config import Config
from rmiov2.evaluation.modes import OPEN_LOOP, modes_played, own_mode
from rmiov2.evaluation.statistics import auc
from rmiov2.evaluation.sweep import AVAILABILITIES, COLUMNS, RANDOM
from rmiov2.types import EnvSpec

CELL = ("seed", "mode", "availability", "p_loss")
CURVE = CELL[:-1]
NUMBERS = ("seed", "p_loss", "episode", "won", "return", "length", "messages", "bytes")
COMPLETED = ("completion", "completion_untuned")  # the modes that talk where something is lost
NOBODY = (OPEN_LOOP, RANDOM)  # modes without the agent, which may be one that always talks
SAME = 1e-9  # relative, of two ways to add up the same numbers


def result_tables(path: Path, summary: Mapping[str, Any], config: Config, spec: EnvSpec) -> list[Table]:
    """The tables file, episodes, cells and curves; the file alone if it cannot be read. summary: metrics/evaluate.json.

    Raises nothing for a damaged file.
    """
    import pandas as pd

    about, rows = _file_facts(path, class_of(config.agent).capabilities.talks)
    file = Table("file", pd.DataFrame([about]), ("file",), file_rules())
    if rows is None:
        return [file]
    cells = _cells(rows, summary, config, spec)
    labels: dict[str, Any] = {
        "agent": [config.agent.label],
        "env": [config.env.name],
        "pattern": [config.evaluate.pattern],
        "measure": [spec.measure],
    }
    episodes, limit = config.evaluate.episodes, spec.episode_limit or None
    return [
        file,
        Table("episodes", rows, (*CELL, "episode"), episode_rules(labels, episodes, limit)),
        Table("cells", cells, CELL, cell_rules(episodes, spec.measure == "win_rate")),
        Table("curves", _curves(cells, summary), CURVE, curve_rules()),
    ]


def _file_facts(path: Path, talks: bool) -> tuple[dict[str, str], Any]:
    """What is wrong with the file, in words, and its rows with the facts of each, or None; talks: the agent does."""
    import pandas as pd

    facts = {"file": path.name, "unreadable": "", "columns_missing": ""}
    try:
        rows = pd.read_parquet(path)
    except (ValueError, OSError) as error:  # pandas and pyarrow raise children of these for a damaged file
        return facts | {"unreadable": str(error).replace(str(path), path.name)}, None
    missing = [name for name in COLUMNS if name not in rows]
    if missing or rows.empty:
        return facts | {"unreadable": "" if missing else "no rows", "columns_missing": ", ".join(missing)}, None
    return facts, _with_facts(rows, talks)


def _with_facts(rows: Any, talks: bool) -> Any:
    """What is no number becomes NaN, and is counted as such."""
    import pandas as pd

    rows = rows[list(COLUMNS)].copy()
    names = [name for name in COLUMNS if name not in NUMBERS]
    for name in NUMBERS:
        rows[name] = pd.to_numeric(rows[name], errors="coerce").astype(float)
    rows["not_finite"] = (~np.isfinite(rows[list(NUMBERS)])).sum(axis=1) + rows[names].isna().sum(axis=1)
    silent = rows["mode"].isin(NOBODY) if talks else (rows["p_loss"] == 0) | ~rows["mode"].isin(COMPLETED)
    rows["cost_for_nothing"] = np.where(silent, rows["messages"].abs() + rows["bytes"].abs(), 0.0)
    return rows


def _cells(rows: Any, summary: Mapping[str, Any], config: Config, spec: EnvSpec) -> Any:
    """One row for each cell that there should be or is: how many episodes, their performance, its standard error."""
    import pandas as pd

    availabilities = AVAILABILITIES if spec.discrete else AVAILABILITIES[:1]
    modes = modes_played(own_mode(summary["performance"]))
    expected = list(product([config.seed], modes, availabilities, config.evaluate.p_loss))
    expected.append((config.seed, RANDOM, AVAILABILITIES[0], 0.0))
    value = rows["won"] if spec.measure == "win_rate" else rows["return"] / rows["length"]
    groups = value.groupby([rows[name] for name in CELL], dropna=False).agg(["size", "mean", "var"])
    found = dict(zip(groups.index, groups.to_numpy().tolist(), strict=True))
    said = _said(summary)
    cells = []
    for key in dict.fromkeys([*expected, *found]):
        size, mean, variance = found.get(key, (0, np.nan, np.nan))
        cells.append(
            {
                **dict(zip(CELL, key, strict=True)),
                "missing": int(size == 0),
                "beyond_the_grid": int(key not in expected),
                "episodes": int(size),
                "performance": mean,
                "variance_of_mean": variance / size if size else np.nan,
                "summary_differs": _contradiction(said.get(key[1:]), mean) if size and key in expected else "",
            }
        )
    return pd.DataFrame(cells)


def _said(summary: Mapping[str, Any]) -> dict[tuple[Any, ...], float]:
    """Performance by mode, availability and p_loss, as metrics/evaluate.json has it."""
    said: dict[tuple[Any, ...], float] = {(RANDOM, AVAILABILITIES[0], 0.0): summary["random"]}
    blocks = [summary, *([summary["true_availability"]] if "true_availability" in summary else [])]
    for availability, block in zip(AVAILABILITIES, blocks, strict=False):
        for mode, curve in block["performance"].items():
            said |= {(mode, availability, p): value for p, value in zip(summary["p_loss"], curve, strict=True)}
    return said


def _contradiction(said: float | None, mean: float) -> str:
    """What metrics/evaluate.json says, where that is not what its rows give."""
    if said is None:
        return "nothing there"
    return "" if np.isclose(said, mean, rtol=SAME, atol=SAME) else f"{said:.6g} there, {mean:.6g} here"


def _curves(cells: Any, summary: Mapping[str, Any]) -> Any:
    """The largest rise of each curve, in standard errors of the difference, and whether its AUC is what is said."""
    import pandas as pd

    blocks = dict(zip(AVAILABILITIES, (summary, summary.get("true_availability", {})), strict=True))
    curves = []
    for key, cell in cells[(cells["mode"] != RANDOM) & (cells["beyond_the_grid"] == 0)].groupby(list(CURVE)):
        curve, (_, mode, availability) = cell.sort_values("p_loss"), key
        area = float(auc(curve["p_loss"].to_numpy(), curve["performance"].to_numpy()))
        said = blocks[availability].get("auc", {}).get(mode)
        differs = _contradiction(said, area) if np.isfinite(area) else ""
        curves.append({**dict(zip(CURVE, key, strict=True)), "rise": _rise(curve), "auc_differs": differs})
    return pd.DataFrame(curves, columns=[*CURVE, "rise", "auc_differs"])


def _rise(curve: Any) -> float:
    """From any p_loss to any larger one; 0 where it never rises, or where too little was played to say."""
    mean, variance = curve["performance"].to_numpy(), curve["variance_of_mean"].to_numpy()
    rise = mean[None, :] - mean[:, None]
    error = np.sqrt(variance[None, :] + variance[:, None])
    judged = np.triu(np.isfinite(error), 1) & (error > 0)
    return float(np.divide(rise, error, out=np.zeros_like(rise), where=judged).max(initial=0.0))
