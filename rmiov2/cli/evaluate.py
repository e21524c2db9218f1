"""`rmiov2 evaluate`: what a trained team is worth, and what it says, while its observations get lost."""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmiov2.agents.base import Agent
from rmiov2.cli.games import game_for
from rmiov2.cli.team import trained
from rmiov2.config import Evaluate
from rmiov2.envs.base import Env, facts_of
from rmiov2.envs.observation_loss import read_pattern
from rmiov2.evaluation import statistics
from rmiov2.evaluation.episodes import Columns, performances
from rmiov2.evaluation.sweep import AVAILABILITIES, Playable, Sweep, rows_of
from rmiov2.execution.team import Team
from rmiov2.files import refuse_unwritable, write_json
from rmiov2.progress import bar
from rmiov2.types import UserError

CHOICES = ("greedy", "sampled")  # of actions
BOOTSTRAP = 2000  # resamples of an interval
COUNTED = ("messages", "bytes")


def run(options: argparse.Namespace) -> None:
    """Play options.episodes per p_loss and mode, print a table of each mode and write them as JSON.

    The first mode's table stands where it stood when there was but one, those of others in other_modes. All modes play
    the same games, those of the evaluate stage where settings and seed are the same.
    """
    _refuse(options)
    agent = trained(options.checkpoint)
    if options.true_availability and not agent.spec.discrete:
        raise UserError(
            f"--true-availability: got {agent.spec.name}, whose actions are continuous, expected discrete ones, which"
            " alone have a mask; leave it out"
        )
    modes, settings = options.mode or [agent.own_mode], _settings(options)
    for mode in modes:
        agent.team(1, options.seed, mode=mode)  # refuses what this agent cannot play, before a game is built
    with closing(game_for(agent, options.env, rows_of(settings), options.seed)) as env:
        player = Sampled(agent) if options.sampled else agent
        found = _play(player, env, settings, modes, options.true_availability)
    asked = {"checkpoint": str(options.checkpoint), "env": env.spec.name, "mode": modes[0], "seed": options.seed}
    asked |= {"pattern": options.pattern, "availability": AVAILABILITIES[options.true_availability]}
    asked |= {"actions": CHOICES[options.sampled]}
    measured = {"measure": env.spec.measure, "episodes": options.episodes, **found[modes[0]]}
    others = {"other_modes": {mode: found[mode] for mode in modes[1:]}}
    write_json(options.out, asked | measured | others | facts_of(env, env.lost_episodes))
    told = (", true mask" if options.true_availability else "") + (", sampled actions" if options.sampled else "")
    for mode in modes:
        print(f"{env.spec.name}, {mode}, {options.pattern} loss{told}, {options.episodes} episodes per p_loss")
        print("\n".join(_lines(found[mode], env.spec.measure)))
    print(f"result: {options.out.resolve()}")


@dataclass(frozen=True)
class Sampled:
    """An agent whose teams draw their actions, as others' published numbers may; see evaluation.sweep.Playable."""

    agent: Agent

    @property
    def own_mode(self) -> str:
        return self.agent.own_mode

    def team(self, num_envs: int, seed: int, mode: str | None = None, true_availability: bool = False) -> Team:
        return self.agent.team(num_envs, seed, mode, true_availability, greedy=False)


def _refuse(options: argparse.Namespace) -> None:
    """Raise UserError for what no evaluation can be made of: before the work, not after it."""
    if options.out.suffix != ".json":
        raise UserError(f"--out: got {options.out}, expected a name that ends in .json")
    if options.episodes < 2:
        raise UserError(f"--episodes: got {options.episodes}, expected 2 or more, as an interval needs two; play more")
    for option, values in (("--p-loss", options.p_loss), ("--mode", options.mode or [])):
        repeated = [value for value, times in Counter(values).items() if times > 1]
        if repeated:
            raise UserError(f"{option}: got {repeated[0]} more than once, expected each once; leave out the others")
    read_pattern(options.pattern)
    refuse_unwritable(options.out)


def _settings(options: argparse.Namespace) -> Evaluate:
    """What was asked, as a sweep takes it."""
    rates = sorted(options.p_loss)
    return Evaluate.model_construct(  # unchecked, since a grid from 0 to 1 is expected there, and here any rates are
        p_loss=tuple(rates), pattern=options.pattern, episodes=options.episodes, num_envs=len(rates) * options.games,
        seed=options.seed, bootstrap=BOOTSTRAP,
    )  # fmt: skip


def _play(agent: Playable, env: Env, settings: Evaluate, modes: list[str], true_availability: bool) -> dict[str, Any]:
    """What summary says of each mode."""
    sweep = Sweep(agent, env, settings)
    return {
        mode: summary(sweep.play(mode, true_availability, bar(f"{env.spec.name} {mode}")), env.spec.measure)
        for mode in modes
    }


def summary(played: Columns, measure: str) -> dict[str, Any]:
    """{"table": [a row by p_loss], "auc", "auc_ci95"}; the last two None unless the rates run from 0 to 1.

    Messages and bytes are means over the episodes of what a team sent per step, as reporting.run.costs has them.
    """
    grid, values = np.unique(played["p_loss"]), performances(played, measure)
    games = [values[played["p_loss"] == p] for p in grid]
    table = []
    for p, here in zip(grid.tolist(), games, strict=True):
        interval = statistics.performance_interval(here, measure, BOOTSTRAP)
        sent = {name: float((played[name] / played["length"])[played["p_loss"] == p].mean()) for name in COUNTED}
        row = {"p_loss": p, "performance": float(here.mean()), "ci95": list(interval), **sent}
        table.append(row | {"by_episode": here.tolist()})
    if grid[0] > 0 or grid[-1] < 1:
        return {"table": table, "auc": None, "auc_ci95": None}
    area = float(statistics.auc(grid, np.array([here.mean() for here in games])))
    interval = statistics.auc_interval(grid, [[here] for here in games], BOOTSTRAP)
    return {"table": table, "auc": area, "auc_ci95": list(interval)}


def _lines(found: dict[str, Any], measure: str) -> list[str]:
    """A summary as a reader takes it in."""
    lines = [f"{'p_loss':8}{measure:>11}  {'95 %':18}{'messages/step':>13}{'bytes/step':>12}"]
    for row in found["table"]:
        sent = f"{row['messages']:>13.2f}{row['bytes']:>12.0f}"
        lines.append(f"{row['p_loss']:<8g}{_measured(row['performance'], row['ci95'])}{sent}")
    if found["auc"] is not None:
        lines.append(f"{'AUC':8}{_measured(found['auc'], found['auc_ci95'])}".rstrip())
    return lines


def _measured(value: float, interval: list[float]) -> str:
    low, high = interval
    return f"{value:>11.3f}  {f'[{low:.3f}, {high:.3f}]':18}"
