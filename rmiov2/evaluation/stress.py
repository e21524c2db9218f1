"""A tuned team under loss that it never met in training: bursts, one agent gone for good, everybody dark for a while;
and one that completes with another memory than it was tuned for.

Rows for results/stress.parquet, their summary for metrics/stress.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from rmiov2.config import Evaluate, Stress
from rmiov2.envs.base import Env, facts_of
from rmiov2.evaluation import statistics
from rmiov2.evaluation.blackout import Blackout
from rmiov2.evaluation.episodes import Columns, Progress, Team, performances, play
from rmiov2.evaluation.modes import UNTUNED, modes_played
from rmiov2.evaluation.sweep import CURVE, Playable, Sweep, curve_of, label, rows_of
from rmiov2.seeding import derive
from rmiov2.types import Ints

BURSTY, GONE, DARK, MEMORY = "bursty", "one_agent", "blackout", "memory"
LEFT = 0.5  # share of what full sight earns that must be left for a team to have lasted
COLUMNS = (
    *("agent", "env", "seed", "mode", "pattern", "p_loss", "dark", "endured", "history", "episode", "won"),
    *("return", "length", "messages", "bytes", "measure"),
)


def stress(
    agent: Playable,
    remembering: Callable[[int], Playable],
    make_env: Callable[[int], Env],
    settings: Evaluate,
    stresses: Stress,
    name: str,
    seed: int,
    progress: Callable[[str], Progress] | None = None,
) -> tuple[Columns, dict[str, Any]]:
    """Play the agent's own mode and the controls under every such loss: the rows, and summarise(rows) with
    facts_of the games.

    settings: grid of p_loss, seed and controls, as evaluate has them. name and seed (of the training) name the rows.
    A blackout is laid into the usual length of an episode, the median with full sight; the rows with dark = 0 are those
    games. dark is how long it would last, endured how many steps of it the episode had. progress(label) is called for
    each loss and mode.

    remembering(steps) is the same agent whose world model is unrolled over so many steps. If it completes, it plays
    independent loss with each of stresses.history; elsewhere history is 0, the agent's own.
    """
    env = make_env(max(rows_of(settings), len(stresses.blackout)))
    try:
        trial = _Trial(Sweep(agent, env, settings), stresses)
        sight = trial.full_sight()
        usual_length = max(1, int(np.median(sight["length"])))
        parts = [(agent.own_mode, DARK, sight)]
        for mode in modes_stressed(agent.own_mode):
            for pattern, played in trial.losses(usual_length).items():
                shown = progress(f"{pattern}, {mode}") if progress else None
                parts.append((mode, pattern, played(mode, shown)))
        for steps in stresses.history if agent.own_mode == "completion" else ():
            shown = progress(f"{MEMORY}, {steps} steps") if progress else None
            parts.append((agent.own_mode, MEMORY, trial.remembered(remembering(steps), steps, shown)))
        rows = _labelled(parts, name, env, seed)
    finally:
        env.close()
    return rows, summarise(rows, settings.bootstrap) | facts_of(env, env.lost_episodes)


def modes_stressed(own: str) -> tuple[str, ...]:
    """The agent's own answer to a lost observation, and the controls."""
    return tuple(mode for mode in modes_played(own) if not mode.endswith(UNTUNED))


Played = Callable[[str, "Progress | None"], Columns]


class _Trial:
    """The team, its environment and its controls, and how many episodes of each loss they play."""

    def __init__(self, sweep: Sweep, stresses: Stress) -> None:
        self.sweep, self.env, self.stresses = sweep, sweep.env, stresses

    def full_sight(self) -> Columns:
        """Nothing lost."""
        return self._play(self._team(self.sweep.agent.own_mode), "independent", np.zeros(self.env.num_envs), "sight")

    def losses(self, usual_length: int) -> dict[str, Played]:
        """How each loss is played, by its name."""
        dark = partial(self._dark, usual_length=usual_length)
        return {BURSTY: self._bursty, GONE: self._gone, DARK: dark}

    def _bursty(self, mode: str, shown: Progress | None) -> Columns:
        return self._play(self._team(mode), BURSTY, self._rates(), BURSTY, shown)

    def _gone(self, mode: str, shown: Progress | None) -> Columns:
        return self._play(self._team(mode), GONE, np.ones(self.env.num_envs), GONE, shown)

    def remembered(self, agent: Playable, steps: int, shown: Progress | None) -> Columns:
        """Independent loss at every rate, with a memory of so many steps."""
        team = agent.team(self.env.num_envs, self.sweep.team_seed)
        played = self._play(team, "independent", self._rates(), MEMORY, shown)
        return {**played, "history": np.full_like(played["history"], steps)}

    def _dark(self, mode: str, shown: Progress | None, usual_length: int) -> Columns:
        groups = self._shared(len(self.stresses.blackout))
        steps = np.asarray(self.stresses.blackout, np.int64)
        lossy = Blackout(self.env, steps[groups], usual_length)
        nothing_else = np.zeros(self.env.num_envs)
        played = self._play(self._team(mode), "independent", nothing_else, DARK, shown, lossy, groups)
        rows, counted = np.unique(played["row"], return_counts=True)  # rising, as the groups are, so in their order
        endured = np.concatenate([lossy.endured[row][:n] for row, n in zip(rows, counted, strict=True)])
        return {**played, "dark": steps[played["group"]], "endured": endured}

    def _team(self, mode: str) -> Team:
        return self.sweep.team(mode, true_availability=False)

    def _rates(self) -> statistics.Values:
        """(B,) the rate of each row."""
        grid = np.asarray(self.sweep.settings.p_loss)
        return grid[self._shared(len(grid))]

    def _shared(self, levels: int) -> Ints:
        """(B,) which level each row plays, in shares as even as may be."""
        return np.arange(self.env.num_envs, dtype=np.int64) * levels // self.env.num_envs

    def _play(
        self, team: Team, pattern: str, rates: statistics.Values, games: str, shown: Progress | None = None,
        env: Env | None = None, groups: Ints | None = None,
    ) -> Columns:  # fmt: skip
        seed = derive(self.sweep.settings.seed, "stress", games)  # the same games for every mode
        episodes = self.stresses.episodes
        played = play(env or self.env, team, pattern, rates, episodes, seed, groups=groups, progress=shown)
        return {**played, **{name: np.zeros(len(played["won"]), np.int64) for name in ("dark", "endured", "history")}}


def _labelled(parts: Sequence[tuple[str, str, Columns]], agent: str, env: Env, seed: int) -> Columns:
    labelled = [
        label(played, seed, agent=agent, env=env.spec.name, mode=mode, pattern=pattern, measure=env.spec.measure)
        for mode, pattern, played in parts
    ]
    return {name: np.concatenate([columns[name] for columns in labelled]) for name in COLUMNS}


def summarise(rows: Columns, resamples: int) -> dict[str, Any]:
    """metrics/stress.json from the rows alone.

    blackout.endured: by mode and length, how many dark steps an episode had on average. blackout.lasts: see lasts.
    memory: what CURVE names over the rates, by history; absent where it was not played.
    """
    measure = str(rows["measure"][0])
    values, pattern, dark = performances(rows, measure), rows["pattern"], rows["dark"]
    sight = (pattern == DARK) & (dark == 0)
    modes = modes_stressed(str(rows["mode"][sight][0]))
    full, interval = values[sight], statistics.performance_interval

    def strata(loss: str, levels: Any, mode: str, of: statistics.Values = values) -> list[statistics.Values]:
        chosen = (pattern == loss) & (rows["mode"] == mode) & ~sight
        return [of[chosen & (levels == level)] for level in np.unique(levels[chosen])]

    grid = np.unique(rows["p_loss"][pattern == BURSTY])
    rates = {mode: [[found] for found in strata(BURSTY, rows["p_loss"], mode)] for mode in modes}
    bursty = {mode: curve_of(grid, found, measure, resamples) for mode, found in rates.items()}
    gone = {mode: strata(GONE, rows["p_loss"], mode)[0] for mode in modes}
    lengths, steps = {mode: strata(DARK, dark, mode) for mode in modes}, np.unique(dark[dark > 0]).tolist()
    endured = {mode: _means(strata(DARK, dark, mode, rows["endured"])) for mode in modes}
    means = {mode: _means(lengths[mode]) for mode in modes}
    bounds = {mode: [interval(v, measure, resamples) for v in lengths[mode]] for mode in modes}
    memory = {MEMORY: _memory(rows, values, resamples)} if (pattern == MEMORY).any() else {}
    return {
        "env": str(rows["env"][0]), "agent": str(rows["agent"][0]), "measure": measure, "episodes": len(full),
        "full_sight": {
            "performance": float(full.mean()), "ci95": list(interval(full, measure, resamples)),
            "usual_length": int(np.median(rows["length"][sight])),
        },
        BURSTY: {"p_loss": grid.tolist(), **{name: {m: bursty[m][name] for m in modes} for name in CURVE}},
        GONE: {
            "performance": {mode: float(found.mean()) for mode, found in gone.items()},
            "ci95": {mode: list(interval(found, measure, resamples)) for mode, found in gone.items()},
        },
        DARK: {
            "steps": steps, "endured": endured, "performance": means,
            "ci95": {mode: [list(pair) for pair in bounds[mode]] for mode in modes},
            "lasts": {mode: lasts(steps, means[mode], bounds[mode], float(full.mean())) for mode in modes},
        },
        **memory,
    }  # fmt: skip


def _memory(rows: Columns, values: statistics.Values, resamples: int) -> dict[str, Any]:
    """One curve over the rates for each history."""
    chosen = rows["pattern"] == MEMORY
    grid, histories = np.unique(rows["p_loss"][chosen]), np.unique(rows["history"][chosen])
    curves = []
    for steps in histories:
        own = chosen & (rows["history"] == steps)
        strata = [[values[own & (rows["p_loss"] == p)]] for p in grid]
        curves.append(curve_of(grid, strata, str(rows["measure"][0]), resamples))
    return {
        "history": histories.tolist(), "p_loss": grid.tolist(),
        **{name: [curve[name] for curve in curves] for name in CURVE},
    }  # fmt: skip


def lasts(
    steps: Sequence[int], performance: Sequence[float], bounds: Sequence[statistics.Interval], full: float
) -> dict[str, Any] | None:
    """How long a team lasts: {"steps", "undecided"}; None where full sight earns nothing of which LEFT could be left.

    steps: the longest of the rising steps up to which no performance fell below LEFT of full, 0 if there is none.
    undecided: those at which LEFT of full lies within the interval of the performance, full taken as it was measured.
    """
    if full <= 0:
        return None
    half = LEFT * full
    fell = next((i for i, left in enumerate(performance) if left < half), len(steps))
    undecided = [length for length, (lo, hi) in zip(steps, bounds, strict=True) if lo < half < hi]
    return {"steps": steps[fell - 1] if fell else 0, "undecided": undecided}


def _means(strata: Sequence[statistics.Values]) -> list[float]:
    return [float(values.mean()) for values in strata]
