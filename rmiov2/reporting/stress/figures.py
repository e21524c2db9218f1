"""The team under loss that it was not trained on: how long it lasts in the dark, in bursts, and with one agent gone;
and with another memory than it was trained for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rmiov2.reporting.run.figures import draw_performance, label_performance, points, whole_scale
from rmiov2.reporting.style import MODES, Picture, canvas, csv_bytes, png, reference_line
from rmiov2.reporting.tables import Cell, Row, Table, interval_cell
from rmiov2.reporting.words import (
    MODE_NAMES,
    count,
    decimals_of,
    measure_name,
    modes_of,
    number,
    probability,
    with_interval,
)

MOST = 0.5  # of the scale
THIN: Mapping[str, Any] = {"lw": 0.8, "alpha": 0.5, "clip_on": False}
Stress = Mapping[str, Any]  # metrics/stress.json, or of several seeds by stress.seeds.over_the_seeds


def stress_pictures(stress: Stress | None) -> list[Picture]:
    """Whole-team blackouts, bursts, and memories where the team has one; none where the stage was not run."""
    if stress is None:
        return []
    memory = [memory_picture(stress)] if "memory" in stress else []
    return [blackout_picture(stress), bursty_picture(stress), *memory]


def blackout_picture(stress: Stress) -> Picture:
    """Performance over the length of a blackout of the whole team, beside what full sight earns."""
    block, full = stress["blackout"], stress["full_sight"]
    figure = canvas(height=3.9)
    axes = figure.add_subplot()
    _curves(axes, block, block["steps"], stress)
    axes.set_xticks(block["steps"], [str(step) for step in block["steps"]])
    axes.set_xlabel("consecutive steps in which nobody sees")
    whole_scale(axes, stress)
    label_performance(axes, block, reference_line(axes, full["performance"], "nothing lost"))
    digits = _digits(stress, block)
    ends = "; ".join(
        f"{MODE_NAMES[mode]} {number(block['performance'][mode][0], digits)} after {block['steps'][0]},"
        f" {number(block['performance'][mode][-1], digits)} after {block['steps'][-1]}"
        for mode in modes_of(block)
    )
    caption = (
        "Once per episode, the whole team goes blind. The blackout begins at a step drawn uniformly from those at which"
        f" it still fits into {count(full['usual_length'])} steps, the usual length of an episode; if it does not fit,"
        f" it begins at the first step. {_cut(block)}"
        f" {_sample(stress, block)}. {_lasting(stress)}"
        f" {measure_name(stress).capitalize()}: {ends}."
    )
    alt = f"Line chart: {measure_name(stress)} against the length of a blackout of the whole team."
    endured = [steps for mode in modes_of(block) for steps in block["endured"][mode]]
    rows = [(*point, dark) for point, dark in zip(_points(block, "steps"), endured, strict=True)]
    data = csv_bytes(("mode", "steps", stress["measure"], "lo", "hi", *_seed_columns(block), "endured"), rows)
    return Picture("stress_blackout", "How long the team lasts in the dark", caption, alt, png(figure), data)


def _cut(block: Mapping[str, Any]) -> str:
    """What of the longest blackout is played, where episodes end before it does."""
    said = ", ".join(f"{MODE_NAMES[mode]} {number(block['endured'][mode][-1], 1)}" for mode in modes_of(block))
    longest = block["steps"][-1]
    return f"An episode that ends sooner cuts it short: the longest, {longest} steps, lasts on average {said}."


def _lasting(stress: Stress) -> str:
    """Up to which blackout half of what full sight earns is left, and where that is not decided."""
    lasts = stress["blackout"]["lasts"]
    if any(found is None for found in lasts.values()):
        return "Even full sight earns nothing, so there is no half of it to keep."
    said = ", ".join(f"{MODE_NAMES[mode]} {_lasted(found)}" for mode, found in lasts.items())
    return (
        f"The longest blackout, of those tried, up to which the mean keeps half of what full sight earns: {said}."
        " A length is undecided if that half lies within its interval."
    )


def _lasted(found: Mapping[str, Any]) -> str:
    undecided = ", ".join(str(steps) for steps in found["undecided"])
    return f"{found['steps'] or 'none'}{f' (undecided at {undecided})' if undecided else ''}"


def bursty_picture(stress: Stress) -> Picture:
    """The curve over p_loss where observations are lost in bursts."""
    block = stress["bursty"]
    figure = canvas(height=3.9)
    axes = figure.add_subplot()
    _curves(axes, block, block["p_loss"], stress)
    whole_scale(axes, stress)
    label_performance(axes, block)
    digits = _digits(stress, block)
    areas = "; ".join(
        f"{MODE_NAMES[mode]} {with_interval(block['auc'][mode], block['auc_ci95'][mode], digits)}"
        for mode in modes_of(block)
    )
    caption = (
        "Each agent’s observations are lost in bursts of five steps on average, at the same rates p_loss as above;"
        f" {_sample(stress, block)}. AUC: {areas}."
    )
    alt = f"Line chart: {measure_name(stress)} against p_loss with bursty loss."
    head = ("mode", "p_loss", stress["measure"], "lo", "hi", *_seed_columns(block))
    data = csv_bytes(head, _points(block, "p_loss"))
    return Picture("stress_bursty", "Lost in bursts", caption, alt, png(figure), data)


def memory_picture(stress: Stress) -> Picture:
    """The area under the curve over the steps that the same world model is unrolled over."""
    block = stress["memory"]
    steps, areas, bounds = block["history"], block["auc"], block["auc_ci95"]
    figure = canvas(height=3.9)
    axes = figure.add_subplot()
    at, line = range(len(steps)), _as_line(block)
    _curves(axes, line, at, stress)
    axes.autoscale(axis="x")
    axes.set_xticks(at, [f"{k}\n(trained)" if k == block["own"] else str(k) for k in steps])
    axes.set_xlabel("steps that the world model is unrolled over, $l$")
    axes.set_title(f"area under {measure_name(stress)} over $p_{{loss}}$")
    whole_scale(axes, stress)
    digits = _digits(stress, block)
    said = "; ".join(
        f"{k}: {with_interval(area, ends, digits)}" for k, area, ends in zip(steps, areas, bounds, strict=True)
    )
    caption = (
        f"The same weights, fine-tuned on windows of {block['own']} steps, play with shorter and longer memories; a"
        " memory longer than the episode is equivalent to one carried from the first step on."
        f" {_sample(stress, line)}. AUC by steps of memory: {said}."
    )
    alt = f"Line chart: area under {measure_name(stress)} against the steps of memory."
    head = ("history", "p_loss", stress["measure"], "lo", "hi", "auc", "auc_lo", "auc_hi",
            *_seed_columns(line, "auc_seed"))  # fmt: skip
    data = csv_bytes(head, [
        (k, p, value, *ends, areas[i], *bounds[i], *(seed[i] for seed in block.get("each", ())))
        for i, k in enumerate(steps)
        for p, value, ends in zip(block["p_loss"], block["performance"][i], block["ci95"][i], strict=True)
    ])  # fmt: skip
    return Picture("stress_memory", "How much memory it needs", caption, alt, png(figure), data)


def _as_line(memory: Mapping[str, Any]) -> dict[str, Any]:
    """AUC over the steps of memory, as a curve of the mode that remembers."""
    named = {"performance": "auc", "ci95": "auc_ci95", "each": "each"}
    return {name: {"completion": memory[own]} for name, own in named.items() if own in memory}


def _digits(stress: Stress, block: Mapping[str, Any]) -> int:
    """How many decimals the numbers of a block are read with, whose curves are by mode, or of memories in a row."""
    curves = block["performance"]
    by_name = curves if isinstance(curves, Mapping) else dict(enumerate(curves))
    return decimals_of({"measure": stress["measure"], "performance": by_name})


def _sample(stress: Stress, block: Mapping[str, Any]) -> str:
    """How many episodes, of how many seeds, and what the bands are, or why there are none."""
    episodes, seeds = count(stress["episodes"]), stress.get("seeds", 1)
    if seeds == 1:
        return f"{episodes} episodes per point, bands are 95 % intervals"
    told = f"{episodes} episodes per point for each of {seeds} seeds"
    if _one_by_one(block, stress):
        return f"{told}; thin lines are single seeds, as 95 % intervals of their mean span most of the scale"
    return f"{told}, bands are 95 % intervals of their mean"


def _one_by_one(block: Mapping[str, Any], stress: Stress) -> bool:
    """Whether some band would fill MOST of the scale, so that it hides the others, and there are seeds to draw."""
    if "each" not in block:
        return False
    seeds = block["each"].values()
    scale = 1.0 if stress["measure"] == "win_rate" else max(map(np.max, seeds)) - min(map(np.min, seeds))
    return any(float(np.ptp(band, axis=-1).max()) > MOST * scale for band in block["ci95"].values())


def _curves(axes: Axes, block: Mapping[str, Any], over: Sequence[float], stress: Stress) -> None:
    """A line per mode, with its band or with its single seeds."""
    if not _one_by_one(block, stress):
        draw_performance(axes, block, over, measure_name(stress))
        return
    for mode in modes_of(block):
        axes.plot(over, np.transpose(block["each"][mode]), color=MODES[mode][1], **THIN)
    closed = {mode: [[value, value] for value in values] for mode, values in block["performance"].items()}
    draw_performance(axes, {**block, "ci95": closed}, over, measure_name(stress))


def _points(block: Mapping[str, Any], over: str) -> list[tuple[Any, ...]]:
    return [
        (mode, *point, *(seed[i] for seed in block.get("each", {mode: ()})[mode]))
        for mode in modes_of(block)
        for i, point in enumerate(points(block, mode, block[over]))
    ]


def _seed_columns(block: Mapping[str, Any], of: str = "seed") -> list[str]:
    """A column for each seed where they are kept one by one, in their order."""
    seeds = next(iter(block.get("each", {"": ()}).values()))
    return [f"{of}_{index + 1}" for index in range(len(seeds))]


def stress_table(stress: Stress | None) -> tuple[Table, ...]:
    """One agent gone for good, the area under the bursty curve, and every blackout, by mode; then its dark steps."""
    if stress is None:
        return ()
    modes, dark = modes_of(stress["blackout"]), stress["blackout"]
    digits = _digits(stress, dark)
    gone, bursty = stress["one_agent"], stress["bursty"]
    columns = [(gone["performance"], gone["ci95"]), (bursty["auc"], bursty["auc_ci95"])]
    columns += [
        ({m: dark["performance"][m][i] for m in modes}, {m: dark["ci95"][m][i] for m in modes})
        for i in range(len(dark["steps"]))
    ]
    rows = tuple(
        Row(MODE_NAMES[mode], tuple(interval_cell(values[mode], bounds[mode], digits) for values, bounds in columns))
        for mode in modes
    )
    head = ("lost observations become", "one agent gone for good", "in bursts, AUC", *map(_dark_for, dark["steps"]))
    at_full = f"{number(stress['full_sight']['performance'], digits)} with nothing lost"
    caption = f"{measure_name(stress).capitalize()} under observation loss not seen in training; {at_full}"
    return Table(caption, head, rows), _endured_table(dark), *_memory_table(stress)


def _endured_table(dark: Mapping[str, Any]) -> Table:
    rows = tuple(
        Row(MODE_NAMES[mode], tuple(Cell(steps, number(steps, 1)) for steps in dark["endured"][mode]))
        for mode in modes_of(dark)
    )
    head = ("lost observations become", *map(_dark_for, dark["steps"]))
    return Table("Dark steps per episode, on average; the rest is cut off by its end", head, rows, folded=True)


def _memory_table(stress: Stress) -> tuple[Table, ...]:
    if "memory" not in stress:
        return ()
    block, digits = stress["memory"], _digits(stress, stress["memory"])

    def row(i: int) -> tuple[Cell, ...]:
        values = [(block["auc"][i], block["auc_ci95"][i]), *zip(block["performance"][i], block["ci95"][i], strict=True)]
        return tuple(interval_cell(value, ends, digits) for value, ends in values)

    rows = tuple(
        Row(f"{steps}{', as trained' if steps == block['own'] else ''}", row(i))
        for i, steps in enumerate(block["history"])
    )
    head = ("steps of memory", "AUC", *(f"p_loss {probability(p)}" for p in block["p_loss"]))
    return (
        Table(f"{measure_name(stress).capitalize()} of the same weights, by length of memory", head, rows, folded=True),
    )


def _dark_for(steps: int) -> str:
    return f"dark for {probability(steps)} step{'s' if steps > 1 else ''}"
