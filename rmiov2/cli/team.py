"""The team that a command plays with."""

from __future__ import annotations

from pathlib import Path

import torch

import rmiov2
from rmiov2.agents.base import Agent


def trained(path: Path) -> Agent:
    """The agent of a checkpoint, and torch on as many threads as it was trained with.

    By itself torch takes every core. Decisions are small, and on a machine that does other work as well, threads that
    wait for each other make each take many times as long.
    """
    agent = rmiov2.load(path)
    torch.set_num_threads(agent.config.threads)
    return agent
