"""What the storage tests share: trajectories that name their rows, and a death at every line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np

from rmiov2.types import EnvSpec, Trajectory

# the only files of rmiov2 that touch the disk here; their readers and comprehensions are passed over to save time
WRITERS = ("rmiov2/files.py", "rmiov2/replay/shards.py", "rmiov2/training/checkpoint.py")
DISCRETE = EnvSpec("toy/named", 2, 3, (3, 3), 4, (4, 4), True, 1, 50, "win_rate")
CONTINUOUS = EnvSpec("toy/named", 2, 3, (3, 2), 2, (2, 1), False, 0, 50, "step_return")


def named(spec: EnvSpec, episode: int, steps: int, start: bool = True) -> Trajectory:
    """Every row of every array carries 100 * episode + its own number: a gathered row says where it came from."""
    rows = 100.0 * episode + np.arange(steps + 1)
    obs = np.broadcast_to(rows[:, None, None], (steps + 1, 2, 3)).astype(np.float32)
    avail = np.ones((steps + 1, 2, 4), bool)
    avail[:, :, 3] = False
    act = np.broadcast_to(rows[:-1, None], (steps, 2)) % 4
    con = np.ones(steps, np.float32)
    con[-1] = 0
    return Trajectory(
        obs=obs,
        avail=avail if spec.discrete else None,
        state=np.broadcast_to(rows[:, None], (steps + 1, spec.state_dim)).astype(np.float32),
        act=act.astype(np.int64) if spec.discrete else np.stack([act, act], -1).astype(np.float32),
        rew=rows[:-1].astype(np.float32),
        con=con,
        start=start,
        won=episode % 2 == 0,
    )


def killed_at_every_line(work: Callable[[], None], after: Callable[[int], None]) -> int:
    """Run work in children killed before their 1st, 2nd, ... line in WRITERS; return how many lines there are."""
    line = 0
    while True:
        line += 1
        child = os.fork()
        if child == 0:
            _work_until(work, line)
        _, status = os.waitpid(child, 0)
        after(line)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return line - 1
        assert os.WTERMSIG(status) == signal.SIGKILL


def _work_until(work: Callable[[], None], last: int) -> None:
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if not frame.f_code.co_filename.endswith(WRITERS) or frame.f_code.co_name.startswith(("<", "_read", "parse")):
            return None
        count += event == "line"
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

    status = 1
    try:
        sys.settrace(trace)
        work()
        sys.settrace(None)
        status = 0
    finally:
        os._exit(status)
