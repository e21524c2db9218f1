"""One moment of an episode, kept with a seed so that variants can be laid side by side (figure 13).

Of a battle it is a step, of a robot a stretch of steps of one agent.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rmiov2.reporting.battle_map import Scene, believes, believing, distances
from rmiov2.reporting.scene_figures import playing, stretch

TOLD = ("env", "measure", "p_loss", "seed", "agents", "won")
COLUMNS = 2  # of a robot's observation


def telling_moment(scene: Scene) -> dict[str, Any] | None:
    """The moment of a scene; agent and step say whose belief it is, and where in the episode it begins.

    None where nothing was reconstructed. See battle_moment and series_moment.
    """
    found = series_moment(scene) if scene.get("map") is None else battle_moment(scene)
    return found and {name: scene[name] for name in TOLD} | found


def battle_moment(scene: Scene) -> dict[str, Any] | None:
    """The step at which a blind agent believes the most living units in sight, the first of such, as a scene of one.

    None where no blind agent ever believes anybody to be in sight.
    """
    every = [(t, agent) for t in range(len(scene["seen"])) for agent in range(scene["agents"])]
    minded = [place for place in every if believes(scene) and believing(scene, *place)]
    if not minded:
        return None
    t, agent = max(minded, key=lambda place: len(distances(scene, *place)))
    drawn = scene["map"]
    kept = {name: drawn[name] for name in ("width", "height")} | {n: [drawn[n][t]] for n in ("units", "believed")}
    if "spread" in drawn:
        kept["spread"] = {name: [values[t]] for name, values in drawn["spread"].items()}
    return {"agent": agent, "step": t, "seen": [scene["seen"][t]], "map": kept}


def series_moment(scene: Scene) -> dict[str, Any] | None:
    """The stretch that the page draws, its first COLUMNS columns: truth, reconstruction (T, COLUMNS), blind (T,).

    None where its agent was never blind in it.
    """
    series, blind = scene["series"], playing(scene) & ~np.asarray(scene["seen"], dtype=bool)
    agent, window = stretch(blind)
    if "reconstruction" not in series or not blind[window, agent].any():
        return None
    cut = {name: np.asarray(series[name])[window, agent, :COLUMNS].tolist() for name in ("truth", "reconstruction")}
    told = {"names": series["names"][:COLUMNS], "blind": blind[window, agent].tolist()}
    return {"agent": agent, "step": window.start, "series": told | cut}


def off(moment: Scene) -> float:
    """How far from the truth on average: living units on the map, or columns of the observation while blind."""
    if "map" in moment:
        return float(np.mean(distances(moment, 0, moment["agent"])))
    series = moment["series"]
    apart = np.abs(np.subtract(series["truth"], series["reconstruction"]))
    return float(apart[np.asarray(series["blind"])].mean())
