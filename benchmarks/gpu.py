"""What a GPU makes of an update: captured, in either precision, launched one by one, and the CPU beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.cases import SMAX, composed, spec_of, synthetic_replay, untrained
from benchmarks.clock import Effort, Work, rates
from benchmarks.methods import update
from benchmarks.table import Row
from rmiov2.acceleration.captured import WARM, Regions, device_of
from rmiov2.seeding import Generators
from rmiov2.types import EnvSpec

UPDATES = {"world-model update": (1, 0), "policy round": (0, 1)}
PATHS = {  # device, precision of its products, captured
    "captured": ("cuda", "float32", True),
    "captured, tf32": ("cuda", "tf32", True),
    "launched one by one": ("cuda", "float32", False),
    "on the CPU": ("cpu", "float32", True),
}
TASKS = {"small": SMAX, "paper": "smax/2s3z"}


def gpu(presets: Sequence[str], effort: Effort) -> list[Row]:
    """RMIOv2's updates at each preset; one row that says so where torch sees no GPU."""
    if not torch.cuda.is_available():
        return [Row("captured updates", "not measured", "torch sees no GPU here")]
    return [row for preset in presets for row in _preset(preset, TASKS[preset], effort)]


def _preset(preset: str, env: str, effort: Effort) -> list[Row]:
    spec = spec_of(env)
    ways = [_works(preset, spec, *path) for path in PATHS.values()]
    return [_row(f"{what}, {env}, {preset}", [works[what] for works in ways], effort) for what in UPDATES]


def _works(preset: str, spec: EnvSpec, device: str, precision: str, captured: bool) -> dict[str, Work]:
    config = composed(env=spec.name, preset=preset, device=device, precision=precision)
    agent, rngs = untrained(config, spec), Generators(config.seed, device)
    replay = synthetic_replay(spec, config.world_model.length)
    if not captured:
        launch_one_by_one(agent.regions)

    def precise(work: Work) -> Work:
        """In the precision of this way, which torch keeps for all; a captured product keeps what it was captured in."""

        def done() -> float:
            device_of(device, precision)
            return work()

        return done

    return {what: precise(update(agent, replay, rngs, *counts)) for what, counts in UPDATES.items()}


def launch_one_by_one(regions: Regions) -> None:
    """Capture nothing; shapes stay those that a capture would have."""

    def run(name: str, function: Callable[..., Any], generator: Any, tensors: Any, **numbers: float) -> Any:
        return function(dict(tensors), **numbers)

    regions.run = run  # type: ignore[method-assign]


def _row(what: str, works: Sequence[Work], effort: Effort) -> Row:
    for work in works:
        for _ in range(WARM + 2):
            work()
    milliseconds = dict(zip(PATHS, map(float, 1e3 / np.median(rates(what, works, effort), axis=1)), strict=True))
    first, *others = (f"{ms:.4g} ms {name}" for name, ms in milliseconds.items())
    return Row(what, first, f"{'; '.join(others)}; {torch.cuda.get_device_name()}", numbers=milliseconds)
