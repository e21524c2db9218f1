"""A moment of a battle drawn on its map: units, health, who is blind, and what one blind agent believes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from rmiov2.reporting.style import ALLY, BLIND, ENEMY, FAINT, FONT, MUTED

SCALE = 5  # units of the map
MARGIN = 2.0  # of them, about whoever is shown
Scene = Mapping[str, Any]
Unit = Mapping[str, Any]
Limits = tuple[tuple[float, float], tuple[float, float]]


def draw_moment(axes: Axes, scene: Scene, t: int, focus: int | None, size: float = 9.0) -> None:
    """Draw step t; focus is the blind agent whose belief is shown, hollow marks tied to the units meant."""
    units, blind = scene["map"]["units"][t], blind_units(scene, t)
    if focus is not None and believes(scene):
        _draw_belief(axes, scene, t, focus, size)
    for index, unit in enumerate(units):
        _draw_unit(axes, unit, size)
        if index in blind:
            _draw_blindness(axes, unit, size, heavy=focus is not None and index == ally_indices(units)[focus])
    _draw_scale(axes)
    bare(axes)


def believes(scene: Scene) -> bool:
    """Whether the scene says what blind agents believed: that of a team without completion does not."""
    return "believed" in scene["map"]


def spread_of(scene: Scene, t: int, agent: int) -> list[dict[str, float]] | None:
    """By unit, what draws of the latent state say: there, x, y, place, health, health_deviation; None if not kept."""
    kept = scene["map"].get("spread")
    if kept is None:
        return None
    columns = {name: values[t][agent] for name, values in kept.items()}
    return [dict(zip(columns, unit, strict=True)) for unit in zip(*columns.values(), strict=True)]


def ally_indices(units: list[Unit]) -> list[int]:
    """Which units are the agents, in the order of the agents."""
    return [index for index, unit in enumerate(units) if unit["team"] == 0]


def blind_units(scene: Scene, t: int) -> list[int]:
    """The living units whose agent did not see at step t."""
    units = scene["map"]["units"][t]
    agents = enumerate(ally_indices(units)[: scene["agents"]])
    return [unit for agent, unit in agents if not scene["seen"][t][agent] and units[unit]["alive"]]


def believing(scene: Scene, t: int, agent: int) -> bool:
    """Whether this agent is alive, blind, and believes another living unit to be in sight at step t."""
    own = ally_indices(scene["map"]["units"][t])[agent]
    if not believes(scene) or own not in blind_units(scene, t):
        return False
    return any(index != own for index, _, _ in believed_in_sight(scene, t, agent))


def believed_in_sight(scene: Scene, t: int, agent: int) -> list[tuple[int, Unit, Unit]]:
    """The living units that the agent believes to be in sight, itself too: which one, the unit, what is believed."""
    both = zip(scene["map"]["units"][t], scene["map"]["believed"][t][agent], strict=True)
    return [(index, unit, belief) for index, (unit, belief) in enumerate(both) if belief["visible"] and unit["alive"]]


def distances(scene: Scene, t: int, agent: int) -> list[float]:
    """How far from where they are the agent believes the units to be that it believes in sight."""
    seen = believed_in_sight(scene, t, agent)
    return [float(np.hypot(unit["x"] - belief["x"], unit["y"] - belief["y"])) for _, unit, belief in seen]


def frame_of(scene: Scene, times: list[int], focus: int | None = None) -> Limits:
    """The piece of the map, x and y limits, that holds every living unit at these steps; never a narrow slit.

    With focus, it holds what that agent believes as well, as far as that lies on the map.
    """
    drawn = scene["map"]
    shown = [unit for t in times for unit in drawn["units"][t] if unit["alive"]]
    if focus is not None and believes(scene):
        shown += [belief for t in times for belief in drawn["believed"][t][focus] if belief["visible"]]
    size = float(drawn["width"]), float(drawn["height"])
    if not shown:
        return (0.0, size[0]), (0.0, size[1])
    places = np.clip([[unit["x"], unit["y"]] for unit in shown], 0, size)
    middle, half = (places.max(0) + places.min(0)) / 2, np.ptp(places, axis=0) / 2 + MARGIN
    half = np.maximum(half, max(4.0, 0.6 * float(half.max())))
    (left, low), (right, high) = (middle - half).tolist(), (middle + half).tolist()
    return (left, right), (low, high)


def grown(limits: Limits, shape: float) -> Limits:
    """The smallest piece about the same middle that holds it and has that height over width."""
    (left, right), (low, high) = limits
    width, height = max(right - left, (high - low) / shape), max(high - low, (right - left) * shape)
    x, y = (left + right) / 2, (low + high) / 2
    return (x - width / 2, x + width / 2), (y - height / 2, y + height / 2)


def shape_of(limits: Limits) -> float:
    """Height over width of that piece."""
    (left, right), (low, high) = limits
    return (high - low) / (right - left)


def bare(axes: Axes) -> None:
    """A map needs no ticks: only a thin frame, and equal scales."""
    axes.set_aspect("equal")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=FAINT, linewidth=1)


def _draw_scale(axes: Axes) -> None:
    """A bar of SCALE units of the map in the lower left corner, as every panel has a zoom of its own."""
    (left, right), low = axes.get_xlim(), axes.get_ylim()[0]
    x, y = left + 0.04 * (right - left), low + 0.05 * (right - left)
    axes.plot([x, x + SCALE], [y, y], color=MUTED, lw=1.6, solid_capstyle="butt", zorder=1)
    axes.annotate(
        f"{SCALE} units", (x, y), (0, 2), textcoords="offset points", color=MUTED, fontsize=FONT - 2.5, zorder=1
    )


def map_legend(figure: Figure, scene: Scene, columns: int = 3) -> None:
    """What the marks of the scene mean, below all maps."""
    marks = (
        ("ally", "o", ALLY, ALLY, 8.0),
        ("enemy", "s", ENEMY, ENEMY, 7.0),
        ("blind", "o", "none", BLIND, 11.0),
        ("dead", "x", MUTED, MUTED, 5.6),
        ("believed ally", "o", "white", ALLY, 8.0),
        ("believed enemy", "s", "white", ENEMY, 7.0),
    )
    handles = [
        Line2D([], [], ls="", marker=shape, mfc=face, mec=edge, mew=1.3, ms=points, label=label)
        for label, shape, face, edge, points in (marks if believes(scene) else marks[:4])
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, columnspacing=1.6)


def _draw_unit(axes: Axes, unit: Unit, size: float) -> None:
    place = (unit["x"], unit["y"])
    if not unit["alive"]:
        axes.plot(*place, "x", color=MUTED, ms=0.55 * size, mew=1, alpha=0.6, zorder=2)
        return
    marker, colour = ("o", ALLY) if unit["team"] == 0 else ("s", ENEMY)
    axes.plot(*place, marker, color=colour, ms=size if marker == "o" else 0.9 * size, mec="white", mew=0.8, zorder=4)
    _draw_health(axes, place, float(unit["health"]), colour)


def _bar(axes: Axes, place: tuple[float, float], above: bool) -> tuple[float, float, float, float]:
    """Left, low, width, height of a bar above or below a mark; the limits of the axes must stand already."""
    span = float(np.ptp(axes.get_xlim()))
    width, height = 0.07 * span, 0.012 * span
    return place[0] - width / 2, place[1] + (0.045 * span if above else -0.045 * span - height), width, height


def _draw_health(axes: Axes, place: tuple[float, float], health: float, colour: str) -> None:
    left, low, width, height = _bar(axes, place, above=True)
    axes.add_patch(Rectangle((left, low), width, height, fc=FAINT, ec="none", zorder=5))
    axes.add_patch(Rectangle((left, low), width * _share(health), height, fc=colour, ec="none", zorder=6))


def _draw_believed_health(
    axes: Axes, place: tuple[float, float], health: float, colour: str, spread: Mapping[str, float] | None
) -> None:
    """A hollow bar below the mark, filled up to the health believed; a whisker spans the deviation about its mean."""
    left, low, width, height = _bar(axes, place, above=False)
    axes.add_patch(Rectangle((left, low), width, height, fc="white", ec=colour, lw=0.6, zorder=5))
    axes.add_patch(Rectangle((left, low), width * _share(health), height, fc=colour, ec="none", alpha=0.45, zorder=6))
    if spread is not None:
        ends = [spread["health"] + sign * spread["health_deviation"] for sign in (-1, 1)]
        x = [left + width * _share(end) for end in ends]
        axes.plot(x, [low + height / 2] * 2, color=colour, lw=1.1, solid_capstyle="butt", zorder=7)


def _share(health: float) -> float:
    return min(max(health, 0.0), 1.0)


def _draw_blindness(axes: Axes, unit: Unit, size: float, heavy: bool) -> None:
    axes.plot(
        unit["x"], unit["y"], "o", ms=1.65 * size, mfc="none", mec=BLIND, mew=1.9 if heavy else 1.0,
        alpha=1 if heavy else 0.75, zorder=3,
    )  # fmt: skip


def _draw_belief(axes: Axes, scene: Scene, t: int, focus: int, size: float) -> None:
    """Hollow marks where the agent believes the units to be, itself included, each tied to where the unit is.

    With spread, a disc about the mean of what draws of the latent state say, as wide as they lie apart.
    """
    spread = spread_of(scene, t, focus)
    for index, unit, belief in believed_in_sight(scene, t, focus):
        marker, colour = ("o", ALLY) if unit["team"] == 0 else ("s", ENEMY)
        unsure = None if spread is None else spread[index]
        if unsure is not None:
            middle = (unsure["x"], unsure["y"])
            axes.add_patch(Circle(middle, unsure["place"], fc=colour, ec="none", alpha=0.16, zorder=2))
        axes.plot([unit["x"], belief["x"]], [unit["y"], belief["y"]], color=colour, lw=0.9, zorder=2.5)
        axes.plot(belief["x"], belief["y"], marker, ms=0.95 * size, mfc="white", mec=colour, mew=1.3, zorder=3.5)
        _draw_believed_health(axes, (belief["x"], belief["y"]), float(belief["health"]), colour, unsure)
