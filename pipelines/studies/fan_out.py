"""Studies side by side, each in a workspace of its own; what two of them have in common is made once.

DVC restores a stage that another workspace has run. So whoever would run it a second time waits until it is made.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil
import yaml

from pipelines import paths
from pipelines.params import flat
from pipelines.processes.dvc_stage import kill_all, run_dvc
from pipelines.processes.heal import heal
from pipelines.stage import value_at
from pipelines.studies import workspace as workspaces
from pipelines.studies.workspace import STAGES
from rmiov2.config import Config, ignored_keys
from rmiov2.types import UserError

MACHINE = ("device", "precision", "threads")  # settings of where it runs
LOOK = 1.0  # seconds between two looks at what has been made
ON_GPU = 4  # trainings at once on a card, unless --jobs says otherwise: without MPS they only take turns, docs/gpu.md
GAMES = "smac/"  # environments of which every game is a process that takes a core


class Study(Protocol):
    """A workspace: its folder, what stages_of says of its settings and its stages, which are run in that order, and
    make(), which makes it or finds it again.
    """

    @property
    def folder(self) -> Path: ...

    @property
    def stages(self) -> Mapping[str, str]: ...

    def make(self) -> Path: ...


S = TypeVar("S", bound=Study)


def fan_out(
    studies: Sequence[S], jobs: int, ended: Callable[[S], None], failing: Callable[[S], None] = lambda study: None
) -> list[S]:
    """Every study to its end, `jobs` at a time; those that failed.

    ended(study) is called after each that ended well, failing(study) after each other. What befalls one study, or
    ended(study), stops no other. Stopped by Ctrl-C or SIGTERM, none of them works on.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    waiting, failed, stopped, made = list(studies), [], threading.Event(), set[str]()
    running: dict[Future[int], S] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                for study in startable(waiting, list(running.values()), made, jobs):
                    waiting.remove(study)
                    running[pool.submit(_to_its_end, study, made, stopped)] = study
                for future in wait(running, LOOK, FIRST_COMPLETED).done:
                    study = running.pop(future)
                    if not went_well(study, future, ended):
                        failed.append(study)
                        failing(study)
        except BaseException:
            stopped.set()
            end(list(running))
            raise
    return failed


def went_well(study: S, future: Future[int], ended: Callable[[S], None]) -> bool:
    """Whether a study's stages and ended(study) went well; what went wrong is told."""
    wrong = future.exception()
    if wrong is None and (status := future.result()):
        wrong = UserError(f"it ended with status {status}")
    if wrong is None:
        try:
            ended(study)
        except (UserError, OSError) as error:
            wrong = error
    if wrong is None:
        return True
    expected = isinstance(wrong, (UserError, OSError, subprocess.CalledProcessError))
    print(f"{study.folder.name}: {wrong if expected else ''.join(traceback.format_exception(wrong))}", flush=True)
    return False


def end(running: Sequence[Future[Any]]) -> None:
    """Kill what runs until nothing does; an impatient second Ctrl-C leaves nothing behind either."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        while wait(running, LOOK).not_done:  # one of them may have been about to start its next stage
            kill_all()
    finally:
        for number, handler in zip((signal.SIGINT, signal.SIGTERM), before, strict=True):
            signal.signal(number, handler)


def startable(waiting: Sequence[S], running: Sequence[S], made: set[str], jobs: int) -> list[S]:
    """The first of those that wait, until `jobs` run, but for those that need a stage that is about to be made."""
    taken = {key for study in running for key in study.stages.values()} - made
    found: list[S] = []
    for study in waiting:
        if len(running) + len(found) == jobs:
            break
        keys = set(study.stages.values())
        if taken.isdisjoint(keys):
            found.append(study)
            taken |= keys - made
    return found


def stages_of(values: Mapping[str, Any], stages: Sequence[str] = STAGES) -> dict[str, str]:
    """What each stage computes from, as a digest: settings for which it is the same share what the stage makes."""
    entries: list[str] = []
    found = {}
    for stage, read in declared().items():
        entries += read
        if stage in stages:
            text = json.dumps([stage, {entry: value_at(values, entry) for entry in entries}], sort_keys=True)
            found[stage] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def settings_read(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of complete settings, by section.name, what results are made of: those that STAGES and the agent read.

    But for the seed, and where it ran, as that only rounds otherwise.
    """
    found: dict[str, Any] = {}
    for stage, read in declared().items():
        found |= {entry: value_at(values, entry) for entry in read}
        if stage == STAGES[-1]:
            break
    unread = {"seed", *MACHINE, *ignored_keys(values["agent"]["name"])}
    return {key: value for key, value in flat(found).items() if key not in unread}


@cache
def declared() -> dict[str, list[str]]:
    """The settings that dvc.yaml says each stage reads: sections, or section.name."""
    stages = yaml.safe_load(paths.DVC_YAML.read_text(encoding="utf-8"))["stages"]
    return {name: entry.get("params", []) for name, entry in stages.items()}


def _to_its_end(study: Study, made: set[str], stopped: threading.Event) -> int:
    """Its stages in its workspace, the words of each in a log of its own; the exit status."""
    folder = study.folder
    logs = {stage: folder.with_name(f"{folder.name}.{stage}.log") for stage in study.stages}
    print(f"{folder.name} runs, {folder.relative_to(paths.ROOT)}.*.log tell how it goes", flush=True)
    with workspaces.alone_in(folder):
        study.make()
        for sentence in heal(folder):  # of a kill
            print(f"{folder.name}: {sentence}", flush=True)
        variables = workspaces.variables(folder)
        for stage in study.stages:
            if stopped.is_set():
                return 130
            if status := run_dvc(["repro", stage], folder, logs[stage], env=variables)[0]:
                return status
            made.add(study.stages[stage])
    return 0


def jobs_for(configs: Sequence[Config]) -> int:
    """How many stages or studies, whichever of these settings they have, there is room for, one at least."""
    return min(*map(most_of, configs), at_once(max(map(cores_of, configs))))


def most_of(config: Config) -> int:
    """How many may run at once if there are cores for them: ON_GPU where a GPU may be theirs."""
    return sys.maxsize if config.device == "cpu" else ON_GPU


def cores_of(config: Config) -> int:
    """Cores that a stage takes: its threads, or one for each game of GAMES."""
    return max(config.threads, config.evaluate.num_envs if config.env.name.startswith(GAMES) else 1)


def at_once(threads: int) -> int:
    """How many jobs of so many threads the idle cores have room for, one at least."""
    return max(1, idle_cores() // threads)


def idle_cores() -> int:
    """Cores that nobody uses, looked at for a second."""
    idle = round((1 - float(psutil.cpu_percent(1.0)) / 100) * (os.cpu_count() or 1))
    return min(our_cores(), idle)


def our_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
