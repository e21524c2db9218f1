"""DVC by its command line: its stages in order, one of them run and watched, nothing of it left when it is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Literal

from pipelines import environment, paths
from pipelines.processes.heal import heal
from rmiov2.files import writing
from rmiov2.types import UserError

Say = Callable[[str], None]  # takes one line

OUTCOMES: dict[str, Literal["ran", "cached", "up-to-date"]] = {
    r"^Running stage '": "ran",
    r"^Stage '.*' is cached - skipping run": "cached",
    r"^Stage '.*' didn't change, skipping": "up-to-date",
}
LOCKED = re.compile(r"Unable to acquire lock|is busy, it is being blocked by|JSON structure is corrupted|format error")
UNKEPT = re.compile(r"failed to transfer '\w+' - (?:\[Errno \d+\] )?(.*?)(?:: '|$)")  # the disk is full, say
STATUS = re.compile(r"failed to run: .*, exited with (-?\d+)")

REFUSED = 2  # a stage's exit status for what the user must mend
# DVC takes its lock again when a stage has ended, and would throw its work away if another one held it then.
PATIENT = ("--wait-for-lock",)
LOCK_DELAYS = [1.0, 2.0, 4.0, 8.0, 16.0]  # seconds before a stage that met a lock, or may fail again, is tried again

# Ctrl-C first: DVC then waits for the stage and gives its locks back. SIGTERM ends DVC at once, and SIGKILL everything.
STOPS = ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))  # seconds to wait after each

_running: dict[int, subprocess.Popen[bytes]] = {}


class DvcLocked(UserError):
    """Another DVC is at work in the folder; later it may go."""


class StageFailed(UserError):
    """A stage ended badly; status is its exit status, None if it was never started."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Outcome:
    """What DVC did with a stage, and how long that took."""

    stage: str
    outcome: Literal["ran", "cached", "up-to-date"]
    seconds: float


def dag(root: Path) -> list[tuple[str, list[str]]]:
    """Every stage of dvc.yaml in an order that works, each with those that it waits for; a matrix is written out.

    They come level by level, and on each level first those that most others wait for. Raises UserError where DVC cannot
    read its files.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        try:
            graph = repo.index.graph  # an edge leads from a stage to one that it depends on
        except DvcException as error:
            raise UserError(f"DVC cannot read this pipeline: {str(error).splitlines()[0]}; mend that file") from error
        # not their `addressing`, which is relative to the folder that this process is in
        names = {stage: str(stage.name or stage.path_in_repo) for stage in graph}
        needs = {names[stage]: sorted(names[other] for other in graph.successors(stage)) for stage in graph}
    first = {stage: needs[stage] for stage in by_those_behind(needs)}
    return [(stage, needs[stage]) for stage in TopologicalSorter(first).static_order()]


def by_those_behind(needs: Mapping[str, Sequence[str]]) -> list[str]:
    """Stages, given with those that each waits for, by how many wait for them, and for what waits for them."""
    behind: dict[str, set[str]] = {stage: set() for stage in needs}
    for stage in reversed([*TopologicalSorter(needs).static_order()]):
        for earlier in needs[stage]:
            behind[earlier] |= {stage} | behind[stage]
    return sorted(needs, key=lambda stage: (-len(behind[stage]), stage))


def run_stage(
    stage: str,
    root: Path,
    log: Say,
    force: bool = False,
    env: dict[str, str] | None = None,
    timeout_s: float | None = None,
) -> Outcome:
    """`dvc repro --single-item`, every line of it given to `log` and kept in state/logs.

    Raises DvcLocked if another DVC holds the folder, StageFailed with the stage's own sentence if it fails, if it takes
    longer than timeout_s, or if what it made is not in DVC's cache, which the next call then puts right.
    """
    keep_at_last(stage, root, log, env)
    command = [*PATIENT, "repro", "--single-item", stage, *["--force"] * force]
    began = time.perf_counter()
    try:
        status, lines = run_dvc(command, root, log_of(root, stage), log, env, timeout_s)
        if status and any(LOCKED.search(line) for line in lines) and (healed := heal(root)):
            for sentence in healed:
                log(sentence)
            status, lines = run_dvc(command, root, log_of(root, stage), log, env, timeout_s)
    except TimeoutError as error:
        raise StageFailed(
            f"{stage} was stopped: it took longer than {timeout_s:g} s; see {log_of(root, stage)}", None
        ) from error
    _refuse_unkept(stage, root, lines)
    if status:
        raise _failure(stage, status, lines)
    outcome = next((name for form, name in OUTCOMES.items() for line in lines if re.match(form, line)), None)
    if outcome is None:
        raise StageFailed(f"DVC ended well but did not say what it did with {stage}: {' / '.join(lines)}", None)
    return Outcome(stage, outcome, time.perf_counter() - began)


def _refuse_unkept(stage: str, root: Path, lines: Sequence[str]) -> None:
    """Raise StageFailed if DVC could not put into its cache what the stage made; its files lie where they should."""
    if why := next((found.group(1) for line in lines if (found := UNKEPT.search(line))), None):
        note = _note_of(root, stage)
        with writing(note):
            note.parent.mkdir(parents=True, exist_ok=True)
            note.touch()
        raise StageFailed(f"{stage} is made, but DVC could not keep it: {why}; mend that, then run again", REFUSED)


def keep_at_last(stage: str, root: Path, log: Say, env: dict[str, str] | None = None) -> None:
    """Put into DVC's cache what could not be kept when the stage made it, unless something has changed since then.

    That is so where DVC wrote dvc.lock all the same: of folders. What else it could not keep is made anew. Raises
    StageFailed if it still cannot be kept.
    """
    note = _note_of(root, stage)
    if not note.exists():
        return
    status, said = run_dvc([*PATIENT, "--quiet", "status", "--json", stage], root, log_of(root, stage), env=env)
    if status:
        raise _failure(stage, status, said)
    changes = json.loads(said[-1] if said else "{}").get(stage, [])
    outs = changes[0]["changed outs"] if [list(change) for change in changes] == [["changed outs"]] else {}
    if set(outs.values()) == {"not in cache"}:
        log(f"{stage}: what a full disk kept out of DVC's cache is put there")
        status, said = run_dvc([*PATIENT, "commit", "--force", stage], root, log_of(root, stage), log, env)
        _refuse_unkept(stage, root, said)
        if status:
            raise _failure(stage, status, said)
    note.unlink()


def _note_of(root: Path, stage: str) -> Path:
    """What says that a stage's result was not kept."""
    return root / "state" / "unkept" / stage


def log_of(root: Path, stage: str) -> Path:
    """Where the words of a stage's last run lie."""
    return root / "state" / "logs" / f"{stage}.log"


def surroundings() -> dict[str, str]:
    """The environment that DVC runs in: the `python` of dvc.yaml is this one."""
    environment.prepare()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def ask_dvc(*arguments: str) -> str:
    """What DVC says in this checkout, without a log: for questions that it answers at once."""
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=paths.ROOT, env=surroundings(), capture_output=True, text=True, check=True)
    return done.stdout.strip()


def run_dvc(
    arguments: Sequence[str],
    root: Path,
    log_file: Path,
    log: Say = lambda line: None,
    env: dict[str, str] | None = None,
    timeout_s: float | None = None,
) -> tuple[int, list[str]]:
    """Run DVC in a session of its own to its end: the exit status, and what it said. It is stopped if this is.

    Raises TimeoutError after timeout_s, when nothing of it is left.

    It writes to a file, which outlives whoever watches: a broken pipe would stop it before it has kept its results.
    """
    with writing(log_file):
        log_file.parent.mkdir(parents=True, exist_ok=True)
        log_file.unlink(missing_ok=True)  # a process that still writes to the last one keeps it
        with log_file.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "dvc", *arguments],
                cwd=root,
                env=surroundings() | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_heed_interrupts,
            )
    _running[process.pid] = process
    try:
        lines = _follow(process, log_file, log, timeout_s)
    finally:
        stop([process])
        del _running[process.pid]
    return process.returncode, lines


def _heed_interrupts() -> None:
    """In the child: what was started in the background of a shell ignores Ctrl-C, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _follow(process: subprocess.Popen[bytes], path: Path, log: Say, timeout_s: float | None) -> list[str]:
    """Every line of a growing file until the process ends; a bar that is drawn anew counts as a line."""
    lines: list[str] = []
    rest, ended, began = b"", False, time.monotonic()
    with path.open("rb") as handle:
        while not ended:
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                raise TimeoutError
            ended = _ends(process, 0.2)  # asked before reading, so that its last words are read
            *whole, rest = re.split(rb"[\r\n]", rest + handle.read())
            for line in [*whole, rest] if ended else whole:
                if text := line.decode(errors="replace").rstrip():
                    lines.append(text)
                    log(text)
    return lines


def _ends(process: subprocess.Popen[Any], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def stop(processes: Sequence[subprocess.Popen[bytes]], signals: Sequence[tuple[int, float]] = STOPS) -> None:
    """Leave nothing of their groups alive; signals: one after the other, with the seconds that each is waited for."""
    left = list(processes)
    for number, patience in signals:
        left = [process for process in left if _signal(process.pid, number)]
        until = time.monotonic() + patience
        while left and time.monotonic() < until:
            left = [process for process in left if not _ends(process, 0.1) or _signal(process.pid, 0)]


def _signal(group: int, number: int) -> bool:
    """Whether there was a process of the group to send it to."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def kill_all() -> None:
    """Stop every DVC that was started here, with its stages; they keep their checkpoints."""
    stop(list(_running.values()))


def _failure(stage: str, status: int, lines: list[str]) -> UserError:
    if any(LOCKED.search(line) for line in lines):
        return DvcLocked(f"{stage} cannot start, another DVC is at work here: {lines[-1]}")
    exits = [found.group(1) for line in lines if (found := STATUS.search(line))]
    ended = int(exits[-1]) if exits else None
    own = [line for line in lines if line.startswith(f"{stage}: ")]
    said = [line for line in lines if not STATUS.search(line) and not line.startswith("> ")]  # DVC's own echo
    sentence = own[-1] if own else said[-1] if said else f"DVC exits with {status} and says nothing"
    killed = f"{signal.Signals(-ended).name} killed it after: " if ended is not None and ended < 0 else ""
    return StageFailed(f"{stage} failed, state/logs/{stage}.log tells how: {killed}{sentence}", ended)
