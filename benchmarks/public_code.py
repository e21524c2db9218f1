"""MAMBA's public code beside ours: its world-model update and policy round at its own sizes, same shapes, same device.

It is no part of this repository and no package: `git clone https://github.com/jbr-ai-labs/mamba` and name the folder
with --mamba. Its settings for StarCraft II stay as they are; what it logs to and environments that are not played here
are left out. Both learn from noise of the shape of smax/2s3z, through their own replays.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.cases import composed, spec_of, synthetic_replay
from benchmarks.clock import Effort, Work, rates
from benchmarks.methods import update
from benchmarks.table import Row
from rmiov2.acceleration.captured import WARM, device_of
from rmiov2.agents.registry import make_agent
from rmiov2.config import Config
from rmiov2.seeding import Generators
from rmiov2.types import EnvSpec, UserError

ENV = "smax/2s3z"
OURS = {"MAMBA": {"agent": "mamba_paper"}, "RMIOv2": {"preset": "paper"}}
# Times as fast as theirs, a world-model update and a policy round; set before any was measured.
AIMS = {"cpu": (1.5, 4.0), "cuda": (8.0, 10.0)}
THEIR_MODULES = ("agent", "configs", "environments", "networks", "wandb")
LEARNER = "configs.dreamer.optimal.starcraft.LearnerConfig"
ROWS = 4000


def public_code(folder: Path | None, device: str, precision: str, effort: Effort) -> list[Row]:
    """Two rows for each of OURS; raises UserError where the folder does not hold MAMBA's code, or there is no GPU."""
    spec = spec_of(ENV)
    with tempfile.TemporaryDirectory() as logs, importable(refuse_absent(folder, device)):
        theirs = _Theirs(spec, device, logs)
        ours = {
            name: composed(env=ENV, device=device, precision=precision, **choices) for name, choices in OURS.items()
        }
        return [row for name, config in ours.items() for row in _rows(name, config, spec, theirs, effort)]


def refuse_absent(folder: Path | None, device: str) -> Path:
    """The folder; raises UserError where it does not hold MAMBA's code, or this machine lacks the device."""
    if folder is None or not folder.joinpath(*LEARNER.split(".")).with_suffix(".py").is_file():
        raise UserError(
            f"--mamba: got {folder}, expected a folder with MAMBA's code; "
            "make one with `git clone https://github.com/jbr-ai-labs/mamba`"
        )
    device_of(device)
    return folder


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """MAMBA's modules can be imported inside, without wandb, Flatland and StarCraft II; afterwards they are gone."""
    before = {name: sys.modules.pop(name) for name in _theirs_loaded()}
    wandb, configs = ModuleType("wandb"), ModuleType("configs")
    vars(wandb).update(log=_nothing, init=_nothing)
    configs.__path__ = [str(folder / "configs")]
    sys.modules.update(wandb=wandb, configs=configs)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in _theirs_loaded():
            del sys.modules[name]
        sys.modules.update(before)


def _theirs_loaded() -> list[str]:
    return [name for name in sys.modules if name.partition(".")[0] in THEIR_MODULES]


def _nothing(*args: Any, **options: Any) -> None:
    """What would be logged."""


class _Theirs:
    """Its learner with its own settings, its replay full of noise."""

    def __init__(self, spec: EnvSpec, device: str, logs: str) -> None:
        settings = importlib.import_module(LEARNER).DreamerLearnerConfig()
        starcraft = importlib.import_module("environments").Env.STARCRAFT
        vars(settings).update(
            IN_DIM=spec.obs_dim, ACTION_SIZE=spec.act_dim, ENV_TYPE=starcraft, DEVICE=device, LOG_FOLDER=logs
        )
        self.settings, self.learner = settings, settings.create_learner()
        self.learner.replay_buffer.append(*_noise(spec, np.random.default_rng(0)))

    def update_model(self) -> float:
        with as_torch_has_it():
            self.learner.train_model(self.learner.replay_buffer.sample(self.settings.MODEL_BATCH_SIZE))
        return 1.0

    def policy_round(self) -> float:
        """Team steps learned from: of all rows of the batch but those at its ends, one fewer than its horizon."""
        s = self.settings
        with as_torch_has_it():
            self.learner.train_agent(self.learner.replay_buffer.sample(s.BATCH_SIZE))
        return float(s.BATCH_SIZE * (s.SEQ_LENGTH - 2) * (s.HORIZON - 1))


@contextmanager
def as_torch_has_it() -> Iterator[None]:
    """cuDNN may round to TF32 inside, other products may not; of ours captured.device_of decides."""
    products: tuple[Any, ...] = torch.backends.cudnn, torch.backends.cuda.matmul
    ours = [part.allow_tf32 for part in products]
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = True, False
    try:
        yield
    finally:
        for part, allowed in zip(products, ours, strict=True):
            part.allow_tf32 = allowed


def _noise(spec: EnvSpec, rng: np.random.Generator) -> list[np.ndarray]:
    """Observations, actions, rewards, ends, absorbing rows, last rows, masks, as its replay takes them."""
    shape = (ROWS, spec.num_agents)
    one_hot = np.eye(spec.act_dim, dtype=np.float32)[rng.integers(spec.act_dim, size=shape)]
    never = np.zeros((*shape, 1), np.float32)
    obs, rew = (rng.normal(size=(*shape, width)).astype(np.float32) for width in (spec.obs_dim, 1))
    return [obs, one_hot, rew, never, never, never, np.ones((*shape, spec.act_dim), np.float32)]


def _rows(name: str, config: Config, spec: EnvSpec, theirs: _Theirs, effort: Effort) -> list[Row]:
    agent, rngs = make_agent(config, spec), Generators(config.seed, config.device)
    replay = synthetic_replay(spec, config.world_model.length)
    model, play = update(agent, replay, rngs, 1, 0), learned_from(config, update(agent, replay, rngs, 0, 1))
    pairs = {
        (f"{name}'s world-model update", "updates"): (model, theirs.update_model),
        (f"{name}'s policy round", "team steps learned from"): (play, theirs.policy_round),
    }
    return [
        _row(*what, pair, aim, config, effort)
        for (what, pair), aim in zip(pairs.items(), AIMS[config.device], strict=True)
    ]


def learned_from(config: Config, round_: Work) -> Work:
    """A policy round of ours, in the team steps that it learns from."""
    return lambda: round_() * config.policy.starts * config.policy.horizon


def _row(what: str, unit: str, works: tuple[Work, Work], aim: float, config: Config, effort: Effort) -> Row:
    device = config.device
    for work in works:
        for _ in range(WARM + 2 if device == "cuda" else 1):
            work()
    measured = rates(what, [_waited_for(work, device) for work in works], effort)
    ours, public = (float(x) for x in np.median(measured, axis=1))
    times = float(np.median(measured[0] / measured[1]))
    where = "cpu" if device == "cpu" else f"{device}, {config.precision}"
    beside = f"{times:.2f} times the {public:.4g} of MAMBA's public code"
    return Row(
        f"{what}, {ENV}, paper, {where}", f"{ours:.4g} {unit}/s", beside, f"at least {aim:g} times", times >= aim,
        {"per_second": ours, "public_per_second": public, "times": times},
    )  # fmt: skip


def _waited_for(work: Work, device: str) -> Work:
    """With what the GPU still has to do for it."""
    if device == "cpu":
        return work

    def waited() -> float:
        done = work()
        torch.cuda.synchronize()
        return done

    return waited
