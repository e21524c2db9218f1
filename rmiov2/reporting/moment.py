"""One moment of a battle, kept with a seed so that variants can be laid side by side (figure 13)."""

from __future__ import annotations

from typing import Any

from rmiov2.reporting.battle_map import Scene, believes, believing, distances

TOLD = ("env", "measure", "p_loss", "seed", "agents", "won")


def telling_moment(scene: Scene) -> dict[str, Any] | None:
    """The step at which a blind agent believes the most living units in sight, the first of such, as a scene of one.

    agent and step say whose belief and which step of the episode it is. None where there is no map, and where no blind
    agent ever believes anybody to be in sight.
    """
    if scene.get("map") is None or not believes(scene):
        return None
    every = [(t, agent) for t in range(len(scene["seen"])) for agent in range(scene["agents"])]
    minded = [place for place in every if believing(scene, *place)]
    if not minded:
        return None
    t, agent = max(minded, key=lambda place: len(distances(scene, *place)))
    drawn, told = scene["map"], {name: scene[name] for name in TOLD}
    kept = {name: drawn[name] for name in ("width", "height")} | {n: [drawn[n][t]] for n in ("units", "believed")}
    if "spread" in drawn:
        kept["spread"] = {name: [values[t]] for name, values in drawn["spread"].items()}
    return told | {"agent": agent, "step": t, "seen": [scene["seen"][t]], "map": kept}
