"""What SMAC's games side by side are worth, and what our part of a step costs; the games are the doubles of tests/."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.clock import Effort, Work, rates
from benchmarks.table import Row
from pipelines import paths
from rmiov2.envs.smac.adapter import SOURCE, Smac
from rmiov2.types import Ints, Step

SIDE_BY_SIDE, TIMES = 4, 3.0  # games, and how much faster than one they shall be
STEP_MS = 10  # of the game
STEPS = 20
MAPS = ("2s3z", "3m")


def smac(effort: Effort) -> list[Row]:
    """Steps of four games beside one; one row that says what is missing where the public package is."""
    sys.path.insert(0, str(paths.ROOT / "tests"))
    from starcraft.install import install
    from starcraft.needs import missing

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with _played(Path(folder), 0):
            rows.append(_own_cost(effort))
        if reason := missing():
            return [*rows, Row(f"{SIDE_BY_SIDE} games of SMAC", "not measured", reason)]
        with _played(install(Path(folder, "game")), STEP_MS):
            rows += [_side_by_side(name, effort) for name in MAPS]
    return rows


def _played(folder: Path, step_ms: int) -> AbstractContextManager[Any]:
    return patch.dict(os.environ, SC2PATH=str(folder), STAND_IN_GAME=json.dumps({"step_ms": step_ms}))


def _stop(step: Step) -> Ints:
    return np.where(step.avail[..., 0], 0, 1)  # type: ignore[index]


def _steps(env: Smac) -> Work:
    step = env.reset(0)

    def work() -> float:
        nonlocal step
        for _ in range(STEPS):
            step = env.step(_stop(step))
        return float(STEPS * env.num_envs)

    return work


def _side_by_side(name: str, effort: Effort) -> Row:
    envs = [Smac(name, n, 0, SOURCE) for n in (SIDE_BY_SIDE, 1)]
    label = f"{SIDE_BY_SIDE} games of SMAC, {name}, {STEP_MS} ms a step of the stand-in"
    try:
        measured = rates(label, [_steps(env) for env in envs], effort)
    finally:
        for env in envs:
            env.close()
    many, one, times = (float(np.median(x)) for x in (*measured, measured[0] / measured[1]))
    return Row(
        label, f"{many:,.0f} env steps/s", f"{times:.2f} times the {one:,.0f} of one", f"at least {TIMES:g} times",
        times >= TIMES, {"per_second": many, "one_per_second": one, "times": times},
    )  # fmt: skip


def _own_cost(effort: Effort) -> Row:
    """The same environment through the adapter and without it: what is left is ours, the process between included."""
    from smac_double import Source

    env, bare = Smac("3m", 1, 0, "smac_double:Source"), Source("3m", 60).make(0)

    def alone() -> float:
        bare.reset()
        steps, over = 0, False
        while not over:
            avail = np.asarray(bare.get_avail_actions())
            over = bare.step(np.where(avail[:, 0], 0, 1))[1]
            bare.get_obs(), bare.get_state()
            steps += 1
        return float(steps)

    try:
        ours, alone_rate = (float(np.median(x)) for x in rates("the adapter's own part", [_steps(env), alone], effort))
    finally:
        env.close()
    cost = 1e3 / ours - 1e3 / alone_rate
    return Row(
        "the adapter's own part of a step, one game", f"{cost:.3f} ms", f"{1e3 / ours:.3f} ms less the game's own",
        numbers={"own_ms": cost},
    )  # fmt: skip
