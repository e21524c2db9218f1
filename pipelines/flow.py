"""The flow: one Prefect task for every stage of dvc.yaml, in DVC's order; DVC alone knows what is up to date."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from prefect import flow, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter
from prefect.client.schemas.objects import State, StateType
from prefect.context import get_run_context
from prefect.logging import get_run_logger
from prefect.states import Completed, Crashed
from prefect.task_runners import ThreadPoolTaskRunner

from pipelines import environment, paths
from pipelines.processes.dvc_stage import (
    LOCK_DELAYS,
    REFUSED,
    DvcLocked,
    Outcome,
    StageFailed,
    dag,
    kill_all,
    run_stage,
    surroundings,
)
from pipelines.processes.lifeline import still_lives
from pipelines.processes.screen import throttled
from pipelines.refusals import refuse_unrunnable
from pipelines.studies import workspace
from rmiov2.config import load
from rmiov2.types import UserError

NAME = "rmiov2"
SERVED = 2  # stages, or studies, at once where a schedule starts them; pipelines.study looks at what is idle
STATES = {"ran": "Ran", "cached": "Cached", "up-to-date": "UpToDate"}
_stops = 0


@dataclass(frozen=True)
class Patience:
    """What dvc.yaml says under a stage's `meta`: how often it may fail and pass, and how long it may take."""

    retries: int = 0
    timeout_s: float | None = None

    @classmethod
    def of(cls, stage: str, root: Path) -> Patience:
        """The patience for a stage, or for the one whose matrix it is of; raises UserError for an unknown key."""
        declared = yaml.safe_load((root / "dvc.yaml").read_text())["stages"].get(stage.partition("@")[0], {})
        meta = declared.get("meta", {})
        if unknown := set(meta) - {"retries", "timeout_s"}:
            raise UserError(f"dvc.yaml: {stage} has meta {', '.join(unknown)}, expected retries or timeout_s")
        return cls(**meta)


def stops() -> int:
    """How often everything was stopped; a stage prepared before the last time is not started or tried again."""
    return _stops


def stop_all() -> None:
    """End every stage of this process, and let none of them be tried again."""
    global _stops
    _stops += 1
    kill_all()


@task(
    name="stage",
    task_run_name="{stage}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retry_delay_seconds=LOCK_DELAYS,
    tags=["dvc"],
)
def stage_task(stage: str, root: Path, before: int) -> State[Outcome]:
    """Bring one stage up to date, its words in the run's log."""
    if stops() != before:
        raise StageFailed(f"{stage} was stopped before it began", None)
    limit = Patience.of(stage, root).timeout_s  # Prefect's own time-out cannot interrupt a thread that waits
    say = throttled(get_run_logger().info)
    outcome = run_stage(stage, root, say, env=workspace.variables(root), timeout_s=limit)
    return Completed(name=STATES[outcome.outcome], message=f"{outcome.seconds:.0f} s", data=outcome)


def prepared(stage: str, root: Path, before: int) -> Any:
    """The task of a stage with its patience: it waits for locks anyway, and is tried again as often as it may fail.

    Settings that the stage refuses will be refused again, so that is final.
    """
    patience, failures = Patience.of(stage, root), list[Any]()

    def may_pass(_task: Any, _run: Any, state: State[Any]) -> bool:  # a function: Prefect takes no other callable
        error = state.data
        if stops() != before or (isinstance(error, StageFailed) and error.status == REFUSED):
            return False
        if not isinstance(error, DvcLocked):
            failures.append(error)
        return len(failures) <= patience.retries

    return stage_task.with_options(retries=len(LOCK_DELAYS) + patience.retries, retry_condition_fn=may_pass)


def run_stages(root: Path) -> dict[str, str]:
    """Every stage of the graph and what became of it; raises StageFailed when all that could run has run."""
    stages, before, futures = dag(root), stops(), dict[str, Any]()
    progress: Any = create_progress_artifact(0.0, key="progress", description="stages that are done")
    try:
        for stage, earlier in stages:
            waits = [futures[name] for name in earlier]
            futures[stage] = prepared(stage, root, before).submit(stage, root, before, wait_for=waits)
        for done, future in enumerate(futures.values(), 1):
            future.wait()
            if future.state.is_completed():
                update_progress_artifact(progress, progress=100.0 * done / len(stages))
    except BaseException:
        stop_all()  # else the pool would wait for a training of hours
        raise
    for future in futures.values():
        future.result()
    return {stage: future.state.name for stage, future in futures.items()}


@task(name="register", cache_policy=NO_CACHE, persist_result=False)
def register_task(root: Path) -> None:
    """Enter the team in the registry; raises UserError with the last words of the command that failed."""
    command = [sys.executable, "-m", "pipelines.registry", "register"]
    variables = surroundings() | workspace.variables(root)
    done = subprocess.run(
        command, cwd=root, env=variables, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for line in done.stdout.splitlines():
        get_run_logger().info(line)
    if done.returncode:
        raise UserError(f"register failed: {(done.stdout.splitlines() or ['it said nothing'])[-1]}")


def table(summary: dict[str, Any]) -> list[dict[str, str]]:
    """metrics/evaluate.json as rows, the headline first: a mode, its performance by p_loss, the area under that."""
    rows = []
    for mode, curve in summary["performance"].items():
        points = {f"p_loss {p:g}": f"{value:.2f}" for p, value in zip(summary["p_loss"], curve, strict=True)}
        low, high = summary["auc_ci95"][mode]
        rows.append({"mode": mode, **points, "AUC [95 %]": f"{summary['auc'][mode]:.2f} [{low:.2f}, {high:.2f}]"})
    return rows


def publish(root: Path, outcomes: dict[str, str]) -> None:
    """The result table and the way to the report, for Prefect's page."""
    summary = json.loads((root / "metrics" / "evaluate.json").read_text())
    described = f"{summary['measure']} on {summary['env']} by the probability that an observation is lost"
    create_table_artifact(table(summary), key="result", description=described)
    report = root / "reports" / "index.html"
    if "report" in outcomes and not report.exists():  # its stage has no output that DVC could miss
        run_stage("report", root, get_run_logger().info, force=True, env=workspace.variables(root))
    became = "\n".join(f"| {stage} | {name} |" for stage, name in outcomes.items())
    create_markdown_artifact(
        f"[The report]({report.as_uri()}): `{report}`\n\n| stage | |\n|---|---|\n{became}\n", key="report"
    )


def mark_lost_runs() -> None:
    """Runs of this checkout that are called running although their process is gone become Crashed."""
    mine = {"rmiov2.root": str(paths.ROOT), "rmiov2.host": socket.gethostname()}
    me = psutil.Process()
    own = {**mine, "rmiov2.process": me.pid, "rmiov2.since": me.create_time()}
    running = FlowRunFilter.model_validate({"state": {"type": {"any_": [StateType.RUNNING]}}})
    named = FlowFilter(name=FlowFilterName(any_=[NAME, f"{NAME}-sweep"]))
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(get_run_context().flow_run.id, own)
        for run in client.read_flow_runs(flow_filter=named, flow_run_filter=running):
            told = run.labels
            if mine.items() <= told.items() and not still_lives(told["rmiov2.process"], told["rmiov2.since"]):
                message = "its process is gone; run it again, it goes on from its last checkpoint"
                client.set_flow_run_state(run.id, Crashed(message=message), force=True)


def threads(number: int) -> Any:
    """A pool of bounded size; Prefect's own default has no bound."""
    return ThreadPoolTaskRunner(max_workers=number)


@flow(name=NAME, task_runner=threads(SERVED), persist_result=False, result_serializer="json")
def pipeline(
    env: str | None = None,
    agent: str | None = None,
    seed: int | None = None,
    p_mask: float | None = None,
    settings: list[str] | None = None,
    registration: bool = True,
) -> dict[str, str]:
    """From the first buffer to the page; with any setting in a workspace of its own, else in this checkout.

    settings: others of `python -m pipelines.params`, such as preset=toy. What is not named is conf's default.
    """
    environment.prepare()
    mark_lost_runs()
    overrides = workspace.overrides_of(settings or (), env=env, agent=agent, seed=seed, p_mask=p_mask)
    with workspace.checkout(overrides) as root:
        refuse_unrunnable(load(root / "params.yaml"))
        outcomes = run_stages(root)
        publish(root, outcomes)
        if registration:
            register_task(root)
    return outcomes
