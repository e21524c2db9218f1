"""What an update of every method with a world model costs, all side by side in one run.

The settings are those of conf/ for the task, at the small preset; what each trains on is noise of the task's shape. The
page shows them where they lie beside the kept seeds:

    python -m benchmarks --only methods --out docs/seeds/update_time.json
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.cases import CHEETAH, SMAX, composed, spec_of, synthetic_replay
from benchmarks.clock import Effort, Work, rates
from benchmarks.table import Row
from rmiov2.agents.base import Agent, Mask
from rmiov2.agents.registry import make_agent
from rmiov2.replay.buffer import Replay
from rmiov2.reporting.kept import UPDATES
from rmiov2.seeding import Generators
from rmiov2.training.finetune import mask_of
from rmiov2.types import EnvSpec

TASKS = (SMAX, CHEETAH)
AGENTS = ("rmiov2", "rmio", "gawm", "mamba", "mag")
PRESET = "small"


def methods(effort: Effort, tasks: Sequence[str] = TASKS, preset: str = PRESET) -> list[Row]:
    """A row for every method on every task; what is "AGENT, ENV, PRESET", as the page looks it up."""
    return [row for task in tasks for row in _task(task, preset, effort)]


def _task(task: str, preset: str, effort: Effort) -> list[Row]:
    spec = spec_of(task)
    works = [work for name in AGENTS for work in _works(name, spec, preset)]
    for work in works:
        work()  # the warm-up
    measured = np.median(rates(f"updates, {task}", works, effort), axis=1).reshape(len(AGENTS), len(UPDATES))
    milliseconds = (1e3 / measured).tolist()
    return [_row(f"{name}, {task}, {preset}", own) for name, own in zip(AGENTS, milliseconds, strict=True)]


def _works(name: str, spec: EnvSpec, preset: str) -> list[Work]:
    """A world-model update, a masked one, a policy round, in the order of UPDATES."""
    config = composed(env=spec.name, agent=name, preset=preset)
    agent, rngs = make_agent(config, spec), Generators(config.seed)
    replay = synthetic_replay(spec, max(config.world_model.length, config.execution.history + 1))
    mask = mask_of(config.finetune, spec.num_agents, rngs.numpy["observation_loss"])
    return [
        update(agent, replay, rngs, 1, 0),
        update(agent, replay, rngs, 1, 0, mask),
        update(agent, replay, rngs, 0, 1),
    ]


def update(
    agent: Agent, replay: Replay, rngs: Generators, models: int, policies: int, mask: Mask | None = None
) -> Work:
    """So many world-model updates, masked if there is a mask, and policy rounds at a time."""

    def work() -> float:
        agent.update(replay, rngs, models, policies, mask)
        return float(models + policies)

    return work


def _row(what: str, milliseconds: Sequence[float]) -> Row:
    numbers = dict(zip(UPDATES, milliseconds, strict=True))
    model, masked, policy = (f"{value:,.4g}" for value in numbers.values())
    said = f"{model} ms a world-model update, {masked} ms a masked one, {policy} ms a policy round"
    return Row(what, said, f"{', '.join(AGENTS)}, side by side", numbers=numbers)
