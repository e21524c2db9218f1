"""A stage ends with those that wait for it, and is never at work twice."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path

import psutil

from pipelines import paths
from pipelines.processes.heal import is_dvc
from rmiov2.files import writing
from rmiov2.types import UserError

WATCHED = "RMIOV2_WATCH_PID"  # whoever must live for the stage to be worth anything, beside the DVC that started it
LOOK = 1.0  # seconds between two looks
CLOCK_SLACK = 60.0  # seconds by which the moment that a process began may seem to move
PATIENCE = 60.0  # seconds that another process of the same stage, which may be about to stop, is waited for


def end_with_starters() -> None:
    """Stop this process as Ctrl-C would, on SIGTERM and soon after one of those that wait for it has gone.

    Without its DVC a stage works for nothing: what it makes is not recorded, and the next run makes it again.
    Raises UserError if RMIOV2_WATCH_PID is no process number.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if starters := _starters():
        threading.Thread(target=_watch, args=(starters,), daemon=True).start()


def _starters() -> list[psutil.Process | None]:
    """Those that this process must not outlive; None for one that has gone already."""
    named = os.environ.get(WATCHED, "")
    if named and not named.isdecimal():
        raise UserError(f"{WATCHED} is {named!r}, expected the number of a process")
    found = [_process(int(named))] if named else []
    return [*found, _dvc()] if "DVC_STAGE" in os.environ else found


def _process(number: int) -> psutil.Process | None:
    try:
        return psutil.Process(number)
    except psutil.NoSuchProcess:
        return None


def orphaned(process: psutil.Process) -> bool:
    """Whether a DVC works for somebody who has gone, so that it ends by itself; also of one that has ended."""
    try:
        watched = process.environ().get(WATCHED, "")
    except psutil.AccessDenied:  # somebody else's
        return False
    except psutil.NoSuchProcess:
        return True
    if watched.isdecimal():
        return not _lives(_process(int(watched)))
    return not _lives(process)  # one that is ending has no environment any more


def _dvc() -> psutil.Process | None:
    """The DVC that started this stage: its parent, or the one of the shell between them."""
    parent = psutil.Process().parent()
    if parent is not None and parent.cmdline()[-2:-1] == ["-c"]:
        parent = parent.parent()
    adopted = parent is not None and parent.pid == 1 and not is_dvc(parent)
    return None if adopted else parent


def _lives(process: psutil.Process | None) -> bool:
    try:
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def still_lives(number: int, began: float) -> bool:
    """Whether the process that began then (seconds since 1970) works on, and no other was given its number later."""
    process = _process(number)
    try:
        return process is not None and _lives(process) and abs(process.create_time() - began) < CLOCK_SLACK
    except psutil.NoSuchProcess:  # it has ended since
        return False


def _watch(starters: list[psutil.Process | None]) -> None:
    while all(_lives(process) for process in starters):
        time.sleep(LOOK)
    while True:  # again and again: an interrupt that arrives inside a callback is swallowed there
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5 * LOOK)


def alone(label: str, patience: float = PATIENCE) -> AbstractContextManager[None]:
    """Hold the stage, or another label. One left over from a DVC that was killed is about to stop, and waited for."""
    return held(paths.STATE / "running" / label, label, patience)


@contextmanager
def held(path: Path, work: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a file, which stands for some work, for this process; the kernel gives it back, however the process ends.

    Raises UserError with the number of the process that still holds it after `patience` seconds, or if it cannot be
    written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("ab+", buffering=0)
    with handle:
        until = time.monotonic() + patience
        while not _hold(handle):
            if time.monotonic() > until:
                handle.seek(0)
                number = handle.read().decode()
                raise UserError(f"process {number} is at {work} already; end it, or wait, then run again")
            time.sleep(0.2)
        with writing(path):
            handle.truncate(0)
            handle.write(str(os.getpid()).encode())
        yield


def _hold(handle: FileIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
