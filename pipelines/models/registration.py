"""From what the pipeline made last to a version of a registered model: weights, episodes, and what made them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipelines import paths
from pipelines.models import promotion, tracking
from rmiov2.config import Config
from rmiov2.evaluation.modes import own_mode
from rmiov2.types import UserError

REQUIRED = ("rmiov2", "mlflow", "torch", "numpy", "scipy", "pydantic", "safetensors")
MEASURED = ("data/", "models/", "results/", "metrics/", "params.yaml")  # code that changed does not make numbers wrong


@dataclass(frozen=True)
class Measured:
    """What is registered together: the weights, the episodes they were measured by, and their summary."""

    checkpoint: Path = paths.FINETUNED / "checkpoint.safetensors"
    episodes: Path = paths.RESULTS / "episodes.parquet"
    summary: Path = paths.METRICS / "evaluate.json"


def refuse_stale() -> None:
    """Raise UserError if the results on disk are not those of the models and settings on disk, by DVC's word."""
    from dvc.repo import Repo

    with Repo(str(paths.ROOT)) as repo:
        status = repo.status(targets=["evaluate"])
    changed = [entry for change in status.get("evaluate", []) if isinstance(change, dict) for entry in change.values()]
    names = [name for entry in changed if isinstance(entry, dict) for name in entry if name.startswith(MEASURED)]
    if names:
        raise UserError(
            f"{', '.join(sorted(set(names)))}: changed since the evaluation; run `dvc repro evaluate` first"
        )


def register(config: Config, measured: Measured) -> tuple[str, bool]:
    """(version, whether it is new) of a team; the same weights measured by the same episodes are registered once."""
    from rmiov2.files import read_bytes

    digests = {
        name: hashlib.md5(read_bytes(path, f"no {path}; run `make run` first"), usedforsecurity=False).hexdigest()
        for name, path in asdict(measured).items()
    }
    client, model = tracking.open_store(), tracking.name_of(config.env.name)
    with tracking.locked("registry"):
        for version in versions(client, model):
            if all(version.tags.get(name) == digests[name] for name in ("checkpoint", "episodes")):
                return str(version.version), False
        return _add(client, config, measured, digests), True


def _add(client: Any, config: Config, measured: Measured, digests: dict[str, str]) -> str:
    """The version becomes visible last, with all its tags."""
    import mlflow

    summary = json.loads(measured.summary.read_text())
    own = own_mode(summary["auc"])
    low, high = summary["auc_ci95"][own]
    numbers = {"auc": summary["auc"][own], "auc_low": low, "auc_high": high}
    tags = digests | {"protocol": promotion.protocol(config), "agent": config.agent.label, "env": config.env.name}
    tags |= {name: f"{value:.6g}" for name, value in numbers.items()} | tracking.circumstances()
    with mlflow.start_run(experiment_id=tracking.experiment_of(client, config.env.name), run_name="register"):
        logged = _log_model(measured)
        mlflow.log_metrics(numbers, model_id=logged.model_id)
    model = tracking.name_of(config.env.name)
    return str(mlflow.register_model(logged.model_uri, model, tags=tags).version)


def _log_model(measured: Measured) -> Any:
    """The team as a pyfunc model, made anew from its file and its checkpoint wherever it is loaded."""
    from importlib.metadata import version

    import mlflow
    import numpy as np

    import rmiov2
    from rmiov2.execution.window import shapes

    agent = rmiov2.load(measured.checkpoint)
    parts = shapes(agent.spec, agent.config.execution.history)
    example = {name: np.zeros((1, *shape), np.float32) for name, shape in parts.items()}
    example["rows"][:] = example["start"][:] = 1
    example["obs"][:, :, -1] = np.nan
    if agent.spec.discrete:
        example["avail"][:] = 1
    answer = {
        "act": np.zeros((1, *parts["act"][1:]), np.int64 if agent.spec.discrete else np.float32),
        "obs": np.zeros((1, *parts["obs"][1:]), np.float32),
    }
    return mlflow.pyfunc.log_model(
        name="team",
        python_model=str(Path(__file__).with_name("team_model.py")),
        artifacts={name: str(path) for name, path in asdict(measured).items()},
        signature=mlflow.models.infer_signature(example, answer),
        input_example=example,
        pip_requirements=[f"{package}=={version(package)}" for package in REQUIRED],
    )


def versions(client: Any, model: str) -> list[Any]:
    """Every version, the oldest first."""
    return sorted(client.search_model_versions(f"name='{model}'"), key=lambda version: int(version.version))
