"""What the evaluation found: performance over p_loss, the area under it, and what completion costs in messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from rmiov2.reporting.run.costs import own_per_step
from rmiov2.reporting.style import (
    CYCLE,
    INK,
    MODES,
    Picture,
    canvas,
    csv_bytes,
    label_ends,
    name_rows,
    png,
    reference_line,
)
from rmiov2.reporting.words import (
    MODE_NAMES,
    decimals_of,
    focus_index,
    measure_name,
    modes_of,
    number,
    probability,
    significant,
    with_interval,
)
from rmiov2.types import UserError

if TYPE_CHECKING:
    from pandas import DataFrame


def performance_picture(evaluate: Mapping[str, Any]) -> Picture:
    """Performance over p_loss under the headline measure, 95 % bands."""
    at = focus_index(evaluate["p_loss"])
    digits = decimals_of(evaluate)
    said = "; ".join(f"{MODE_NAMES[m]} {number(evaluate['performance'][m][at], digits)}" for m in modes_of(evaluate))
    mask = ", together with its availability mask" if evaluate.get("true_availability") else ""
    caption = (
        f"{measure_name(evaluate).capitalize()} against the probability that an agent’s observation is lost"
        f"{mask}; {evaluate['episodes']} episodes per point, bands are 95 % intervals. "
        f"At p_loss {probability(evaluate['p_loss'][at])}: {said}."
    )
    return _performance(evaluate, evaluate, "performance", "Performance under observation loss", caption)


def true_availability_picture(evaluate: Mapping[str, Any]) -> Picture | None:
    """The same where blind agents are handed the true availability mask; None where actions are continuous."""
    block = evaluate.get("true_availability")
    if block is None:
        return None
    at, digits = len(evaluate["p_loss"]) - 1, decimals_of(evaluate)
    modes = [mode for mode in ("zeros", "last_seen", "completion") if mode in modes_of(block)]
    said = "; ".join(
        f"{MODE_NAMES[mode]} {number(block['performance'][mode][at], digits)} with it, "
        f"{number(evaluate['performance'][mode][at], digits)} without"
        for mode in modes if mode in evaluate["performance"]
    )  # fmt: skip
    caption = (
        "The same when blind agents are given the true availability mask, which tells them who is in range. "
        f"When everything is lost: {said}. This variant is shown as a warning; it is not the result."
    )
    return _performance(block, evaluate, "performance_true_availability", "The same with the true mask", caption)


def _performance(block: Mapping[str, Any], evaluate: Mapping[str, Any], name: str, title: str, caption: str) -> Picture:
    figure = canvas()
    axes = figure.add_subplot()
    draw_performance(axes, block, evaluate["p_loss"], measure_name(evaluate))
    axes.set_ylim(*_limits(evaluate))
    label_performance(axes, block, reference_line(axes, evaluate["random"], "random play"))
    rows = [(mode, *point) for mode in modes_of(block) for point in points(block, mode, evaluate["p_loss"])]
    data = csv_bytes(("mode", "p_loss", evaluate["measure"], "lo", "hi"), rows)
    modes = ", ".join(MODE_NAMES[mode] for mode in modes_of(block))
    alt = f"Line chart: {measure_name(evaluate)} against p_loss for {modes}."
    return Picture(name, title, caption, alt, png(figure), data)


def points(block: Mapping[str, Any], mode: str, over: Sequence[float]) -> list[tuple[float, ...]]:
    """(x, performance, lo, hi) of a mode, x being what it is drawn over."""
    columns = (over, block["performance"][mode], block["ci95"][mode])
    return [(x, value, *bounds) for x, value, bounds in zip(*columns, strict=True)]


def draw_performance(axes: Axes, block: Mapping[str, Any], p_loss: Sequence[float], measure: str) -> None:
    """One line and one band per mode."""
    headline, *_ = modes = modes_of(block)
    for mode in reversed(modes):  # the headline last, on top
        _, colour, marker, dashes = MODES[mode]
        values, bounds = block["performance"][mode], np.asarray(block["ci95"][mode])
        if len(values) != len(p_loss) or bounds.shape != (len(p_loss), 2):
            raise UserError(
                f"metrics/evaluate.json: {mode} has {len(values)} values and {len(bounds)} intervals,"
                f" expected {len(p_loss)}, one per p_loss; run `dvc repro -f -s evaluate`"
            )
        axes.fill_between(p_loss, bounds[:, 0], bounds[:, 1], color=colour, alpha=0.13, lw=0)
        width = 2.4 if mode == headline else 1.6
        axes.plot(p_loss, values, color=colour, marker=marker, ls=dashes, lw=width, mec="white", mew=0.7, clip_on=False)
    name_axes(axes, p_loss, measure)


def name_axes(axes: Axes, p_loss: Sequence[float], measure: str) -> None:
    """Ticks at the grid of p_loss, and the names of both axes."""
    axes.set_xlim(min(p_loss), max(p_loss))
    axes.set_xticks(p_loss, [probability(p) for p in p_loss])
    axes.set_xlabel("probability that an observation is lost, $p_{loss}$")
    axes.set_title(measure)


def whole_scale(axes: Axes, evaluate: Mapping[str, Any]) -> None:
    """All that a win rate can be."""
    if evaluate["measure"] == "win_rate":
        axes.set_ylim(0, 1)


def label_performance(axes: Axes, block: Mapping[str, Any], *others: tuple[float, str, str]) -> None:
    """Name every mode, and other ends, at the right end of its line."""
    ends = [(block["performance"][mode][-1], MODES[mode][0], MODES[mode][1]) for mode in modes_of(block)]
    label_ends(axes, [*ends, *others])


def _limits(evaluate: Mapping[str, Any]) -> tuple[float, float]:
    blocks = [evaluate] + ([evaluate["true_availability"]] if evaluate.get("true_availability") else [])
    bounds = [np.asarray(block["ci95"][mode]) for block in blocks for mode in modes_of(block)]
    low, high = min(b.min() for b in bounds), max(b.max() for b in bounds)
    low, high = min(low, evaluate["random"], 0.0), max(high, evaluate["random"])
    margin = 0.06 * (high - low) or 0.05  # everything lost: the axis still needs a height
    return (float(low) if low == 0 else float(low - margin)), float(high + margin)


def auc_picture(evaluate: Mapping[str, Any]) -> Picture:
    """The area under each curve with its interval, both measures where there are two."""
    modes, digits = modes_of(evaluate), decimals_of(evaluate)
    leaking = evaluate.get("true_availability")
    figure = canvas(height=0.55 * len(modes) + 1.25)
    axes = figure.add_subplot()
    _auc_marks(axes, evaluate, modes, 0.13 if leaking else 0.0, digits)
    if leaking:
        _auc_marks(axes, leaking, modes, -0.2, None)
    name_rows(axes, [MODE_NAMES[mode] for mode in modes])
    axes.set_xlabel("area under the curve over $p_{loss}$")
    axes.set_xlim(left=min(0.0, axes.get_xlim()[0]), right=axes.get_xlim()[1] + 0.12 * np.ptp(axes.get_xlim()))
    best = max(modes, key=lambda mode: evaluate["auc"][mode])
    caption = (
        f"Areas under the curves over p_loss with 95 % intervals. Largest: {MODE_NAMES[best]} with "
        f"{with_interval(evaluate['auc'][best], evaluate['auc_ci95'][best], digits)}."
        + (" Hollow marks: with the true availability mask." if leaking else "")
    )
    rows = [("lost" if block is evaluate else "true", mode, block["auc"][mode], *block["auc_ci95"][mode])
            for block in (evaluate, leaking) if block for mode in modes if mode in block["auc"]]  # fmt: skip
    alt = f"Dot chart: area under the curve of {', '.join(MODE_NAMES[mode] for mode in modes)} with intervals."
    data = csv_bytes(("availability", "mode", "auc", "lo", "hi"), rows)
    return Picture("auc", "Area under the curve", caption, alt, png(figure), data)


def _auc_marks(axes: Axes, block: Mapping[str, Any], modes: list[str], offset: float, digits: int | None) -> None:
    """A mark and its interval per mode of the block; hollow and without its number where digits is None."""
    filled = digits is not None
    for row, mode in enumerate(modes):
        if mode not in block["auc"]:
            continue
        _, colour, marker, _ = MODES[mode]
        y = len(modes) - 1 - row + offset
        lo, hi = block["auc_ci95"][mode]
        axes.plot([lo, hi], [y, y], color=colour, lw=2.2 if filled else 1.2, alpha=1 if filled else 0.7)
        axes.plot(block["auc"][mode], y, marker, color=colour, mfc=colour if filled else "white", ms=7 if filled else 5)
        if digits is not None:
            text = number(block["auc"][mode], digits)
            axes.annotate(text, (hi, y), (8, 0), textcoords="offset points", va="center", color=INK)


def cost_picture(episodes: DataFrame, wide: bool) -> Picture | None:
    """Messages and bytes per step over p_loss, of the team's own answer to what is lost; None if nobody talks."""
    completes = bool((episodes["mode"] == "completion").any())
    played = own_per_step(episodes)
    if not completes and not played["messages"].any():
        return None
    stacked, rows = _cost(played, columns=1)
    top = {row[0]: row for row in sorted(rows, key=lambda row: row[3])}
    free = all(row[3] == 0 for row in rows if row[2] == 0)
    caption = (
        f"Messages and bytes per environment step {'with completion' if completes else 'of agents that always talk'}, "
        "mean over episodes; the band covers the middle 90 % "
        f"of them. At most {significant(top['messages'][3])} messages (at p_loss {probability(top['messages'][2])}) "
        f"and {significant(top['bytes'][3])} bytes (at p_loss {probability(top['bytes'][2])}) per step"
        + ("; none when nothing is lost." if free else ".")
    )
    alt = "Two line charts: messages per step and bytes per step against p_loss."
    data = csv_bytes(("quantity", "pattern", "p_loss", "per_step", "p05", "p95"), rows)
    image, narrow = (_cost(played, columns=2)[0], stacked) if wide else (stacked, None)
    return Picture("cost", "Communication", caption, alt, image, data, narrow)


def _cost(played: DataFrame, columns: int) -> tuple[bytes, list[tuple[Any, ...]]]:
    figure = canvas(10.6, 2.9) if columns == 2 else canvas(height=4.2)
    rows: list[tuple[Any, ...]] = []
    panels = np.ravel(figure.subplots(2 // columns, columns, sharex=True, squeeze=False))
    for panel, column in zip(panels, ("messages", "bytes"), strict=True):
        rows += _cost_panel(panel, played, column)
    for panel in panels[-columns:]:
        panel.set_xlabel("probability that an observation is lost, $p_{loss}$")
    return png(figure), rows


def _cost_panel(axes: Axes, played: DataFrame, column: str) -> list[tuple[Any, ...]]:
    groups = played.groupby("p_loss")[column]
    means, low, high = groups.mean(), groups.quantile(0.05), groups.quantile(0.95)
    axes.fill_between(means.index, low, high, color=CYCLE[0], alpha=0.13, lw=0)
    axes.plot(means.index, means, "o-", color=CYCLE[0], mec="white", mew=0.7, clip_on=False)
    axes.set_xlim(means.index[0], means.index[-1])
    axes.set_xticks(means.index, [probability(p) for p in means.index])
    axes.set_ylim(bottom=0)
    axes.set_title(f"{column} per step")
    (pattern,) = played["pattern"].unique()  # an evaluation plays one
    return [(column, pattern, p, means[p], low[p], high[p]) for p in means.index]
