"""Small trained teams and their evaluated episodes, as the registry takes them; servers of their own for a test."""

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from learning_cases import agent_and_replay, settings
from toy_players import WAIT, Reader
from windows import opinionated

from pipelines.registry import Measured
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.config import Config
from rmiov2.envs.registry import make_env
from rmiov2.evaluation import sweep
from rmiov2.files import write_json
from rmiov2.seeding import Generators
from rmiov2.training import checkpoint

ROOT = Path(__file__).resolve().parent.parent


def toy_config(**changes: Any) -> Config:
    """Games that are still won now and then at the rates of p_loss: one wrong answer of 36 loses toy/lights."""
    evaluation = {"evaluate__p_loss": [0.0, 0.01, 0.03, 1.0], "evaluate__episodes": 60, "evaluate__num_envs": 60}
    return settings("toy/lights", **({"execution__history": 6} | evaluation | changes))


def save_agent(config: Config, folder: Path, updates: int = 10) -> RMIOv2:
    """A team whose world model has learned a little, in a checkpoint."""
    agent, replay = agent_and_replay(config)
    opinionated(agent).update(replay, Generators(config.seed), updates, 0)
    checkpoint.save(folder / "checkpoint.safetensors", {"agent": agent.state_dict()}, config=config, spec=agent.spec)
    return agent


class Clumsy(Reader):
    """A Reader that now and then waits where it should answer."""

    def __init__(self, num_envs: int, slips: float) -> None:
        super().__init__(num_envs, "guess")
        self.slips, self.rng = slips, np.random.default_rng(0)

    def act(self, obs: Any, seen: Any = None, avail: Any = None, first: Any = None) -> Any:
        act = super().act(obs, seen, avail, first)
        return np.where(self.rng.random(act.shape) < self.slips, WAIT, act)


class Skilled:
    """What the sweep asks of an agent: teams of one skill."""

    own_mode = "completion"

    def __init__(self, slips: float) -> None:
        self.slips = slips

    def team(self, num_envs: int, seed: int, mode: str | None = None, true_availability: bool = False) -> Clumsy:
        return Clumsy(num_envs, self.slips)


def measured(config: Config, folder: Path, slips: float) -> Measured:
    """A checkpoint, and episodes played for it by a team that slips so often: the registry cannot tell."""
    save_agent(config, folder)
    team, games = Skilled(slips), partial(make_env, config.env.name)
    rows, summary = sweep.evaluate(team, team, games, config.evaluate, "rmiov2", config.seed)
    sweep.write_rows(rows, folder / "episodes.parquet")
    write_json(folder / "evaluate.json", summary)
    return Measured(folder / "checkpoint.safetensors", folder / "episodes.parquet", folder / "evaluate.json")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(command: Callable[[int], list[str]], probe: str, log: Path, **env: str) -> Iterator[str]:
    """A server process, answering at `probe`, until the block ends; its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | env
    with log.open("w") as output:
        process = subprocess.Popen(command(port), cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 180
        while not _answers(address + probe):
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.3)
        yield address
        assert process.poll() is None, f"the server died:\n{log.read_text()}"
    finally:
        process.terminate()
        process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
