"""The sweep: studies over environments, agents, p_mask and seeds, each in its workspace, their results side by side."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import prefect
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ProcessPoolTaskRunner

from pipelines import environment, flow, paths
from pipelines.processes.dvc_stage import dag
from pipelines.refusals import refuse_unrunnable
from pipelines.run import needed
from pipelines.seeds import overlay
from pipelines.studies import workspace
from rmiov2.config import load
from rmiov2.types import UserError

KINDS = ("thread", "process", "dask")
RESULTS = paths.REPORTS / "sweep"


def kind() -> str:
    """What RMIOV2_RUNNER says; raises UserError if it is none of KINDS."""
    wanted = os.environ.get("RMIOV2_RUNNER", "thread")
    if wanted not in KINDS:
        raise UserError(f"RMIOV2_RUNNER is {wanted!r}, expected {', '.join(KINDS)}")
    return wanted


def runner(jobs: int) -> Any:
    """Where the studies run: `jobs` at once here or on a Dask cluster of this machine, or on the Dask scheduler at
    RMIOV2_CLUSTER, on all the workers that it has.
    """
    if kind() == "thread":
        return flow.threads(jobs)
    if kind() == "process":
        return ProcessPoolTaskRunner(max_workers=jobs)
    from prefect_dask.task_runners import DaskTaskRunner

    if address := os.environ.get("RMIOV2_CLUSTER"):
        return DaskTaskRunner(address=address)
    return DaskTaskRunner(cluster_kwargs={"n_workers": jobs, "threads_per_worker": 1})


@task(name="study", task_run_name="{label}", cache_policy=NO_CACHE, persist_result=False)
def study_task(label: str, overrides: list[str]) -> dict[str, bytes]:
    """One study in the workspace of the machine that it runs on; its small results, by name.

    What Dask carries between machines are these bytes: no disk needs to be shared.
    """
    environment.prepare()
    before = flow.stops()
    with workspace.checkout(overrides) as root:
        refuse_unrunnable(load(root / "params.yaml"))
        for stage, _ in needed(dag(root), ["evaluate"]):  # no more is kept of a study
            flow.prepared(stage, root, before)(stage, root, before)
        return workspace.small(root)


@prefect.flow(
    name=f"{flow.NAME}-sweep", task_runner=flow.threads(flow.SERVED), persist_result=False, result_serializer="json"
)
def sweep(
    envs: list[str],
    seeds: list[int],
    agents: list[str] | None = None,
    p_mask: list[float] | None = None,
    settings: list[str] | None = None,
) -> str:
    """A study for every combination, what agents and p_mask leave out being conf's default; where the results lie.

    All end before the first that failed raises what it raised.
    """
    environment.prepare()
    flow.mark_lost_runs()
    choices: list[list[Any]] = [agents or [None], p_mask or [None]]
    groups = [
        workspace.overrides_of(settings or (), env=env, agent=agent, p_mask=mask)
        for env, agent, mask in itertools.product(envs, *choices)
    ]
    futures = start([[*group, f"seed={seed}"] for group in groups for seed in seeds])
    for future in futures.values():
        future.result()
    rows = [side_by_side(RESULTS / workspace.slug(group), seeds) for group in groups]
    create_table_artifact(list(itertools.chain(*rows)), key="sweep", description="the headline mode, by study")
    return str(RESULTS)


def start(cells: Sequence[list[str]]) -> dict[str, Any]:
    """Every study to its end, the results of those that ended well kept."""
    futures = {}
    try:
        for cell in cells:
            futures[workspace.slug(cell)] = study_task.submit(workspace.slug(cell), cell)
        for cell, future in zip(cells, futures.values(), strict=True):
            future.wait()
            if future.state.is_completed():
                *group, seed = cell
                workspace.keep(future.result(), RESULTS / workspace.slug(group) / workspace.slug([seed]))
    except BaseException:
        stop_everywhere()
        raise
    return futures


def stop_everywhere() -> None:
    """End the studies: here, in processes of ours, whose stages see them go, and on the workers of a cluster."""
    flow.stop_all()
    for child in multiprocessing.active_children():
        child.terminate()
    if kind() == "dask":
        from prefect.context import FlowRunContext

        context = FlowRunContext.get()
        if context is not None:
            context.task_runner.client.run(flow.stop_all)


def side_by_side(folder: Path, seeds: Sequence[int]) -> list[dict[str, str]]:
    """One row for each seed of a group, and the picture of all beside their files."""
    kept = [folder / f"seed-{seed}" for seed in seeds]
    overlay(kept)
    rows = []
    for seed, path in zip(seeds, kept, strict=True):
        summary = json.loads((path / "evaluate.json").read_text())
        headline, *_ = flow.table(summary)
        rows.append({"study": folder.name, "seed": str(seed), **headline})
    return rows
