"""Several seeds of the same run in one picture: each thin, their mean thick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from rmiov2.files import write_bytes
from rmiov2.reporting.estimates import Sample, grouped, over_seeds
from rmiov2.reporting.files import EVALUATE_KEYS, LEARNING_COLUMNS, read_json, read_table
from rmiov2.reporting.run.figures import name_axes
from rmiov2.reporting.run.training_figures import counted_axis
from rmiov2.reporting.style import CYCLE, MODES, canvas, label_ends, png, reference_line, styled
from rmiov2.reporting.words import measure_name, modes_of
from rmiov2.types import UserError

if TYPE_CHECKING:
    from pandas import DataFrame

Values = npt.NDArray[np.float64]
Curve = tuple[Values, Values]


def overlay_seeds(evaluate_jsons: Sequence[Path], learning_csvs: Sequence[Path], out: Path) -> Path:
    """Write a PNG of the learning curves and the curves over p_loss of several seeds; its path.

    evaluate_jsons are metrics/evaluate.json and learning_csvs plots/learning.csv, one per seed. Raises UserError for a
    missing file, for seeds of different environments or measures, and for different grids of p_loss.
    """
    evaluations = [read_json(path, "evaluate", EVALUATE_KEYS) for path in evaluate_jsons]
    tables = [read_table(path, "pretrain", LEARNING_COLUMNS) for path in learning_csvs]
    _refuse_unlike(evaluations)
    if not tables:
        raise UserError("got no plots/learning.csv, expected one per seed")
    curves = [curve_of(table, "env_steps", "performance") for table in tables]
    with styled():
        figure = canvas(10.6, 3.9)
        left, right = figure.subplots(1, 2)
        _draw_learning(left, curves, evaluations[0])
        _draw_p_loss(right, evaluations)
        write_bytes(out, png(figure))
    return out


def curve_of(table: DataFrame, x: str, y: str) -> Curve:
    """Two columns of a table."""
    return table[x].to_numpy(dtype=float), table[y].to_numpy(dtype=float)


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The mean over the steps that every seed has reached, each curve interpolated between its points."""
    grid, values = _on_one_grid(curves)
    return grid, values.mean(axis=0)


def one_a_seed(teams: Sequence[tuple[int, Curve]]) -> list[Curve]:
    """The mean curve of each seed; see rmiov2.reporting.estimates.grouped."""
    return [mean_curve(group) for group in grouped(teams)]


def interval_curve(curves: Sequence[Curve]) -> tuple[Values, Values, Values]:
    """The same steps, and the 95 % interval of the mean by Student's t over the seeds; no steps of a single seed."""
    grid, values = _on_one_grid(curves)
    if len(curves) < 2:
        return grid[:0], grid[:0], grid[:0]
    bounds = [over_seeds(Sample(tuple(at_once), (0.0,))).bounds for at_once in values.T.tolist()]
    low, high = np.array(bounds, dtype=float).T
    return grid, low, high


def _on_one_grid(curves: Sequence[Curve]) -> tuple[Values, Values]:
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= first) & (grid <= last)]
    return grid, np.array([np.interp(grid, x, y) for x, y in curves])


def _draw_learning(axes: Axes, curves: Sequence[Curve], evaluate: dict[str, Any]) -> None:
    for x, y in curves:
        axes.plot(x, y, color=CYCLE[0], lw=0.9, alpha=0.45)
    axes.plot(*mean_curve(curves), color=CYCLE[0], lw=2.6)
    counted_axis(axes, max(float(x[-1]) for x, _ in curves))
    if evaluate["measure"] == "win_rate":
        axes.set_ylim(0, max(0.05, 1.08 * max(float(y.max()) for _, y in curves)))
    axes.set_title(f"{measure_name(evaluate)} while pre-training, {len(curves)} seeds")
    label_ends(axes, [reference_line(axes, evaluate["random"], "random play")])


def _draw_p_loss(axes: Axes, evaluations: Sequence[dict[str, Any]]) -> None:
    p_loss, ends = evaluations[0]["p_loss"], []
    for mode in reversed(modes_of(evaluations[0])):
        name, colour, marker, dashes = MODES[mode]
        runs = np.array([evaluation["performance"][mode] for evaluation in evaluations], dtype=float)
        axes.plot(p_loss, runs.T, color=colour, lw=0.8, alpha=0.4)
        mean = runs.mean(axis=0)
        axes.plot(p_loss, mean, color=colour, lw=2.6, ls=dashes, marker=marker, mec="white", mew=0.7, clip_on=False)
        ends.append((float(mean[-1]), name, colour))
    name_axes(axes, p_loss, f"{measure_name(evaluations[0])} under observation loss, {len(evaluations)} seeds")
    if evaluations[0]["measure"] == "win_rate":
        axes.set_ylim(bottom=0)
    label_ends(axes, ends)


def _refuse_unlike(evaluations: Sequence[dict[str, Any]]) -> None:
    if not evaluations:
        raise UserError("got no metrics/evaluate.json, expected one per seed")
    for key in ("env", "agent", "measure", "p_loss"):
        values = [evaluation[key] for evaluation in evaluations]
        if any(value != values[0] for value in values):
            raise UserError(f"seeds of one result share {key}; got {', '.join(map(str, values))}")
    modes = [modes_of(evaluation) for evaluation in evaluations]
    if any(other != modes[0] for other in modes):
        raise UserError(f"seeds of one result share their modes; got {'; '.join(', '.join(m) for m in modes)}")
