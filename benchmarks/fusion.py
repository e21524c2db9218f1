"""Parameters and compute of the two fusion modules (RMIOv2, Appendix D), of models that were built and trained.

The page of the paper reads docs/seeds/fusion_cost.json:

    python -m benchmarks --only fusion --presets small paper --out docs/seeds/fusion_cost.json
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from benchmarks.cases import composed, untrained
from benchmarks.clock import count_flops
from benchmarks.table import Row, in_flop
from rmiov2.config import Config
from rmiov2.envs.registry import SUITES, make_env
from rmiov2.progress import bar
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators
from rmiov2.training.collect import Sweep, random_policy
from rmiov2.types import EnvSpec, UserError
from rmiov2.world_model.rssm import WorldModel

ENVS = (
    "smax/3m", "smax/2s3z", "smax/3s_vs_5z", "smax/corridor", "mamujoco/HalfCheetah-2x3", "mamujoco/Ant-4x2",
    "mamujoco/ManySegmentSwimmer-4x2", "mamujoco/ManySegmentSwimmer-10x2",
)  # fmt: skip
EVERY = tuple(f"{suite}/{name}" for suite in ("smax", "mamujoco") for name in SUITES[suite].maps)
ROWS, STEPS = 4, 60  # of random play
UPDATES = 3
AIM = f"builds, trains {UPDATES} updates"


@dataclass(frozen=True)
class Cost:
    """Of one fusion module: weights, and FLOP of a forward pass of one team's step and of a world-model update."""

    parameters: int
    step_flop: int
    update_flop: int


def fusion(envs: Sequence[str], presets: Sequence[str]) -> list[Row]:
    """Two rows per environment and preset."""
    show, rows = bar("fusion modules", "environment"), []
    for done, env in enumerate(envs):
        spec, replay = random_play(env)
        for preset in presets:
            rows += _rows(composed(preset=preset, env=env), spec, replay)
        show(done + 1, len(envs))
    return rows


def random_play(env_name: str) -> tuple[EnvSpec, Replay]:
    """The beginning of an episode in each of ROWS environments."""
    env = make_env(env_name, ROWS)
    try:
        replay = Replay(env.spec, ROWS * STEPS)
        for game in next(Sweep(env, random_policy(env.spec, np.random.default_rng(0)), 0, STEPS).pieces()):
            replay.add(game, game.rew)
    finally:
        env.close()
    return env.spec, replay


def _rows(settings: Config, spec: EnvSpec, replay: Replay) -> list[Row]:
    where = f"{spec.name}, {settings.preset}"
    agent, rngs = untrained(settings, spec), Generators(settings.seed)
    try:
        update = count_flops(lambda: agent.update(replay, rngs, 1, 0))
        agent.update(replay, rngs, UPDATES - 1, 0)
    except UserError as error:
        return [Row(f"fusion modules, {where}", "broke", str(error), AIM, False)]
    total = _parameters(agent.model)
    return [_row(f"{name}, {where}", cost, total, update) for name, cost in costs(agent.model).items()]


def _row(what: str, cost: Cost, total: int, update: int) -> Row:
    share = cost.update_flop / update
    return Row(
        what,
        f"{cost.parameters:,} parameters, {in_flop(cost.step_flop)} a team step",
        f"{cost.parameters / total:.1%} of M's {total:,}; {share:.1%} of an update's {in_flop(update)}",
        AIM,
        True,
        {"parameters": cost.parameters, "step_flop": cost.step_flop, "update_flop": cost.update_flop,
         "model_parameters": total, "model_update_flop": update},
    )  # fmt: skip


def costs(model: WorldModel) -> dict[str, Cost]:
    """Both modules by name; an update runs the first at each of its T rows, the second at each of its T-1 steps."""
    rows = model.settings.length
    return {
        "observation fusion": _cost(model, model.observation_fusion, rows),
        "action fusion": _cost(model, model.action_fusion, rows - 1),
    }


def _cost(model: WorldModel, module: nn.Module, calls: int) -> Cost:
    shape = model.spec.num_agents, model.settings.hidden
    batch = torch.zeros(model.settings.batch, *shape, requires_grad=True)
    return Cost(
        _parameters(module),
        count_flops(lambda: module(torch.zeros(1, *shape))),
        calls * count_flops(lambda: module(batch).sum().backward()),
    )


def _parameters(module: nn.Module) -> int:
    return sum(weights.numel() for weights in module.parameters())
