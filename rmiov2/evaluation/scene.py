"""One episode told step by step: the truth, who saw it, and, of a team that completes, what the blind believed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from rmiov2.envs.base import Env
from rmiov2.envs.observation_loss import ObservationLoss
from rmiov2.envs.wrapper import Wrapper
from rmiov2.evaluation.episodes import Team, Turn, turns
from rmiov2.evaluation.insight import Insight
from rmiov2.seeding import derive
from rmiov2.types import Actions, Bools, Floats, Ints, Step

RewardTrend = Callable[[Floats], tuple[Floats, Ints]]  # rewards (L,) -> trend (L,), half-widths (L,)
Look = Callable[[Floats, Bools, Actions], Insight]  # obs (L, N, O), seen (L, N), act (L, ...) of an episode
SERIES = 6  # columns of the observation that are told
SAMPLES = 16  # of z, from which the spread of a reconstruction is told


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


@runtime_checkable
class Named(Protocol):
    """An environment that knows what the columns of its observations are."""

    def obs_names(self) -> list[list[str]]:
        """Of each agent, as many as its observation is wide."""


class Filmed(Wrapper[Env]):
    """An environment that keeps where the units of row 0 stood at every row."""

    def __init__(self, env: Env) -> None:
        super().__init__(env)
        self.frames: list[Any] = []

    def _before(self, seed: int | None) -> None:
        self.frames.clear()

    def _shown(self, step: Step) -> Step:
        if isinstance(self.env, Mapped):
            self.frames.append(self.env.units(0))
        return step


class Noted:
    """A team whose last choice can be read, before the game made it legal."""

    def __init__(self, team: Believer) -> None:
        self.team, self.messages, self.bytes = team, team.messages, team.bytes
        self.chosen: Actions = np.zeros(0, np.int64)

    def act(
        self, obs: Floats, seen: Bools | None = None, avail: Bools | None = None, first: Bools | None = None
    ) -> Actions:
        """What the team chooses."""
        self.chosen = self.team.act(obs, seen=seen, avail=avail, first=first)
        return self.chosen


@dataclass(frozen=True)
class Played:
    """Row 0's first whole episode of L steps: truth, completed (acted on) (L, N, O), act as chosen, messages."""

    turns: list[Turn]
    completed: Floats
    act: Actions
    messages: list[int]

    @property
    def truth(self) -> Floats:
        return np.stack([turn.step.obs[0] for turn in self.turns])

    @property
    def seen(self) -> Bools:
        return np.stack([turn.step.seen[0] for turn in self.turns])


def record_scene(
    env: Env,
    team: Believer,
    p_loss: float,
    seed: int,
    reward_trend: RewardTrend,
    pattern: str = "independent",
    look: Look | None = None,
) -> dict[str, Any]:
    """results/scene.json: the first episode of row 0, one entry per step that was acted in; JSON-ready, deterministic.

    error is the sum over an agent's columns of SmoothL1 between what it acted on and the truth: 0 for one that saw.
    map is null and kind "series" where the environment has no map. Without completion nobody believes, errs, talks, or
    learns a reward trend, which is a world model's target: those parts are left out. look says what the world model of
    a team that completes made of the episode: then there is attention (T, N, N), and the spread of what was believed,
    the deviation over SAMPLES of z.
    """
    filmed = Filmed(env)
    played = _play_row(ObservationLoss(filmed, pattern, p_loss), team, derive(seed, "scene"))
    truth, seen, frames = played.truth, played.seen, filmed.frames[-len(played.turns) - 1 : -1]
    rewards = np.asarray([turn.after.rew[0] for turn in played.turns], dtype=np.float32)
    completes = team.mode == "completion"
    believed = played.completed if completes else None
    insight = look(truth, seen, played.act) if completes and look is not None else None
    attention = None if insight is None else insight.attention()
    samples = None if insight is None else insight.samples(SAMPLES, derive(seed, "samples"))
    return {
        "env": env.spec.name,
        "measure": env.spec.measure,
        "p_loss": float(p_loss),
        "seed": int(seed),
        "kind": "smax" if isinstance(env, Mapped) else "series",
        "agents": env.spec.num_agents,
        "seen": seen.tolist(),
        **(_beliefs(played) if completes else {}),
        **({} if attention is None else {"attention": _rounded(attention)}),
        "won": bool(played.turns[-1].after.won[0]),
        "map": _map(env, frames, believed, truth, samples) if isinstance(env, Mapped) else None,
        "series": _series(env, truth, believed, samples),
        "reward": {"raw": _rounded(rewards), **(told_trend(*reward_trend(rewards)) if completes else {})},
    }


def told_trend(trend: Floats, half_width: Ints) -> dict[str, Any]:
    """A reward trend as the scene has it."""
    return {"trend": _rounded(trend), "half_width": np.asarray(half_width).tolist()}


def _beliefs(played: Played) -> dict[str, Any]:
    error = smooth_l1(played.completed, played.truth).sum(axis=-1)
    return {"error": _rounded(error), "messages": played.messages}


def _play_row(env: Env, team: Believer, seed: int) -> Played:
    noted = Noted(team)
    kept: list[tuple[Turn, Floats, Actions, int]] = []
    for turn in turns(env, noted, seed):
        if turn.step.lost[0]:  # with this turn begins another
            kept.clear()
            continue
        kept.append((turn, team.completed[0].copy(), np.array(noted.chosen[0]), int(team.messages[0])))
        if turn.after.done[0] and not turn.after.lost[0]:
            break
    played, completed, act, messages = zip(*kept, strict=True)
    return Played(list(played), np.stack(completed), np.stack(act), list(messages))


def smooth_l1(got: Floats, truth: Floats) -> Floats:
    """Elementwise: half the square below a distance of 1, the distance less a half above; eq. (8)."""
    distance = np.abs(got - truth)
    return cast(Floats, np.where(distance < 1, 0.5 * distance**2, distance - 0.5))


def _map(
    env: Mapped, frames: list[Any], believed: Floats | None, truth: Floats, samples: Floats | None
) -> dict[str, Any]:
    width, height = env.map_size
    return {
        "width": float(width),
        "height": float(height),
        "units": [_standing(units) for units in frames],
        **({} if believed is None else {"believed": _views(env, believed)}),
        **({} if samples is None else {"spread": _spread(env, samples)}),
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


def _spread(env: Mapped, samples: Floats) -> dict[str, Any]:
    """[T][N][U] over samples (S, T, N, O): share of them in which the unit is there, its mean place and health in
    those, and their deviations; that of the place is the root of the mean squared distance."""
    decoded = env.decode_units(samples)
    there = np.asarray(decoded["visible"], dtype=np.float64)
    weight = there / np.maximum(there.sum(axis=0), 1)
    place, health = (np.asarray(decoded[name], dtype=np.float64) for name in ("positions", "health"))
    middle, mean = (weight[..., None] * place).sum(axis=0), (weight * health).sum(axis=0)
    away = ((place - middle) ** 2).sum(axis=-1)
    return {
        "there": _rounded(there.mean(axis=0)),
        "x": _rounded(middle[..., 0]),
        "y": _rounded(middle[..., 1]),
        "place": _rounded(np.sqrt((weight * away).sum(axis=0))),
        "health": _rounded(mean),
        "health_deviation": _rounded(np.sqrt((weight * (health - mean) ** 2).sum(axis=0))),
    }


def _series(env: Env, truth: Floats, believed: Floats | None, samples: Floats | None) -> dict[str, Any]:
    """The columns, among those that every agent has, that move most over the episode; names of every agent's."""
    common = min(env.spec.obs_widths)
    movement = truth[..., :common].std(axis=0).mean(axis=0)
    chosen = np.sort(np.argsort(-movement, kind="stable")[:SERIES])
    numbered = [[f"obs {column}" for column in range(common)]] * env.spec.num_agents
    names = env.obs_names() if isinstance(env, Named) else numbered
    return {
        "names": [[own[column] for column in chosen] for own in names],
        "truth": _rounded(truth[..., chosen]),
        **({} if believed is None else {"reconstruction": _rounded(believed[..., chosen])}),
        **({} if samples is None else {"spread": _rounded(samples[..., chosen].std(axis=0))}),
    }


def _rounded(values: Any) -> Any:
    """Nested lists with five decimals: enough for a picture, and a file of half the size."""
    return np.round(np.asarray(values, dtype=np.float64), 5).tolist()
