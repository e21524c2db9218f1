"""How a training stage is saved while it runs, and goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from rmiov2.config import Config
from rmiov2.envs.base import Env
from rmiov2.replay import shards
from rmiov2.training import checkpoint
from rmiov2.types import EnvSpec, Trajectory

SAVE_SECONDS = 20.0


class Resumable(Protocol):
    """A run that can be saved and go on."""

    config: Config
    env: Env

    def state_dict(self) -> dict[str, Any]:
        """All but the replay."""


def save(run: Resumable, pending: list[Trajectory], resume: Path) -> None:
    """First the data, then the state that counts them: killed in between, the data's surplus is cut off again.

    What is older than two replays goes: the trend of what the replay holds was made by the rewards of that before it.
    """
    if pending:
        shards.append(resume / "replay", pending, run.env.spec)
    checkpoint.save(resume / "checkpoint.safetensors", run.state_dict(), config=run.config, spec=run.env.spec)
    if pending:
        shards.forget(resume / "replay", 2 * run.config.collect.capacity)


def resumed(resume: Path) -> dict[str, Any]:
    """The state that a stage left behind when it was stopped; empty if it begins."""
    path = resume / "checkpoint.safetensors"
    return checkpoint.load(path).state if path.is_file() else {}


def kept(resume: Path, spec: EnvSpec, trajectories: int) -> list[Trajectory]:
    """Of the first `trajectories` that a stopped stage had collected those that are still of use.

    What came after its last checkpoint is cut off. Raises UserError if the data that the checkpoint counts are gone.
    """
    folder = resume / "replay"
    if not folder.is_dir() and not trajectories:
        return []
    shards.cut(folder, trajectories)
    return shards.read(folder, spec) if trajectories else []  # stopped in its first save, it has no manifest yet
