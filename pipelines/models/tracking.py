"""What a stage did, mirrored to MLflow: its files are the truth, and losing the mirror loses nothing.

MLFLOW_TRACKING_URI chooses the store: state/mlflow.db unless it is set, a server by its address, `off` for none.
"""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from pipelines import environment, paths
from pipelines.processes.lifeline import held
from rmiov2.types import UserError

OFF = "off"
PACKAGES = ("rmiov2", "torch", "numpy", "jaxmarl", "gymnasium-robotics", "mujoco", "dvc", "mlflow")
PARAM_LIMIT = 6000  # characters
CODE = ("rmiov2", "pipelines", "dvc.yaml", "params.yaml")  # what a commit should hold for its runs to be repeated


def home() -> Path:
    """The folder of the project, also from a temporary copy that `dvc exp run --temp` works in."""
    root = os.environ.get("DVC_ROOT", str(paths.ROOT))
    return Path(root.partition(f"{os.sep}.dvc{os.sep}tmp{os.sep}")[0])


def uri() -> str:
    """Where runs and models are recorded; `off` if nowhere."""
    if named := os.environ.get("MLFLOW_TRACKING_URI"):
        return named
    if "?" in str(home()):
        raise UserError(f"{home()} has a ? in its name, where SQLite's address would end; set MLFLOW_TRACKING_URI")
    return f"sqlite:///{home() / 'state' / 'mlflow.db'}"


def name_of(env: str) -> str:
    """The experiment and the registered model of an environment: smax/3m is rmiov2-smax-3m."""
    return "rmiov2-" + "".join(letter if letter.isalnum() else "-" for letter in env)


def open_store() -> Any:
    """An MlflowClient on uri(); raises UserError if tracking is off.

    Opening makes a new SQLite store or migrates an old one, so one process does it at a time.
    """
    if uri() == OFF:
        raise UserError("MLFLOW_TRACKING_URI is off, so there is no store; unset it or give a server's address")
    environment.prepare()
    import mlflow
    from mlflow.tracking import MlflowClient

    with locked("mlflow") if uri().startswith("sqlite:") else nullcontext():
        mlflow.set_tracking_uri(uri())
        client = MlflowClient()
        client.search_experiments(max_results=1)
    return client


def locked(name: str) -> AbstractContextManager[None]:
    """Wait until no other process of this machine is at it."""
    return held(home() / "state" / f".{name}.lock", name, math.inf)


@contextmanager
def one_sentence() -> Iterator[None]:
    """Raise a UserError of one line for what MLflow, its store, DVC or the disk raises, about a file by its name."""
    from dvc.exceptions import DvcException
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (DvcException, MlflowException, SQLAlchemyError, OSError, json.JSONDecodeError) as error:
        if isinstance(error, OSError) and error.filename:
            raise UserError(f"{error.filename}: {error.strerror}; mend that, then try again") from error
        raise UserError(f"{uri()}: {_reason(error)}; MLFLOW_TRACKING_URI names another store") from error


def _reason(error: Exception) -> str:
    """The first line of what it says, and the next where that only announces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]


def experiment_of(client: Any, env: str) -> str:
    """The id of an environment's experiment, made if need be; a local store keeps its files in state/mlartifacts."""
    from mlflow.exceptions import MlflowException

    name, local = name_of(env), uri().startswith("sqlite:")
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, (home() / "state" / "mlartifacts").as_uri() if local else None))
    except MlflowException as error:  # another process was quicker
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


@contextmanager
def recorded(name: str) -> Iterator[None]:
    """Around the work of a stage, `name` or `name@cell`: a run when it has ended well, a failed one when it raised.

    Nothing is recorded of work that was stopped, since it goes on later.
    """
    began = time.time()
    try:
        yield
    except Exception as error:
        _mirror(name, began, error)
        raise
    _mirror(name, began, None)


def _mirror(name: str, began: float, error: Exception | None) -> None:
    """A store that cannot be reached costs a warning alone: the results are on disk by now, and DVC would throw them
    away if the stage failed.
    """
    if uri() == OFF:
        return
    since = time.perf_counter()
    try:
        with one_sentence():
            record(name, began, error)
    except UserError as reason:
        print(f"WARNING {name}: not recorded, though its files are whole: {reason}", file=sys.stderr)
    else:
        print(f"{name}: recorded in {uri()} ({time.perf_counter() - since:.1f} s)", flush=True)


def record(name: str, began: float, error: Exception | None) -> None:
    """One run of a stage that began at `began` (seconds) and raised `error` or nothing."""
    from dvc.repo import Repo

    with Repo(str(paths.ROOT)) as repo:
        (stage,) = repo.stage.collect(name)
        settings, digests = _settings(stage), _digests(stage, with_outs=error is None)
        metrics = _metrics(stage) if error is None else []
    client = open_store()
    run = client.create_run(
        experiment_of(client, yaml.safe_load(paths.PARAMS.read_text())["env"]["name"]),
        start_time=int(began * 1000),
        run_name=name,
        tags={"dvc.stage": name, **circumstances(error)},
    )
    run_id = str(run.info.run_id)
    _log(client, run_id, params=settings, tags=digests, metrics=metrics)
    if error is None and name == "report":
        for picture in sorted(paths.REPORTS.glob("*.png")):
            client.log_artifact(run_id, str(picture), "figures")
    client.set_terminated(run_id, "FINISHED" if error is None else "FAILED")


def _settings(stage: Any) -> dict[str, str]:
    """The settings that dvc.yaml declares for the stage, by section.name."""
    from dvc.dependency import ParamsDependency

    from pipelines.params import flat

    values: dict[str, Any] = {}
    for dependency in stage.deps:
        if isinstance(dependency, ParamsDependency):
            values |= dependency.read_params()
    return {name: str(value)[:PARAM_LIMIT] for name, value in flat(values).items()}


def _digests(stage: Any, with_outs: bool) -> dict[str, str]:
    """The md5 of every dependency and output, as DVC reckons it: how to find the run that made a file."""
    from dvc.dependency import ParamsDependency

    files = [("dep", item) for item in stage.deps if not isinstance(item, ParamsDependency)]
    files += [("out", item) for item in stage.outs if with_outs]
    return {f"md5.{role}.{item}": item.get_hash().value for role, item in files if item.exists}


def circumstances(error: Exception | None = None) -> dict[str, str]:
    """Tags: versions, commit, experiment, flow, and what went wrong."""
    told = {
        "dvc.exp": os.environ.get("DVC_EXP_NAME"),
        "dvc.exp.baseline": os.environ.get("DVC_EXP_BASELINE_REV"),
        "prefect.flow_run": os.environ.get("PREFECT__FLOW_RUN_ID"),
        "error": None if error is None else f"{type(error).__name__}: {error}",
        "git.commit": _git("rev-parse", "HEAD"),
        "git.changed": _git("status", "--porcelain", "--", *CODE),
    }
    installed = {name: list(metadata.distributions(name=name)) for name in PACKAGES}
    versions = {f"version.{name}": found[0].version for name, found in installed.items() if found}
    return {name: value for name, value in told.items() if value} | versions


def _git(*arguments: str) -> str | None:
    """What git says of the project; None where it is no clone."""
    done = subprocess.run(["git", *arguments], cwd=paths.ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _metrics(stage: Any) -> list[tuple[str, float, int]]:
    """(name, value, step): the numbers of the stage's JSON, and the columns of its curves by their x.

    Steps are whole numbers, so a curve over fractions, such as p_loss, is kept by the number of its row.
    """
    from pipelines.params import flat

    found: list[tuple[str, float, int]] = []
    for out in stage.outs:
        if out.metric:
            final = flat(json.loads(Path(out.fs_path).read_text()))
            found += [(name, float(value), 0) for name, value in final.items() if _number(value)]
        elif out.plot:
            found += _curves(Path(out.fs_path), out.plot["x"])
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _curves(path: Path, x: str) -> Iterator[tuple[str, float, int]]:
    with path.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    whole = all(float(row[x]).is_integer() for row in rows)
    for number, row in enumerate(rows):
        step = int(float(row[x])) if whole else number
        yield from ((f"{path.stem}.{name}", float(value), step) for name, value in row.items() if value and name != x)


def _log(
    client: Any, run_id: str, params: Mapping[str, str], tags: Mapping[str, str], metrics: list[tuple[str, float, int]]
) -> None:
    """Everything at once: one by one, a metric costs a hundredfold."""
    from mlflow.entities import Metric, Param, RunTag

    now = int(time.time() * 1000)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, step) for name, value, step in metrics],
        params=[Param(name, value) for name, value in params.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
