"""Four moments of an evaluated battle, and what one blind agent believed of it, how surely (figure 13)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from rmiov2.reporting.scene.battle_map import (
    Scene,
    believed_in_sight,
    believes,
    believing,
    distances,
    draw_moment,
    frame_of,
    grown,
    map_legend,
    shape_of,
    spread_of,
)
from rmiov2.reporting.scene.figures import blinded, evenly, scene_title
from rmiov2.reporting.style import Picture, canvas, grid, png
from rmiov2.reporting.words import number

MOMENTS = 4
IN_A_ROW = (4, 2)  # maps, on wide pages and on phones
Panel = tuple[Scene, int, int | None, str]  # a scene, its step, the blind agent whose belief is shown, a title


def map_picture(scene: Scene) -> Picture | None:
    """Four moments of a battle, with what one blind agent believes if it does; None where there is no map."""
    if scene.get("map") is None:
        return None
    agent, times = moments(scene)
    panels = [(scene, t, agent, f"step {t}") for t in times]
    wide, narrow = (maps(panels, columns) for columns in IN_A_ROW)
    told = _told(scene, agent, times)
    steps = ", ".join(map(str, times))
    caption = f"Steps {steps} of one battle ({scene_title(scene)}), each map zoomed in on the living units. {told}"
    alt = f"Small maps of allies and enemies with health bars. {told}"
    data = json.dumps({"agent": agent, "moments": [_moment(scene, t, agent) for t in times]}, indent=1).encode()
    title = "What a blind agent believes" if believes(scene) else "Blind in battle"
    return Picture("scene_map", title, caption, alt, wide, data, narrow, kind="json")


def moments(scene: Scene) -> tuple[int | None, list[int]]:
    """The agent most often blind with somebody in mind, and up to MOMENTS such steps spread over the episode.

    Where no blind agent ever believes anybody to be in sight, the agent most often blind; None where nobody ever was.
    """
    steps, agents = range(len(scene["seen"])), range(scene["agents"])
    blind = blinded(scene)
    minded = [[t for t in steps if believing(scene, t, agent)] for agent in agents]
    candidates = minded if any(minded) else [np.flatnonzero(blind[:, agent]).tolist() for agent in agents]
    agent = max(agents, key=lambda a: (len(candidates[a]), -a))
    if not candidates[agent]:
        return None, evenly(steps, MOMENTS)
    return agent, evenly(candidates[agent], MOMENTS)


def _told(scene: Scene, agent: int | None, times: list[int]) -> str:
    """What the maps show, in a sentence or two."""
    if agent is None:
        return "No agent was blind in this episode."
    blind = f"Agent {agent + 1} (heavy ring) is blind in all of them"
    if not believes(scene):
        return f"{blind}."
    far = _distances(scene, agent, times)
    if not far:
        return f"{blind} and believes no unit to be in sight."
    mean, largest = number(float(np.mean(far))), number(max(far))
    return (
        f"{blind}. Hollow marks show where it believes the units to be, itself included, and thin lines tie them to "
        f"where they are: {mean} away on average, {largest} at most, on a map {scene['map']['width']:g} wide. Bars"
        f" above are health, hollow bars below the health that it believes.{_unsure(scene, agent, times)}"
    )


def maps(panels: Sequence[Panel], columns: int) -> bytes:
    """A map for each panel, at most `columns` in a row, each as near as the living allow; one legend for all."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    frames = [frame_of(scene, [t], agent) for scene, t, agent, _ in panels]
    shape = float(np.median([shape_of(frame) for frame in frames]))
    width = 10.6 if columns > 2 else 5.2
    figure = canvas(width, rows * (shape * (width / columns - 0.15) + 0.35) + (0.4 if columns > 2 else 0.65))
    drawn = grid(figure, len(panels), columns)
    for axes, (scene, t, agent, title), frame in zip(drawn, panels, frames, strict=True):
        limits = grown(frame, shape)
        axes.set_xlim(*limits[0])
        axes.set_ylim(*limits[1])
        draw_moment(axes, scene, t, agent)
        axes.set_title(title)
    map_legend(figure, panels[0][0], columns=6 if columns > 2 else 3)
    figure.canvas.draw()  # the first layout does not know yet how equal scales shape the maps
    return png(figure)


def _moment(scene: Scene, t: int, agent: int | None) -> dict[str, Any]:
    believed = scene["map"]["believed"][t][agent] if agent is not None and believes(scene) else None
    spread = spread_of(scene, t, agent) if believed is not None and agent is not None else None
    drawn = {"step": t, "seen": scene["seen"][t], "units": scene["map"]["units"][t], "believed": believed}
    return drawn | ({} if spread is None else {"spread": spread})


def _unsure(scene: Scene, agent: int, times: list[int]) -> str:
    """How far draws of the latent state lie apart, in a sentence; nothing where none were kept."""
    told = [
        (spread[index]["place"], spread[index]["health_deviation"])
        for t in times
        if (spread := spread_of(scene, t, agent)) is not None
        for index, _, _ in believed_in_sight(scene, t, agent)
    ]
    if not told:
        return ""
    place, health = np.mean(told, axis=0)
    return (
        " Discs and the whiskers of hollow health bars show the deviation over draws of the latent state, on average"
        f" {number(float(place))} and {number(float(health))} of full health."
    )


def _distances(scene: Scene, agent: int, times: list[int]) -> list[float]:
    return [distance for t in times for distance in distances(scene, t, agent)]
