"""One moment of an episode, kept with a seed so that variants can be laid side by side (figure 13).

Of a battle it is a step, of a robot a stretch of steps of one agent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rmiov2.reporting.scene.battle_map import Scene, believing, distances
from rmiov2.reporting.scene.figures import blinded, stretch

TOLD = ("env", "measure", "p_loss", "seed", "agents", "won")
Values = npt.NDArray[Any]


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
    minded = [place for place in every if believing(scene, *place)]
    if not minded:
        return None
    t, agent = max(minded, key=lambda place: len(distances(scene, *place)))
    drawn = scene["map"]
    kept = {name: drawn[name] for name in ("width", "height")} | {n: [drawn[n][t]] for n in ("units", "believed")}
    if "spread" in drawn:
        kept["spread"] = {name: [values[t]] for name, values in drawn["spread"].items()}
    return {"agent": agent, "step": t, "seen": [scene["seen"][t]], "map": kept}


def series_moment(scene: Scene) -> dict[str, Any] | None:
    """The stretch that the page draws, of the first agent that is blind in it: names of the C columns that are told,
    truth, reconstruction (T, C), blind (T,). None where nobody is blind in it."""
    series, blind = scene["series"], blinded(scene)
    window = stretch(len(blind))
    if "reconstruction" not in series or not series["names"][0] or not blind[window].any():
        return None
    agent = int(np.argmax(blind[window].any(axis=0)))
    cut = {name: np.asarray(series[name])[window, agent].tolist() for name in ("truth", "reconstruction")}
    told = {"names": series["names"][agent], "blind": blind[window, agent].tolist()}
    return {"agent": agent, "step": window.start, "series": told | cut}


def column(moment: Scene, name: str) -> tuple[Values, Values, Values]:
    """Truth and reconstruction (T,) of a column of a series, and where its agent was blind."""
    series = moment["series"]
    truth, guess = (
        np.asarray(series[what], dtype=float)[:, series["names"].index(name)] for what in ("truth", "reconstruction")
    )
    return truth, guess, np.asarray(series["blind"], dtype=bool)
