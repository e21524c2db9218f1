"""What a fine-tuning update costs as the team grows: RMIO's correction block beside RMIOv2's masked world model.

The teams are synthetic: N agents that see what those of SMAC's maps of N marines a side see, 10 N numbers each (30 on
3m, 80 on 8m), and choose among 6 + N actions. So all observations together are 10 N^2 numbers, and RMIO's first layer
takes them side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.cases import composed, synthetic_replay, untrained
from benchmarks.clock import Effort, Work, rates
from benchmarks.methods import update
from benchmarks.table import NO_AIM, Row
from rmiov2.agents.rmio import RMIO
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.progress import bar
from rmiov2.reporting.style import CYCLE, canvas, label_ends, png, styled
from rmiov2.seeding import Generators
from rmiov2.training.finetune import mask_of
from rmiov2.types import EnvSpec

AGENTS = ("rmiov2", "rmio")
SIZES = (2, 4, 8, 16, 32, 64)
FITTED = 3  # largest sizes that an exponent is fitted to: below, what does not grow hides what does
COPIES = 4  # of every trained weight: itself, its gradient, Adam's two moments
COSTS = {"parameters": "parameters trained", "memory": "MB of an update", "seconds": "seconds an update"}


@dataclass(frozen=True)
class Cost:
    """Of one masked update of N agents: weights that it trains, MB of those, their gradients, Adam's moments and what
    the backward pass keeps, and seconds."""

    parameters: int
    memory: float
    seconds: float


def team_size(effort: Effort) -> list[Row]:
    """A row for every agent and size, then one for every agent with its exponents."""
    show, rows = bar("team sizes", "team"), list[Row]()
    for name in AGENTS:
        costs = []
        for n in SIZES:
            costs.append(cost(name, n, effort))
            rows.append(_row(name, n, costs[-1]))
            show(len(rows), len(AGENTS) * len(SIZES))
        rows.append(_exponents(name, costs))
    return rows


def spec_of(n: int) -> EnvSpec:
    """A team of n as large as one of SMAC's maps of n marines a side."""
    obs, act = 10 * n, 6 + n
    return EnvSpec(f"synthetic/{n}", n, obs, (obs,) * n, act, (act,) * n, True, 0, 60, "win_rate", (0,))


def cost(name: str, n: int, effort: Effort) -> Cost:
    """What one masked update of a team of n costs, with the settings of conf/ at the small preset."""
    config = composed(agent=name, preset="small")
    agent, rngs = untrained(config, spec_of(n)), Generators(config.seed)
    replay = synthetic_replay(agent.spec, config.execution.history + 1)
    mask = mask_of(config.finetune, n, rngs.numpy["observation_loss"])
    work = update(agent, replay, rngs, 1, 0, mask)
    held = saved_bytes(trained(agent), work)  # the warm-up, too
    weights = sum(weight.numel() for weight in trained(agent).parameters())
    (measured,) = rates(f"{name}, {n} agents", [work], effort)
    return Cost(weights, (held + 4 * COPIES * weights) / 1e6, 1 / float(np.median(measured)))


def trained(agent: RMIOv2) -> nn.Module:
    """What masked fine-tuning trains."""
    return agent.correction if isinstance(agent, RMIO) else agent.model


def saved_bytes(module: nn.Module, work: Work) -> int:
    """What the backward pass of work finds kept for it, each storage once and without the module's weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would hold on to its graph

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        work()
    return sum(kept.values())


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """k of the power N^k that fits best, by least squares of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def _row(name: str, n: int, found: Cost) -> Row:
    said = f"{found.parameters:,} parameters, {found.memory:.1f} MB, {found.seconds * 1e3:.1f} ms"
    return Row(f"masked update, {name}, {n} agents", said, "weights that it trains, what it holds, how long it takes",
               numbers={"agents": n, **asdict(found)})  # fmt: skip


def _exponents(name: str, costs: Sequence[Cost]) -> Row:
    found = {key: exponent(SIZES[-FITTED:], [getattr(c, key) for c in costs[-FITTED:]]) for key in COSTS}
    said = ", ".join(f"{key} N^{value:.2f}" for key, value in found.items())
    return Row(f"growth, {name}", said, f"fitted to N = {', '.join(map(str, SIZES[-FITTED:]))}", NO_AIM, None, found)


def picture(rows: Sequence[Row]) -> bytes:
    """PNG: every cost over the number of agents, both axes logarithmic, each line with its exponent."""
    with styled():
        figure = canvas(5.6, 7.2)
        for axes, (key, title) in zip(figure.subplots(len(COSTS), 1, sharex=True), COSTS.items(), strict=True):
            axes.set(xscale="log", yscale="log", title=title)
            ends = []
            for name, colour in zip(AGENTS, CYCLE, strict=False):
                sizes = [row.numbers for row in rows if row.what.startswith(f"masked update, {name},")]
                (growth,) = (row.numbers for row in rows if row.what == f"growth, {name}")
                axes.plot([s["agents"] for s in sizes], [s[key] for s in sizes], "o-", color=colour)
                ends.append((sizes[-1][key], f"{name}, $N^{{{growth[key]:.2f}}}$", colour))
            axes.set_xticks(SIZES, [str(n) for n in SIZES], minor=False)
            axes.minorticks_off()
            label_ends(axes, ends)
        axes.set_xlabel("agents, N")
        return png(figure)
