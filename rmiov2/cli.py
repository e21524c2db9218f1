"""The `rmiov2` command. What is heavy is imported by the command that needs it, so that --help answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmiov2.program import exit_code, positive, seed
from rmiov2.types import UserError

if TYPE_CHECKING:
    from rmiov2.config import Config
    from rmiov2.types import Floats, Ints

MODES = ("completion", "zeros", "last_seen")
CHECKED_ROWS = 4
GRID = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0, or 2 and one sentence on standard error, or 130 when stopped by Ctrl-C."""
    options = parser().parse_args(arguments)
    return exit_code("rmiov2", lambda: options.run(options), "nothing was written")


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(
        prog="rmiov2", description="Teams that go on playing when some of them are blind. Train one with `make run`."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    _command(commands, "envs", show_envs, "list the environments, what each needs and what it is")

    check = _command(commands, "check-env", check_env, "test that an environment keeps the contract, also one of yours")
    check.add_argument("name", metavar="NAME", help="suite/map, for instance smax/3m or pettingzoo/my_game")

    evaluate = _command(commands, "evaluate", evaluate_team, "play a trained team while its observations get lost")
    _team_options(evaluate)
    evaluate.add_argument(
        "--p-loss", type=_probability, nargs="+", default=GRID, metavar="P", help="default: 0 to 1 by 0.2"
    )
    evaluate.add_argument("--episodes", type=positive, default=100, help="per value of p-loss (default: %(default)s)")
    evaluate.add_argument(
        "--games",
        type=positive,
        default=32,
        help="side by side per value of p-loss, fewer on smac (default: %(default)s)",
    )
    evaluate.add_argument("--mode", choices=MODES, help="what replaces lost observations (default: the team's own)")
    evaluate.add_argument("--out", type=Path, default=Path("evaluation.json"), help="default: %(default)s")

    watch = _command(commands, "watch", watch_team, "record one episode as a moving picture")
    _team_options(watch)
    watch.add_argument("--p-loss", type=_probability, default=0.6, metavar="P", help="default: %(default)s")
    watch.add_argument("--out", type=Path, default=Path("watch.gif"), help="default: %(default)s")
    return top


def _command(commands: Any, name: str, run: Any, purpose: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=purpose, description=f"{purpose.capitalize()}.")
    made.set_defaults(run=run)
    return made


def _team_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint, or the folder that holds it"
    )
    command.add_argument("--env", metavar="NAME", help="suite/map (default: the one it was trained on)")
    command.add_argument("--seed", type=seed, default=0, help="of the games and the losses (default: %(default)s)")


def _probability(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a probability from 0 to 1")
    return value


def show_envs(options: argparse.Namespace) -> None:
    """Print the table of environments."""
    from rmiov2.envs.registry import list_envs

    rows = list_envs()
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for row in rows:
        print(f"{row.name:{widths[0]}}  {row.needs:{widths[1]}}  {row.notes}")


def check_env(options: argparse.Namespace) -> None:
    """Run the contract against one environment."""
    from rmiov2.envs.check import check_env as check
    from rmiov2.envs.registry import make_env

    print(f"checking {options.name}, a minute or two", flush=True)
    env = make_env(options.name, num_envs=CHECKED_ROWS)
    try:
        for line in check(env):
            print(line)
    finally:
        env.close()
    print(f"result: {options.name} keeps the contract")


def evaluate_team(options: argparse.Namespace) -> None:
    """Play options.episodes per p_loss, print a table and write it as JSON, with what each episode came to."""
    import numpy as np

    import rmiov2
    from rmiov2.envs.base import facts_of
    from rmiov2.evaluation.episodes import performances, play
    from rmiov2.evaluation.statistics import performance_interval
    from rmiov2.files import refuse_unwritable, write_json
    from rmiov2.progress import bar

    if options.out.suffix != ".json":
        raise UserError(f"--out: got {options.out}, expected a name that ends in .json")
    refuse_unwritable(options.out)
    agent = rmiov2.load(options.checkpoint)
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


def watch_team(options: argparse.Namespace) -> None:
    """Record one episode and draw it as a GIF."""
    import rmiov2
    from rmiov2.evaluation.scene import record_scene
    from rmiov2.reporting.scene.animation import refuse_other_pictures, write_animation

    refuse_other_pictures(options.out)
    agent = rmiov2.load(options.checkpoint)
    name = options.env or agent.spec.name
    print(f"playing one episode of {name} at p_loss = {options.p_loss:g}", flush=True)
    env = rmiov2.make_env(name, num_envs=1, seed=options.seed)
    team = agent.team(1, options.seed)
    scene = record_scene(env, team, options.p_loss, options.seed, _trend(agent.config))
    env.close()
    print(f"drawing {len(scene['seen'])} steps", flush=True)
    write_animation(scene, options.out)
    print(f"result: {options.out.resolve()}")


def _trend(config: Config) -> Any:
    import numpy as np

    from rmiov2.world_model.reward_trend import reward_trend

    def trend(rew: Floats) -> tuple[Floats, Ints]:
        return reward_trend(rew, config.reward_trend, float(np.var(rew)))

    return trend


if __name__ == "__main__":
    sys.exit(main())
