"""What a GPU makes of an update: captured, the same kernels launched one by one, and the CPU beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.cases import SMAX, composed, spec_of, synthetic_replay, untrained
from benchmarks.clock import Effort, Work, rates
from benchmarks.methods import update
from benchmarks.table import Row
from rmiov2.agents.captured import WARM, Regions
from rmiov2.seeding import Generators
from rmiov2.types import EnvSpec

UPDATES = {"world-model update": (1, 0), "policy round": (0, 1)}
PATHS = (("cuda", True), ("cuda", False), ("cpu", True))  # device, captured
TASKS = {"small": SMAX, "paper": "smax/2s3z"}


def gpu(presets: Sequence[str], effort: Effort) -> list[Row]:
    """RMIOv2's updates at each preset; one row that says so where torch sees no GPU."""
    if not torch.cuda.is_available():
        return [Row("captured updates", "not measured", "torch sees no GPU here")]
    return [row for preset in presets for row in _preset(preset, TASKS[preset], effort)]


def _preset(preset: str, env: str, effort: Effort) -> list[Row]:
    spec = spec_of(env)
    ways = [_works(preset, spec, *path) for path in PATHS]
    return [_row(f"{what}, {env}, {preset}", [works[what] for works in ways], effort) for what in UPDATES]


def _works(preset: str, spec: EnvSpec, device: str, captured: bool) -> dict[str, Work]:
    config = composed(f"env={spec.name.replace('/', '_')}", f"preset={preset}", f"device={device}")
    agent, rngs = untrained(config, spec), Generators(config.seed, device)
    replay = synthetic_replay(spec, config.world_model.length)
    if not captured:
        launch_one_by_one(agent.regions)
    return {what: update(agent, replay, rngs, *counts) for what, counts in UPDATES.items()}


def launch_one_by_one(regions: Regions) -> None:
    """Capture nothing; shapes stay those that a capture would have."""

    def run(name: str, function: Callable[..., Any], generator: Any, tensors: Any, **numbers: float) -> Any:
        return function(dict(tensors), **numbers)

    regions.run = run  # type: ignore[method-assign]


def _row(what: str, works: Sequence[Work], effort: Effort) -> Row:
    for work in works:
        for _ in range(WARM + 2):
            work()
    captured, launched, cpu = (float(ms) for ms in 1e3 / np.median(rates(what, works, effort), axis=1))
    beside = f"{launched:.4g} ms launched one by one, {cpu:.4g} ms on the CPU; {torch.cuda.get_device_name()}"
    return Row(
        what, f"{captured:.4g} ms captured", beside,
        numbers={"captured_ms": captured, "launched_ms": launched, "cpu_ms": cpu},
    )  # fmt: skip
