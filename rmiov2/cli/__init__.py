"""The `rmiov2` command: its options; what a command does lies in the module of its name."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rmiov2.program import exit_code, positive, seed

# As rmiov2.execution has them, which is slow to import.
MODES = ("completion", "zeros", "last_seen")
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
    top.add_argument(
        "--version",
        action=_Version,
        help="say which version this is, which PyTorch, and its vector instructions: others make other teams",
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    _command(commands, "envs", "list the environments, what each needs and what it is")

    check = _command(commands, "check-env", "test that an environment keeps the contract, also one of yours")
    check.add_argument("name", metavar="NAME", help="suite/map, for instance smax/3m or pettingzoo/my_game")

    _evaluate_options(_command(commands, "evaluate", "play a trained team while its observations get lost"))

    watch = _command(commands, "watch", "record one episode as a moving picture")
    _team_options(watch)
    watch.add_argument("--p-loss", type=_probability, default=0.6, metavar="P", help="default: %(default)s")
    watch.add_argument("--mode", choices=MODES, help="what replaces lost observations (default: the team's own)")
    _play_options(watch)
    watch.add_argument("--out", type=Path, default=Path("watch.gif"), help="default: %(default)s")
    return top


class _Version(argparse.Action):
    """What decides which team a seed gives; asked of torch only when a user asks for it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        import torch

        capability = torch.backends.cpu.get_cpu_capability()
        print(f"rmiov2 {version('rmiov2')}, torch {torch.__version__}, CPU capability {capability}")
        parser.exit()


def _evaluate_options(evaluate: argparse.ArgumentParser) -> None:
    _team_options(evaluate)
    evaluate.add_argument(
        "--p-loss", type=_probability, nargs="+", default=GRID, metavar="P", help="default: 0 to 1 by 0.2"
    )
    evaluate.add_argument("--episodes", type=positive, default=100, help="per value of p-loss (default: %(default)s)")
    evaluate.add_argument(
        "--games",
        type=positive,
        default=32,
        help="side by side per value of p-loss; say fewer on smac (default: %(default)s)",
    )
    evaluate.add_argument(
        "--mode",
        choices=MODES,
        action="append",
        help="what replaces lost observations; give it again for a table of another (default: the team's own)",
    )
    _play_options(evaluate)
    evaluate.add_argument(
        "--true-availability", action="store_true", help="blind agents keep the true mask of what they may do"
    )
    evaluate.add_argument("--out", type=Path, default=Path("evaluation.json"), help="default: %(default)s")


def _play_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pattern",
        default="independent",
        help="independent: each agent by itself at each step (the default); bursty: each for 5 steps at a time on"
        " average, bursty:20: for 20; one_agent: one for the whole episode, one_agent:2: that of index 2; whole_team:"
        " all at once",
    )
    command.add_argument(
        "--sampled", action="store_true", help="draw actions as in training instead of taking the likeliest"
    )


def _command(commands: Any, name: str, purpose: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=purpose, description=f"{purpose.capitalize()}.")
    made.set_defaults(run=lambda options: _module(name).run(options))
    return made


def _module(command: str) -> Any:
    """Imported no earlier than the command runs, since it imports what is heavy, and --help shall answer at once."""
    return importlib.import_module(f"rmiov2.cli.{command.replace('-', '_')}")


def _team_options(command: argparse.ArgumentParser) -> None:
    command.usage = f"{command.prog} CHECKPOINT [OPTION ...]"  # behind --p-loss it would be taken for one more rate
    command.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a checkpoint, or the folder that holds it"
    )
    command.add_argument("--env", metavar="NAME", help="suite/map (default: the one it was trained on)")
    command.add_argument("--seed", type=seed, default=0, help="of the games and the losses (default: %(default)s)")


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a probability from 0 to 1, such as 0.4")
    return value
