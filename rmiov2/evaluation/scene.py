"""One episode told step by step: the truth, who saw it, and, of a team that completes, what the blind believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from rmiov2.envs.base import Env
from rmiov2.envs.observation_loss import ObservationLoss
from rmiov2.evaluation.episodes import Team, Turn, turns
from rmiov2.seeding import derive
from rmiov2.types import Actions, Floats, Ints, Step

RewardTrend = Callable[[Floats], tuple[Floats, Ints]]  # rewards (L,) -> trend (L,), half-widths (L,)
SERIES = 6  # columns of the observation that are told


class Believer(Team, Protocol):
    """A team that says what stands in for lost observations, and what it acted on."""

    mode: str
    completed: Floats  # (B, N, O)


@runtime_checkable
class Mapped(Protocol):
    """An environment whose observations are about units on a map (smax)."""

    map_size: tuple[float, float]

    def units(self, row: int) -> Any:
        """Positions (U, 2), health, team, alive (U,)."""

    def decode_units(self, obs: Floats) -> dict[str, Any]:
        """obs (..., N, O) to positions (..., N, U, 2), health and visible (..., N, U)."""


class Filmed(Env):
    """An environment that keeps where the units of row 0 stood at every row."""

    def __init__(self, env: Env) -> None:
        self.env, self.spec, self.num_envs = env, env.spec, env.num_envs
        self.frames: list[Any] = []

    def reset(self, seed: int | None = None) -> Step:
        """Start anew, with an empty film."""
        self.frames.clear()
        return self._film(self.env.reset(seed))

    def step(self, act: Actions) -> Step:
        """Play act and film what came of it."""
        return self._film(self.env.step(act))

    def close(self) -> None:
        """Close the environment inside."""
        self.env.close()

    def _film(self, step: Step) -> Step:
        if isinstance(self.env, Mapped):
            self.frames.append(self.env.units(0))
        return step


def record_scene(
    env: Env, team: Believer, p_loss: float, seed: int, reward_trend: RewardTrend, pattern: str = "independent"
) -> dict[str, Any]:
    """results/scene.json: the first episode of row 0, one entry per step that was acted in; JSON-ready, deterministic.

    error is the sum over an agent's columns of SmoothL1 between what it acted on and the truth: 0 for one that saw.
    map is null and kind "series" where the environment has no map. Without completion nobody believes, errs, talks, or
    learns a reward trend, which is a world model's target: those parts are left out.
    """
    filmed = Filmed(env)
    played, completed, messages = _play_row(ObservationLoss(filmed, pattern, p_loss), team, derive(seed, "scene"))
    truth = np.stack([turn.step.obs[0] for turn in played])
    rewards = np.asarray([turn.after.rew[0] for turn in played], dtype=np.float32)
    completes = team.mode == "completion"
    believed = completed if completes else None
    return {
        "env": env.spec.name,
        "measure": env.spec.measure,
        "p_loss": float(p_loss),
        "seed": int(seed),
        "kind": "smax" if isinstance(env, Mapped) else "series",
        "agents": env.spec.num_agents,
        "seen": [turn.step.seen[0].tolist() for turn in played],
        **({"error": _rounded(smooth_l1(completed, truth).sum(axis=-1)), "messages": messages} if completes else {}),
        "won": bool(played[-1].after.won[0]),
        "map": _map(env, filmed.frames[:-1], believed, truth) if isinstance(env, Mapped) else None,
        "series": _series(env, truth, believed),
        "reward": {"raw": _rounded(rewards), **(_trend(*reward_trend(rewards)) if completes else {})},
    }


def _trend(trend: Floats, half_width: Ints) -> dict[str, Any]:
    return {"trend": _rounded(trend), "half_width": np.asarray(half_width).tolist()}


def _play_row(env: Env, team: Believer, seed: int) -> tuple[list[Turn], Floats, list[int]]:
    """The turns of row 0's first whole episode, what its agents acted on (L, N, O), and the messages so far (L,)."""
    played: list[Turn] = []
    completed: list[Floats] = []
    messages: list[int] = []
    for turn in turns(env, team, seed):
        if turn.step.lost[0]:  # with this turn begins another
            played, completed, messages = [], [], []
            continue
        played.append(turn)
        completed.append(team.completed[0].copy())
        messages.append(int(team.messages[0]))
        if turn.after.done[0] and not turn.after.lost[0]:
            break
    return played, np.stack(completed), messages


def smooth_l1(got: Floats, truth: Floats) -> Floats:
    """Elementwise: half the square below a distance of 1, the distance less a half above; eq. (8)."""
    distance = np.abs(got - truth)
    return cast(Floats, np.where(distance < 1, 0.5 * distance**2, distance - 0.5))


def _map(env: Mapped, frames: list[Any], believed: Floats | None, truth: Floats) -> dict[str, Any]:
    width, height = env.map_size
    return {
        "width": float(width),
        "height": float(height),
        "units": [_standing(units) for units in frames],
        **({} if believed is None else {"believed": _views(env, believed)}),
        "true_view": _views(env, truth),
    }


def _standing(units: Any) -> list[dict[str, Any]]:
    columns = (_rounded(units.positions), _rounded(units.health), units.team.tolist(), units.alive.tolist())
    return [
        {"x": x, "y": y, "health": health, "team": team, "alive": alive}
        for (x, y), health, team, alive in zip(*columns, strict=True)
    ]


def _views(env: Mapped, obs: Floats) -> list[list[list[dict[str, Any]]]]:
    """[T][N][U] what each agent's observation says of every unit."""
    decoded = env.decode_units(obs)
    positions, health = _rounded(decoded["positions"]), _rounded(decoded["health"])
    visible = np.asarray(decoded["visible"]).tolist()
    steps = zip(positions, health, visible, strict=True)
    return [[_view(*units) for units in zip(*agents, strict=True)] for agents in steps]


def _view(positions: Any, health: Any, visible: Any) -> list[dict[str, Any]]:
    units = zip(positions, health, visible, strict=True)
    return [{"x": x, "y": y, "health": h, "visible": seen} for (x, y), h, seen in units]


def _series(env: Env, truth: Floats, believed: Floats | None) -> dict[str, Any]:
    """The columns, among those that every agent has, that move most over the episode."""
    common = min(env.spec.obs_widths)
    movement = truth[..., :common].std(axis=0).mean(axis=0)
    chosen = np.sort(np.argsort(-movement, kind="stable")[:SERIES])
    return {
        "names": [f"obs[{column}]" for column in chosen],
        "truth": _rounded(truth[..., chosen]),
        **({} if believed is None else {"reconstruction": _rounded(believed[..., chosen])}),
    }


def _rounded(values: Any) -> Any:
    """Nested lists with five decimals: enough for a picture, and a file of half the size."""
    return np.round(np.asarray(values, dtype=np.float64), 5).tolist()
