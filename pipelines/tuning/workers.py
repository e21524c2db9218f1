"""The processes of a study: workers that try settings, and the one that watches over them and keeps the books."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from pipelines import paths
from pipelines.tuning import study as studies
from pipelines.tuning import trial_runs
from pipelines.tuning.study import Plan, Study
from pipelines.tuning.trial import Record
from rmiov2.config import Config
from rmiov2.progress import news
from rmiov2.training.finetune import ROUNDS
from rmiov2.types import UserError

POLL_SECONDS = 1.0
SPAWN = multiprocessing.get_context("spawn")  # a forked torch or jax hangs


def run(plan: Plan, config: Config, wanted: int, workers: int, lost: str) -> None:
    """Let workers try settings until `wanted` trials have finished, one more for each worker at most.

    Raises UserError if a trial cannot be run, or if every worker has died; the same call goes on later.
    """
    study = studies.begin(plan, config)
    pool: list[SpawnProcess] = []
    books = _Books(plan, config, wanted)
    try:
        while studies.finished(study) < wanted:
            for sentence in studies.reap(study, lost):
                print(f"tuning: {sentence}", flush=True)
            due = min(workers, wanted - studies.in_hand(study))
            if not pool and due > 0:
                pool = [_start(plan, wanted, number) for number in range(due)]
            time.sleep(POLL_SECONDS)
            pool = _survivors(pool, study)
            books.keep(study)
        for process in pool:
            process.join()
    finally:
        for process in pool:
            process.terminate()
            process.join()
        studies.reap(study)
        books.keep(study)


def _start(plan: Plan, wanted: int, number: int) -> SpawnProcess:
    log = plan.folder / f"worker-{number}.log"
    process = SPAWN.Process(target=work, args=(plan, wanted, number, log), name=f"worker {number}")
    process.start()
    print(f"tuning: worker {number} runs, `tail -f {log.relative_to(paths.ROOT)}` watches", flush=True)
    return process


def _survivors(pool: list[SpawnProcess], study: Study) -> list[SpawnProcess]:
    """Those that go on; raises UserError if one failed, or if none is left and one was killed."""
    ended = [process for process in pool if not process.is_alive()]
    alive = [process for process in pool if process.is_alive()]
    killed = [process for process in ended if process.exitcode]
    for process in killed:
        print(f"tuning: {process.name} ended with {process.exitcode}", file=sys.stderr, flush=True)
        if process.exitcode == 2:
            raise UserError(_last_error(study))
    if killed and not alive:
        raise UserError("every worker has died; see the end of their logs, then run the same command again to go on")
    return alive


def _last_error(study: Study) -> str:
    told = [trial for trial in study.get_trials(deepcopy=False) if "error" in trial.user_attrs]
    newest = max(told, key=lambda trial: trial.number)
    return f"trial {newest.number} cannot be run: {newest.user_attrs['error']}; the same command goes on without it"


def work(plan: Plan, wanted: int, number: int, log: Path) -> None:
    """One worker process: try settings while there are trials to begin."""
    _to_log(log)
    _die_with_parent()
    study, _, config = studies.load(plan.study, plan.storage)
    studies.sharpen(study, config, number)
    while studies.in_hand(study) < wanted:
        try:
            studies.attempt(study, plan, config)
        except UserError as error:
            print(error, file=sys.stderr, flush=True)
            sys.exit(2)


def _to_log(log: Path) -> None:
    """Send all that this process and its libraries say to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _die_with_parent() -> None:
    """A worker whose study was killed stops at once: what it was doing is taken up by the next run."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Books:
    """Tells what is new since the last time: on the screen, and to MLflow."""

    def __init__(self, plan: Plan, config: Config, wanted: int) -> None:
        self.plan, self.config, self.wanted = plan, config, wanted
        self.told: set[int] | None = None
        self.say: Callable[[str, float], None] = news(f"tuning {plan.study}")
        self.mirror = trial_runs.Mirror(plan.study, plan.space, config)

    def keep(self, study: Study) -> None:
        """One line for every trial that has ended, and how far the others are."""
        trials = studies.records(study, self.plan)
        ended = [trial for trial in trials if trial.state != "RUNNING"]
        for trial in ended if self.told is not None else ():
            if trial.number not in (self.told or ()):
                print(f"tuning: {told(trial)}", flush=True)
        if self.told is None or {trial.number for trial in ended} - self.told:
            self.mirror.update(ended)
        self.told = {trial.number for trial in ended}
        running = [trial for trial in trials if trial.state == "RUNNING"]
        done = studies.finished(study) + sum(min(len(trial.l_rec), ROUNDS) / (ROUNDS + 1) for trial in running)
        doing = ", ".join(f"trial {t.number} L_rec {t.l_rec[-1]:.3f}" for t in running if t.l_rec)
        self.say(doing, min(1.0, done / self.wanted))


def told(trial: Record) -> str:
    """One line on a trial that has ended."""
    numbers = [f"AUC {trial.auc:.3f}"] if trial.auc is not None else []
    numbers += [f"L_rec {trial.l_rec[-1]:.3f}"] if trial.l_rec else []
    numbers += [f"{trial.wall_s:.0f} s"] if trial.wall_s is not None else []
    values = " ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in trial.params.items())
    return f"trial {trial.number} {trial.state.lower()}: {' '.join(numbers)}  {values}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
