"""`rmiov2 check-env`: whether an environment keeps the contract."""

from __future__ import annotations

import argparse

from rmiov2.envs.check import check_env
from rmiov2.envs.registry import make_env

CHECKED_ROWS = 4


def run(options: argparse.Namespace) -> None:
    """Run the contract against one environment."""
    print(f"checking {options.name}, a minute or two", flush=True)
    env = make_env(options.name, num_envs=CHECKED_ROWS)
    try:
        for line in check_env(env):
            print(line)
    finally:
        env.close()
    print(f"result: {options.name} keeps the contract")
