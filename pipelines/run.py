"""The main job: what a killed run left behind is taken away, then every stage is brought up to date, in DVC's order.

Stages that do not wait for one another run side by side, as many as there are idle cores for.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter

from pipelines import environment, paths
from pipelines.processes.dvc_stage import (
    LOCK_DELAYS,
    DvcLocked,
    Say,
    by_those_behind,
    dag,
    log_of,
    run_dvc,
    run_stage,
)
from pipelines.processes.heal import heal, living
from pipelines.processes.lifeline import PATIENCE, WATCHED, alone, orphaned
from pipelines.processes.screen import Screen
from pipelines.refusals import refuse_unrunnable
from pipelines.studies.fan_out import cores_of, declared, end, idle_cores, most_of
from pipelines.studies.records import processor
from rmiov2.config import Config, load
from rmiov2.program import exit_code, parser_of, positive
from rmiov2.types import UserError

Room = Callable[[int], bool]  # whether a stage may begin beside so many that run

LOOK = 3.0  # seconds between two looks at whether there is room


def run(targets: Sequence[str], jobs: int | None) -> None:
    """Bring the stages up to date, or the targets and what they wait for; raises UserError for those that failed.

    A stage that fails stops none but those that wait for it.
    """
    for name in (signal.SIGINT, signal.SIGTERM):  # also where it was started in the background, which ignores Ctrl-C
        signal.signal(name, signal.default_int_handler)
    environment.prepare()
    with alone("run", patience=0):
        config = load(paths.PARAMS)
        wait_for_orphans()
        for sentence in heal(paths.ROOT):
            print(sentence, flush=True)
        stages = needed(dag(paths.ROOT), targets)
        began, wrong = time.monotonic(), list[UserError]()
        if stale := out_of_date(targets, stages):
            if on_the_device(stale):  # what is here from elsewhere, and the page of it, need no such device
                refuse_unrunnable(config)
                print(what_and_where(config), flush=True)
            wrong = bring_up_to_date(stages, room_of(jobs, config))
    if wrong:
        raise UserError("\n".join(str(error) for error in wrong))
    print(f"run: {len(stages)} stages up to date, {time.monotonic() - began:.0f} s", flush=True)


def what_and_where(config: Config) -> str:
    """What is about to be trained, and what calculates it: teams of one seed differ by that."""
    import torch

    release, threads = ".".join(torch.__version__.split(".")[:2]), config.threads
    where = f"on {config.device}, {processor(config.device)}, torch {release}, {threads} thread{'s' * (threads > 1)}"
    return f"{where}: {config.agent.label} on {config.env.name}, {config.pretrain.env_steps:,} steps"


def out_of_date(targets: Sequence[str], stages: Sequence[tuple[str, list[str]]]) -> set[str]:
    """Stages that DVC finds changed, and all that wait for them; every one where it cannot tell.

    Asked once, that is quicker to know than stage by stage.
    """
    command = ["--quiet", "status", "--json", *(["--with-deps", *targets] if targets else [])]
    status, said = run_dvc(command, paths.ROOT, log_of(paths.ROOT, "status"))
    if status:
        return {stage for stage, _ in stages}
    changed = set(json.loads(said[-1] if said else "{}"))
    for stage, earlier in stages:
        if changed & set(earlier):
            changed.add(stage)
    return changed


def on_the_device(stages: set[str]) -> set[str]:
    """Those that read where to calculate; a user's own, of another dvc.yaml, do not."""
    return {stage for stage in stages if "device" in declared().get(stage.partition("@")[0], ())}


def bring_up_to_date(stages: Sequence[tuple[str, list[str]]], room: Room) -> list[UserError]:
    """Run those that are not, and show what they say; what failed."""
    stopped = threading.Event()
    with Screen() as screen:
        variables = screen.variables | {WATCHED: str(os.getpid())}

        def work(stage: str) -> None:
            try:
                patiently(stage, screen.of(stage), variables, stopped)
            except UserError as error:
                screen.say(str(error))  # at once: what does not wait for it may run for hours
                raise
            finally:
                screen.ended(stage)

        return side_by_side(stages, room, work, stopped)


def needed(stages: Sequence[tuple[str, list[str]]], targets: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Those that are named, by their cell or for all cells of a matrix, and all that they wait for; all if none is."""
    chosen = {stage for stage, _ in stages if not targets or stage in targets or stage.partition("@")[0] in targets}
    known = {name for stage, _ in stages for name in (stage, stage.partition("@")[0])}
    if unknown := set(targets) - known:
        names = ", ".join(stage for stage, _ in stages) or "those of dvc.yaml, which has none or is not there"
        raise UserError(f"no stage {', '.join(sorted(unknown))}; expected of {names}")
    for stage, earlier in reversed(stages):
        if stage in chosen:
            chosen |= set(earlier)
    return [(stage, earlier) for stage, earlier in stages if stage in chosen]


def room_of(jobs: int | None, config: Config) -> Room:
    """Room for `jobs` stages; by default for one, and for another while cores are idle for it, to ON_GPU on a GPU."""
    if jobs is not None:
        return lambda running: running < jobs
    cores, most = cores_of(config), most_of(config)
    return lambda running: running < most and idle_cores() >= cores


def side_by_side(
    stages: Sequence[tuple[str, list[str]]], room: Room, work: Callable[[str], object], stopped: threading.Event
) -> list[UserError]:
    """work(stage) of each when those that it waits for are done, and there is room beside what runs; what failed.

    First comes the one that most others wait for. Stopped by Ctrl-C or SIGTERM, stopped is set and none works on.
    """
    order, sorter = by_those_behind(dict(stages)), TopologicalSorter(dict(stages))
    sorter.prepare()
    ready, running, wrong = list[str](), dict[Future[object], str](), list[UserError]()
    with ThreadPoolExecutor(len(stages)) as pool:
        try:
            while True:
                ready = sorted([*ready, *sorter.get_ready()], key=order.index)
                if ready and (not running or room(len(running))):
                    stage = ready.pop(0)
                    running[pool.submit(work, stage)] = stage
                if not running:
                    return wrong
                # One begins at a time, and is at work before the next look at what is idle.
                for future in wait(running, LOOK if ready else None, FIRST_COMPLETED).done:
                    try:
                        future.result()
                        sorter.done(running[future])
                    except UserError as error:
                        wrong.append(error)
                    del running[future]
        except BaseException:
            stopped.set()
            end(list(running))
            raise


def patiently(stage: str, say: Say, variables: dict[str, str], stopped: threading.Event) -> None:
    """run_stage, again where it met a lock of DVC's; raises UserError if that does not go away."""
    for delay in LOCK_DELAYS:
        try:
            run_stage(stage, paths.ROOT, say, env=variables)
            return
        except DvcLocked:
            if stopped.wait(delay):
                raise
    run_stage(stage, paths.ROOT, say, env=variables)


def wait_for_orphans() -> None:
    """Until every DVC whose starter was killed has ended, as each does by itself; raises UserError for any other."""
    until, told = time.monotonic() + PATIENCE, False
    while others := living(paths.ROOT):
        if time.monotonic() > until or not all(map(orphaned, others)):
            raise UserError(f"process {others[0].pid} runs DVC here already; wait for it or end it, then run again")
        if not told:
            told = True
            print(f"waits for process {others[0].pid}, left behind by a kill, to end", flush=True)
        time.sleep(0.2)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command, see the top of this file."""
    made = parser_of("python -m pipelines.run", __doc__)
    made.add_argument(
        "targets", nargs="*", metavar="STAGE", help="of dvc.yaml, with all that it waits for (default: all)"
    )
    made.add_argument("--jobs", type=positive, metavar="N", help="stages side by side (default: as cores are idle)")
    options = made.parse_args(arguments)
    stays = "the same command goes on from what is saved in state/resume"
    return exit_code("run", lambda: run(options.targets, options.jobs), stays)


if __name__ == "__main__":
    sys.exit(main())
