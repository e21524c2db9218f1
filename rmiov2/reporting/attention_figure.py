"""At whom blind agents look in the observation fusion, along an episode and in a few of its steps (Appendix E.1)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from rmiov2.reporting.scene_figures import draw_mean, playing, scene_title
from rmiov2.reporting.style import CYCLE, FONT, INK, MUTED, Picture, canvas, label_ends, png, reference_line
from rmiov2.reporting.words import number
from rmiov2.types import UserError

Scene = Mapping[str, Any]
Weights = npt.NDArray[np.float64]
MOMENTS = 3
WRITTEN = 6  # agents up to which every weight of a map is written out
KINDS = {"seeing": ("one that sees", CYCLE[0]), "blind": ("another blind one", CYCLE[1]), "itself": ("itself", MUTED)}


def attention_picture(scene: Scene) -> Picture | None:
    """Mean attention that blind agents pay to seeing and to blind ones, and maps of a few steps; None without it."""
    if "attention" not in scene:
        return None
    weights, seen = np.asarray(scene["attention"], dtype=float), np.asarray(scene["seen"], dtype=bool)
    if weights.shape != (*seen.shape, seen.shape[1]):
        shapes = f"attention {weights.shape} and seen {seen.shape} do not fit"
        raise UserError(f"results/scene.json: {shapes}; write it anew with `dvc repro -f evaluate`")
    alive = playing(scene)
    mixed = np.flatnonzero((alive & ~seen).any(axis=1) & (alive & seen).any(axis=1))
    if not len(mixed):
        return None
    paid = {kind: _paid(weights, who) for kind, who in looked_at(seen, alive, mixed).items()}
    times = mixed[np.unique(np.linspace(0, len(mixed) - 1, min(MOMENTS, len(mixed))).round().astype(int))].tolist()
    means = {kind: float(np.nanmean(values)) for kind, values in paid.items() if np.isfinite(values).any()}
    caption = (
        "What the token that a blind agent’s state is drawn from is made of: its attention in the first layer of the"
        f" observation fusion, mean over the heads, in the steps in which others see ({scene_title(scene)})."
        f" {_told(means, seen.shape[1])} Below, rows look and columns are looked at, the blind ones in brackets; dead"
        " units count for no line."
    )
    data = {
        "moments": [{"step": t, "seen": scene["seen"][t], "attention": scene["attention"][t]} for t in times],
        "paid_by_blind_agents": {kind: [_or_none(v) for v in values] for kind, values in paid.items()},
    }
    image = _drawn(paid, weights, seen, times)
    alt = (
        "Line chart of the attention that blind agents pay to seeing and blind ones over the steps, and attention maps."
    )
    content = json.dumps(data, indent=1).encode()
    return Picture("attention", "Where the blind look", caption, alt, image, "attention.json", content)


def looked_at(seen: Any, alive: Any, mixed: Any) -> dict[str, npt.NDArray[np.bool_]]:
    """(T, N, N) by kind: which pairs (who looks, at whom) count, of blind lookers in the steps `mixed`."""
    agents = seen.shape[1]
    looking = np.zeros_like(seen)
    looking[mixed] = (alive & ~seen)[mixed]
    same = np.eye(agents, dtype=bool)
    pairs = looking[:, :, None] & alive[:, None, :]
    return {
        "seeing": pairs & seen[:, None, :] & ~same,
        "blind": pairs & ~seen[:, None, :] & ~same,
        "itself": pairs & same,
    }


def _paid(weights: Weights, who: npt.NDArray[np.bool_]) -> Weights:
    """(T,) mean weight of the pairs; NaN where a step has none."""
    count = who.sum(axis=(1, 2))
    total = np.where(who, weights, 0).sum(axis=(1, 2))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _told(means: Mapping[str, float], agents: int) -> str:
    said = ", ".join(f"{KINDS[kind][0]} {number(value)}" for kind, value in means.items())
    return f"Mean over those steps, for each: {said}; an even share would be {number(1 / agents)}."


def _or_none(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None


def _drawn(paid: Mapping[str, Weights], weights: Weights, seen: Any, times: list[int]) -> bytes:
    figure = canvas(height=4.9)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.35, 1))
    lines, maps = parts
    top = lines.add_subplot()
    ends = []
    for kind, values in paid.items():
        name, colour = KINDS[kind]
        steps = np.flatnonzero(np.isfinite(values))
        if len(steps):
            ends.append((draw_mean(top, steps, values[steps], colour), name, colour))
    top.set_xlim(-0.5, len(seen) - 0.5)
    top.set_ylim(-0.02, 1.04)
    top.set_xlabel("step")
    top.xaxis.set_major_locator(MaxNLocator(integer=True))
    top.set_title("attention of a blind agent to …")
    ends.append(reference_line(top, 1 / seen.shape[1], "even share"))
    label_ends(top, ends)
    for axes, t in zip(np.ravel(maps.subplots(1, MOMENTS, squeeze=False)), times, strict=False):
        _map(axes, weights[t], seen[t], t)
    for axes in maps.axes[len(times) :]:
        axes.remove()
    return png(figure)


def _map(axes: Axes, weights: Weights, seen: Any, t: int) -> None:
    agents = len(weights)
    shades = LinearSegmentedColormap.from_list("attention", ["#ffffff", CYCLE[0]])
    axes.imshow(weights, cmap=shades, vmin=0, vmax=1)
    names = [f"{agent + 1}" if seen[agent] else f"({agent + 1})" for agent in range(agents)]
    ticks = range(agents) if agents <= 12 else range(0, agents, 5)
    axes.set_xticks(ticks, [names[tick] for tick in ticks])
    axes.set_yticks(ticks, [names[tick] for tick in ticks])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set_title(f"step {t}")
    if agents <= WRITTEN:
        for (row, column), weight in np.ndenumerate(weights):
            colour = "white" if weight > 0.55 else INK
            axes.text(column, row, number(float(weight)), ha="center", va="center", fontsize=FONT - 2, color=colour)
