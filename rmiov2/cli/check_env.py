"""`rmiov2 check-env`: whether an environment keeps the contract."""

from __future__ import annotations

import argparse
from contextlib import closing

from rmiov2.cli.games import make_game
from rmiov2.envs.check import check_env

CHECKED_ROWS = 4


def run(options: argparse.Namespace) -> None:
    """Run the contract against one environment."""
    with closing(make_game(options.name, CHECKED_ROWS)) as env:
        print(f"checking {options.name}, a minute or two", flush=True)
        for line in check_env(env):
            print(line)
    print(f"result: {options.name} keeps the contract")
