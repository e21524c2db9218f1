"""A tuned team under loss that it never met in training: bursts, one agent gone for good, everybody dark for a while.

Rows for results/stress.parquet, their summary for metrics/stress.json.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rmiov2.config import Evaluate, Stress
from rmiov2.envs.base import Env
from rmiov2.evaluation import statistics
from rmiov2.evaluation.blackout import Blackout
from rmiov2.evaluation.episodes import Columns, Progress, Team, performances, play
from rmiov2.evaluation.modes import UNTUNED, modes_played
from rmiov2.evaluation.sweep import CURVE, Playable, Sweep, curve_of, label, rows_of
from rmiov2.seeding import derive
from rmiov2.types import Ints

BURSTY, GONE, DARK = "bursty", "one_agent", "blackout"
LEFT = 0.5  # share of what full sight earns that must be left for a team to have lasted
COLUMNS = (
    *("agent", "env", "seed", "mode", "pattern", "p_loss", "dark", "episode", "won", "return", "length"),
    *("messages", "bytes", "measure"),
)


def stress(
    agent: Playable,
    make_env: Callable[[int], Env],
    settings: Evaluate,
    stresses: Stress,
    name: str,
    seed: int,
    progress: Callable[[str], Progress] | None = None,
) -> tuple[Columns, dict[str, Any]]:
    """Play the agent's own mode and the controls under every such loss: the rows, and summarise(rows).

    settings: grid of p_loss, seed and controls, as evaluate has them. name and seed (of the training) name the rows.
    A blackout begins within the usual length of an episode, the median with full sight; the rows with dark = 0 are
    those games. progress(label) is called for each loss and mode.
    """
    env = make_env(max(rows_of(settings), len(stresses.blackout)))
    try:
        trial = _Trial(Sweep(agent, env, settings), stresses)
        sight = trial.full_sight()
        within = max(1, int(np.median(sight["length"])))
        parts = [(agent.own_mode, DARK, sight)]
        for mode in modes_stressed(agent.own_mode):
            for pattern, played in trial.losses(within).items():
                shown = progress(f"{pattern}, {mode}") if progress else None
                parts.append((mode, pattern, played(mode, shown)))
        rows = _labelled(parts, name, env, seed)
    finally:
        env.close()
    return rows, summarise(rows, settings.bootstrap)


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
        played = self._play(self._team(self.sweep.agent.own_mode), "independent", np.zeros(self.env.num_envs), "sight")
        return {**played, "dark": np.zeros(len(played["won"]), np.int64)}

    def losses(self, within: int) -> dict[str, Played]:
        """How each loss is played, by its name."""
        return {BURSTY: self._bursty, GONE: self._gone, DARK: lambda mode, shown: self._dark(mode, shown, within)}

    def _bursty(self, mode: str, shown: Progress | None) -> Columns:
        grid = np.asarray(self.sweep.settings.p_loss)
        rates = grid[self._shared(len(grid))]
        played = self._play(self._team(mode), BURSTY, rates, BURSTY, shown)
        return {**played, "dark": np.zeros(len(played["won"]), np.int64)}

    def _gone(self, mode: str, shown: Progress | None) -> Columns:
        played = self._play(self._team(mode), GONE, np.ones(self.env.num_envs), GONE, shown)
        return {**played, "dark": np.zeros(len(played["won"]), np.int64)}

    def _dark(self, mode: str, shown: Progress | None, within: int) -> Columns:
        groups = self._shared(len(self.stresses.blackout))
        steps = np.asarray(self.stresses.blackout, np.int64)
        lossy = Blackout(self.env, steps[groups], within)
        nothing_else = np.zeros(self.env.num_envs)
        played = self._play(self._team(mode), "independent", nothing_else, DARK, shown, lossy, groups)
        return {**played, "dark": steps[played["group"]]}

    def _team(self, mode: str) -> Team:
        return self.sweep.team(mode, true_availability=False)

    def _shared(self, levels: int) -> Ints:
        """(B,) which level each row plays, in shares as even as may be."""
        return np.arange(self.env.num_envs, dtype=np.int64) * levels // self.env.num_envs

    def _play(
        self, team: Team, pattern: str, rates: statistics.Values, games: str, shown: Progress | None = None,
        env: Env | None = None, groups: Ints | None = None,
    ) -> Columns:  # fmt: skip
        seed = derive(self.sweep.settings.seed, "stress", games)  # the same games for every mode
        episodes = self.stresses.episodes
        return play(env or self.env, team, pattern, rates, episodes, seed, groups=groups, progress=shown)


def _labelled(parts: Sequence[tuple[str, str, Columns]], agent: str, env: Env, seed: int) -> Columns:
    labelled = [
        label(played, seed, agent=agent, env=env.spec.name, mode=mode, pattern=pattern, measure=env.spec.measure)
        for mode, pattern, played in parts
    ]
    return {name: np.concatenate([columns[name] for columns in labelled]) for name in COLUMNS}


def summarise(rows: Columns, resamples: int) -> dict[str, Any]:
    """metrics/stress.json from the rows alone.

    blackout.lasts: by mode, the longest blackout of the grid up to which at least LEFT of the performance with full
    sight was left, 0 if there is none; null where full sight earns nothing that could be left.
    """
    measure = str(rows["measure"][0])
    values, pattern, dark = performances(rows, measure), rows["pattern"], rows["dark"]
    sight = (pattern == DARK) & (dark == 0)
    modes = modes_stressed(str(rows["mode"][sight][0]))
    full, interval = values[sight], statistics.performance_interval

    def strata(loss: str, levels: Any, mode: str) -> list[statistics.Values]:
        chosen = (pattern == loss) & (rows["mode"] == mode) & ~sight
        return [values[chosen & (levels == level)] for level in np.unique(levels[chosen])]

    grid = np.unique(rows["p_loss"][pattern == BURSTY])
    rates = {mode: [[found] for found in strata(BURSTY, rows["p_loss"], mode)] for mode in modes}
    bursty = {mode: curve_of(grid, found, measure, resamples) for mode, found in rates.items()}
    gone = {mode: strata(GONE, rows["p_loss"], mode)[0] for mode in modes}
    lengths = {mode: strata(DARK, dark, mode) for mode in modes}
    steps, means = np.unique(dark[dark > 0]).tolist(), {m: [float(v.mean()) for v in lengths[m]] for m in modes}
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
            "steps": steps, "performance": means,
            "ci95": {mode: [list(interval(v, measure, resamples)) for v in lengths[mode]] for mode in modes},
            "lasts": {mode: lasts(steps, means[mode], float(full.mean())) for mode in modes},
        },
    }  # fmt: skip


def lasts(steps: Sequence[int], performance: Sequence[float], full: float) -> int | None:
    """The longest of the rising steps up to which no performance fell below LEFT of full; see summarise."""
    if full <= 0:
        return None
    lasted = 0
    for length, left in zip(steps, performance, strict=True):
        if left < LEFT * full:
            break
        lasted = length
    return lasted
