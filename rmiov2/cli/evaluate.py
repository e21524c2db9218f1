"""`rmiov2 evaluate`: what a trained team is worth while its observations get lost."""

from __future__ import annotations

import argparse

import numpy as np

import rmiov2
from rmiov2.cli.team import trained
from rmiov2.envs.base import facts_of
from rmiov2.evaluation.episodes import performances, play
from rmiov2.evaluation.statistics import performance_interval
from rmiov2.files import refuse_unwritable, write_json
from rmiov2.progress import bar
from rmiov2.types import UserError


def run(options: argparse.Namespace) -> None:
    """Play options.episodes per p_loss, print a table and write it as JSON, with what each episode came to."""
    if options.out.suffix != ".json":
        raise UserError(f"--out: got {options.out}, expected a name that ends in .json")
    refuse_unwritable(options.out)
    agent = trained(options.checkpoint)
    name, mode = options.env or agent.spec.name, options.mode or agent.own_mode
    env = rmiov2.make_env(name, num_envs=len(options.p_loss) * min(options.episodes, options.games), seed=options.seed)
    rates = np.repeat(np.asarray(options.p_loss), env.num_envs // len(options.p_loss))
    team = agent.team(env.num_envs, options.seed, mode=mode)
    played = play(env, team, "independent", rates, options.episodes, options.seed, progress=bar(f"{name} {mode}"))
    env.close()
    values = performances(played, env.spec.measure)
    table = []
    for p in options.p_loss:
        here = values[played["p_loss"] == p]
        low, high = performance_interval(here, env.spec.measure, 2000)
        table.append({"p_loss": p, "performance": float(here.mean()), "ci95": [low, high], "by_episode": here.tolist()})
    asked = {"checkpoint": str(options.checkpoint), "env": name, "mode": mode, "seed": options.seed}
    found = {"measure": env.spec.measure, "episodes": options.episodes, "table": table}
    write_json(options.out, asked | found | facts_of(env, env.lost_episodes))
    for row in table:
        low, high = row["ci95"]
        print(f"p_loss {row['p_loss']:<4g} {env.spec.measure} {row['performance']:.3f}  [{low:.3f}, {high:.3f}]")
    print(f"result: {options.out.resolve()}")
