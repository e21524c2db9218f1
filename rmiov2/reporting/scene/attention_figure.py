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

from rmiov2.reporting.scene.battle_map import Scene
from rmiov2.reporting.scene.figures import SERIES_STEPS, draw_mean, evenly, playing, scene_title
from rmiov2.reporting.style import CYCLE, FONT, INK, MUTED, Picture, canvas, grid, label_ends, png
from rmiov2.reporting.words import number
from rmiov2.types import UserError

Weights = npt.NDArray[np.float64]
MOMENTS = 3
WRITTEN, FINE = 6, 4  # agents up to which every weight of a map is written out, and up to which two decimals fit
KINDS = {
    "seeing": ("agents that see", CYCLE[0]),
    "blind": ("other blind agents", CYCLE[1]),
    "itself": ("itself", MUTED),
}


def attention_picture(scene: Scene) -> Picture | None:
    """What a blind agent pays to all that see and to all that are blind, and maps of a few steps; None without it."""
    if "attention" not in scene:
        return None
    weights, seen = _given(scene)
    mixed, paid, even = _shares(scene, weights, seen)
    if not len(mixed):
        return None
    times = evenly(mixed.tolist(), MOMENTS)
    caption = (
        "Attention of blind agents in the first layer of the observation fusion, averaged over the heads, in the steps"
        f" of one episode in which others see ({scene_title(scene)})."
        f" {_told(paid, even)} In the maps below, rows are the agents that attend and columns the agents attended to,"
        " blind ones in brackets; dead units are not counted in the lines."
    )
    data = {
        "moments": [{"step": t, "seen": scene["seen"][t], "attention": scene["attention"][t]} for t in times],
        "paid_by_a_blind_agent": {kind: [_or_none(v) for v in values] for kind, values in paid.items()},
        "even_share": {kind: [_or_none(v) for v in values] for kind, values in even.items()},
    }
    image = _drawn(paid, even["seeing"], weights, seen, times)
    alt = (
        "Line chart of the attention that a blind agent pays to all agents that see and to all other blind agents over"
        " the steps, and attention maps."
    )
    content = json.dumps(data, indent=1).encode()
    return Picture("attention", "Where blind agents look", caption, alt, image, content, kind="json")


def above_even(scene: Scene) -> float | None:
    """How much more a blind agent pays to all that see than an even share, mean over the steps in which somebody does;
    None without attention or such steps.
    """
    if "attention" not in scene:
        return None
    mixed, paid, even = _shares(scene, *_given(scene))
    return float(np.nanmean(paid["seeing"] - even["seeing"])) if len(mixed) else None


def _given(scene: Scene) -> tuple[Weights, npt.NDArray[np.bool_]]:
    weights, seen = np.asarray(scene["attention"], dtype=float), np.asarray(scene["seen"], dtype=bool)
    if weights.shape != (*seen.shape, seen.shape[1]):
        shapes = f"attention {weights.shape} and seen {seen.shape} do not fit"
        raise UserError(f"results/scene.json: {shapes}; write it anew with `dvc repro -f -s evaluate`")
    return weights, seen


def _shares(
    scene: Scene, weights: Weights, seen: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.intp], dict[str, Weights], dict[str, Weights]]:
    """The steps in which some are blind and others see; by kind what is paid there, and what an even share would be."""
    alive = playing(scene)
    mixed = np.flatnonzero((alive & ~seen).any(axis=1) & (alive & seen).any(axis=1))
    pairs = looked_at(seen, alive, mixed)
    even = np.full_like(weights, 1 / seen.shape[1])
    paid, level = ({kind: _paid(given, who) for kind, who in pairs.items()} for given in (weights, even))
    return mixed, paid, level


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
    """(T,) what a looker pays to all of its pairs together, mean over the lookers; NaN where a step has no pair."""
    lookers = who.any(axis=2).sum(axis=1)
    total = np.where(who, weights, 0).sum(axis=(1, 2))
    return np.where(lookers > 0, total / np.maximum(lookers, 1), np.nan)


def _told(paid: Mapping[str, Weights], even: Mapping[str, Weights]) -> str:
    """Both over the steps that have such a pair, so that the share is that of the same agents."""
    said = ", ".join(
        f"{KINDS[kind][0]} {number(float(np.nanmean(values)))} ({number(float(np.nanmean(even[kind])))})"
        for kind, values in paid.items()
        if np.isfinite(values).any()
    )
    return (
        "Total paid to each group, averaged over the steps that have one, so that the three need not add up to 1; in"
        f" brackets, what an even share would give the group: {said}."
    )


def _or_none(value: float) -> float | None:
    return round(float(value), 5) if np.isfinite(value) else None


def _drawn(paid: Mapping[str, Weights], even: Weights, weights: Weights, seen: Any, times: list[int]) -> bytes:
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
    shared = np.flatnonzero(np.isfinite(even))
    level = even[shared] if len(shared) <= SERIES_STEPS else np.full(len(shared), even[shared].mean())
    top.plot(shared, level, color=CYCLE[0], lw=1, ls=(0, (1, 2)))
    ends.append((float(level[-1]), "even share of those", CYCLE[0]))
    label_ends(top, ends)
    for axes, t in zip(grid(maps, len(times), MOMENTS), times, strict=True):
        _map(axes, weights[t], seen[t], t)
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
            said = number(float(weight), 2 if agents <= FINE else 1)
            axes.text(column, row, said, ha="center", va="center", fontsize=FONT - 2, color=colour)
