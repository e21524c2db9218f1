"""`rmiov2 envs`: which environments there are."""

from __future__ import annotations

import argparse

from rmiov2.envs.registry import list_envs


def run(options: argparse.Namespace) -> None:
    """Print the table of environments."""
    rows = list_envs()
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for row in rows:
        print(f"{row.name:{widths[0]}}  {row.needs:{widths[1]}}  {row.notes}")
