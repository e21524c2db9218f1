"""Multi-agent reinforcement learning that keeps deciding when agents lose their observations (RMIOv2, Shi et al.)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rmiov2.agents.base import Agent
    from rmiov2.config import Config
    from rmiov2.envs.base import Env

__all__ = ["load", "make_env"]


def make_env(name: str, num_envs: int, seed: int = 0) -> Env:
    """num_envs games of `name` side by side, such as smax/3m; see `rmiov2 envs` for what there is."""
    from rmiov2.envs.registry import make_env as make

    return make(name, num_envs, seed)


def load(path: str | Path, config: Config | None = None) -> Agent:
    """A trained agent, from a checkpoint file, its folder, or the folder of a whole run (the fine-tuned one first).

    It plays on the CPU, wherever it was trained, unless config says otherwise.
    A checkpoint holds no code; one of a method of a user's own (agent=own) imports the module that it names.

    config: settings to take instead of those that it was saved with; raises UserError if its weights do not fit them.
    """
    from rmiov2.agents.registry import make_agent
    from rmiov2.training import checkpoint

    saved = checkpoint.load(checkpoint.find(Path(path)))
    agent = make_agent(config or saved.config.model_copy(update={"device": "cpu", "precision": "float32"}), saved.spec)
    agent.load_state_dict(saved.state["agent"])
    return agent
