"""Every mode over the grid of p_loss: rows for results/episodes.parquet, their summary for metrics/evaluate.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rmiov2.config import Evaluate
from rmiov2.envs.base import Env, facts_of
from rmiov2.evaluation import controls, statistics
from rmiov2.evaluation.episodes import Columns, Progress, Team, performances, play
from rmiov2.evaluation.modes import OPEN_LOOP, UNTUNED, modes_played, own_mode
from rmiov2.files import replace_file
from rmiov2.seeding import derive
from rmiov2.types import Floats, UserError

RANDOM = "random"  # rows at p_loss = 0, told what is available: the same for both availabilities, so played once
AVAILABILITIES = ("lost", "true")  # of blind agents; lost is the headline measure
COLUMNS = (
    *("agent", "env", "seed", "mode", "pattern", "p_loss", "episode", "won", "return", "length", "messages", "bytes"),
    *("availability", "measure"),
)


CURVE = ("performance", "ci95", "auc", "auc_ci95")
Strata = list[list[statistics.Values]]  # [rate][seed] the performances of the episodes


class Playable(Protocol):
    """An agent that can be sent to play: see rmiov2.agents.base.Agent."""

    @property
    def own_mode(self) -> str: ...

    def team(self, num_envs: int, seed: int, mode: str | None = ..., true_availability: bool = ...) -> Team: ...


def evaluate(
    tuned: Playable,
    untuned: Playable,
    make_env: Callable[[int], Env],
    settings: Evaluate,
    agent: str,
    seed: int,
    progress: Callable[[str], Progress] | None = None,
) -> tuple[Columns, dict[str, Any]]:
    """Play every mode over settings.p_loss: the rows, and summarise(rows) with facts_of the games.

    tuned, untuned: the agent after masked fine-tuning and before; the second plays the agent's own mode alone, the
    first everything else. make_env(num_envs) makes one environment, in which all rates play side by side. agent and
    seed (of the training) name the rows. All modes play the same seeds, settings.seed; progress(label) is called for
    each mode.
    """
    env = make_env(rows_of(settings))
    try:
        parts = _play_all(Sweep(tuned, env, settings, untuned), progress)
        rows = _label(parts, agent, env, seed, settings.pattern)
    finally:
        env.close()
    return rows, summarise(rows, settings.bootstrap) | facts_of(env, env.lost_episodes)


def evaluate_own(
    agent: Playable, make_env: Callable[[int], Env], settings: Evaluate, progress: Progress | None = None
) -> dict[str, Any]:
    """Its own mode alone, on the games that evaluate plays: {"performance", "ci95": [by p_loss], "auc", "auc_ci95"},
    with facts_of the games.
    """
    measure, games, facts = play_own(agent, make_env, settings, progress)
    curve = curve_of(np.asarray(settings.p_loss), [[values] for values in games], measure, settings.bootstrap)
    return curve | facts


def play_own(
    agent: Playable, make_env: Callable[[int], Env], settings: Evaluate, progress: Progress | None = None
) -> tuple[str, list[statistics.Values], dict[str, Any]]:
    """The measure, by p_loss the performances of the episodes, and facts_of the games: the same for every agent."""
    env = make_env(rows_of(settings))
    try:
        played = Sweep(agent, env, settings).play(agent.own_mode, False, progress)
    finally:
        env.close()
    values = performances(played, env.spec.measure)
    games = [values[played["p_loss"] == p] for p in settings.p_loss]
    return env.spec.measure, games, facts_of(env, env.lost_episodes)


def rows_of(settings: Evaluate) -> int:
    """Rows of the wide batch: near settings.num_envs, equal shares for the rates, never more than episodes."""
    rates = len(settings.p_loss)
    return rates * min(settings.episodes, max(1, settings.num_envs // rates))


Part = tuple[str, str, Columns]  # mode, availability, episodes


class Sweep:
    """The agent, the environment and the settings that every mode shares, and the agent as it was before tuning."""

    def __init__(self, agent: Playable, env: Env, settings: Evaluate, untuned: Playable | None = None) -> None:
        self.agent, self.untuned, self.env, self.settings = agent, untuned or agent, env, settings
        self.rates = np.repeat(np.asarray(settings.p_loss), env.num_envs // len(settings.p_loss))
        self.team_seed = derive(settings.seed, "team")

    @cached_property
    def tables(self) -> Floats:
        """The candidates of the open-loop control, read off the policy with full sight."""
        team = self.agent.team(self.env.num_envs, self.team_seed)
        return controls.candidates_of(self.env, team, self.settings.episodes, self.settings.seed)

    def team(self, mode: str, true_availability: bool) -> Team:
        """Who plays this mode."""
        if mode == OPEN_LOOP:
            settings = self.settings
            return controls.fit_open_loop(self.env, self.tables, settings.episodes, settings.seed, true_availability)
        agent, rule = (self.untuned if mode.endswith(UNTUNED) else self.agent), mode.removesuffix(UNTUNED)
        return agent.team(self.env.num_envs, self.team_seed, mode=rule, true_availability=true_availability)

    def play(self, mode: str, true_availability: bool, progress: Progress | None) -> Columns:
        """All rates side by side."""
        return play(
            self.env, self.team(mode, true_availability), self.settings.pattern, self.rates, self.settings.episodes,
            self.settings.seed, true_availability=true_availability, progress=progress,
        )  # fmt: skip


def _play_all(sweep: Sweep, progress: Callable[[str], Progress] | None) -> list[Part]:
    parts = []
    for availability in AVAILABILITIES if sweep.env.spec.discrete else AVAILABILITIES[:1]:
        for mode in modes_played(sweep.agent.own_mode):
            shown = progress(f"{mode}, availability {availability}") if progress else None
            parts.append((mode, availability, sweep.play(mode, availability == "true", shown)))
    rand = controls.play_random(sweep.env, sweep.settings.episodes, sweep.settings.seed)
    return [*parts, (RANDOM, AVAILABILITIES[0], rand)]


def _label(parts: list[Part], agent: str, env: Env, seed: int, pattern: str) -> Columns:
    names = {"agent": agent, "env": env.spec.name, "pattern": pattern, "measure": env.spec.measure}
    labelled = [label(played, seed, **names, mode=mode, availability=given) for mode, given, played in parts]
    return {name: np.concatenate([columns[name] for columns in labelled]) for name in COLUMNS}


def label(played: Columns, seed: int, **names: str) -> Columns:
    """The episodes with a column for the seed and for each name, the same in every row."""
    n = len(played["won"])
    columns = {name: np.full(n, value, dtype=object) for name, value in names.items()}
    return {**played, **columns, "seed": np.full(n, seed, dtype=np.int64)}


def summarise(rows: Columns, resamples: int) -> dict[str, Any]:
    """metrics/evaluate.json from the rows alone; rows of several seeds (same agent, same env) count equally by seed.

    auc is normalised to 0..1 in p_loss and stays in the unit of the performance. Raises UserError for rows of more than
    one agent, environment, measure or pattern, and where a mode was not played at every rate.
    """
    _only(rows, "pattern")
    uniform = rows["mode"] == RANDOM
    random = float(performances(_where(rows, uniform), _only(rows, "measure")).mean())
    modes = modes_played(own_mode(rows["mode"]))
    lost, true = (~uniform & (rows["availability"] == availability) for availability in AVAILABILITIES)
    summary = _summarise(_where(rows, lost), modes, random, resamples)
    if true.any():
        summary["true_availability"] = _summarise(_where(rows, true), modes, random, resamples)
    return summary


def _summarise(rows: Columns, modes: tuple[str, ...], random: float, resamples: int) -> dict[str, Any]:
    measure = _only(rows, "measure")
    grid = np.unique(rows["p_loss"][rows["mode"] == modes[0]])
    strata = {mode: _strata(_where(rows, rows["mode"] == mode), grid, measure) for mode in modes}
    curves = {mode: curve_of(grid, curve, measure, resamples) for mode, curve in strata.items()}
    return {
        "env": _only(rows, "env"),
        "agent": _only(rows, "agent"),
        "measure": measure,
        "episodes": sum(len(values) for values in strata[modes[0]][0]),
        "p_loss": grid.tolist(),
        **{name: {mode: curve[name] for mode, curve in curves.items()} for name in CURVE},
        "random": random,
    }


def curve_of(grid: statistics.Values, strata: Strata, measure: str, resamples: int) -> dict[str, Any]:
    """What CURVE names, of one mode."""
    performance = [_mean(seeds) for seeds in strata]
    interval = statistics.performance_interval
    return {
        "performance": performance,
        "ci95": [list(interval(np.concatenate(seeds), measure, resamples)) for seeds in strata],
        "auc": float(statistics.auc(grid, np.asarray(performance))),
        "auc_ci95": list(statistics.auc_interval(grid, strata, resamples)),
    }


def _strata(rows: Columns, grid: statistics.Values, measure: str) -> Strata:
    """[rate][seed] the performances of the episodes; raises UserError where a rate of the grid was not played."""
    values = performances(rows, measure)
    strata = []
    for p in grid:
        at_rate = rows["p_loss"] == p
        seeds = [values[at_rate & (rows["seed"] == seed)] for seed in np.unique(rows["seed"])]
        if not seeds or not all(len(episodes) for episodes in seeds):
            raise UserError(f"no episode of some mode at p_loss = {p}, expected every mode and seed at every rate")
        strata.append(seeds)
    return strata


def _mean(seeds: list[statistics.Values]) -> float:
    return float(np.mean([episodes.mean() for episodes in seeds]))


def _where(rows: Columns, chosen: Any) -> Columns:
    return {name: values[chosen] for name, values in rows.items()}


def _only(rows: Columns, name: str) -> str:
    found = sorted(set(rows[name]))
    if len(found) != 1:
        raise UserError(f"{name}: got {', '.join(found) or 'no rows'}, expected rows of exactly one")
    return str(found[0])


def write_rows(rows: Columns, path: Path, names: Sequence[str] = COLUMNS) -> None:
    """Write results/episodes.parquet atomically: columns as in COLUMNS, or other rows with theirs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({name: rows[name].tolist() if rows[name].dtype == object else rows[name] for name in names})
    with replace_file(path) as handle:
        pq.write_table(table, handle, compression="zstd")


def read_rows(path: Path) -> Columns:
    """What write_rows wrote; raises UserError if the file or a column is missing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise UserError(f"no episodes at {path}; write them with the evaluate stage")
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is not a Parquet file ({error}); write it anew with the evaluate stage") from error
    absent = [name for name in COLUMNS if name not in table.column_names]
    if absent:
        raise UserError(f"{path} lacks {', '.join(absent)}; write it anew with the evaluate stage")
    return {name: table[name].to_numpy(zero_copy_only=False) for name in COLUMNS}
