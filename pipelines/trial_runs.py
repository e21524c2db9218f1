"""The trials of a study as MLflow runs: one parent for the study, one child for each trial that has ended.

A mirror of Optuna's storage, which stays the only truth: what is missing is added, so a stop in between loses nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines import paths
from pipelines.tuning.trial import Record
from rmiov2.config import Config

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "tuning"
STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}


class Mirror:
    """One study in MLflow; MLFLOW_TRACKING_URI says where, and `off` that nowhere."""

    def __init__(self, study: str, space: str, config: Config) -> None:
        self.study, self.space, self.config = study, space, config
        self.uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{paths.STATE / 'mlflow.db'}"
        self.client: MlflowClient | None = None
        self.experiment = self.parent = ""
        self.there: set[str] = set()

    def update(self, ended: Sequence[Record]) -> None:
        """Add the runs that are missing."""
        if self.uri == "off" or not ended:
            return
        if self.client is None:
            self._open()
        for trial in ended:
            if str(trial.number) not in self.there:
                self._add(trial)
                self.there.add(str(trial.number))

    def _open(self) -> None:
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        paths.STATE.mkdir(exist_ok=True)
        self.client = MlflowClient(self.uri)
        found = self.client.get_experiment_by_name(EXPERIMENT)
        place = f"file://{paths.STATE / 'mlartifacts'}" if self.uri.startswith("sqlite:") else None
        self.experiment = found.experiment_id if found else self.client.create_experiment(EXPERIMENT, place)
        runs = self._runs("'study'")
        self.parent = runs[0].info.run_id if runs else self._begin()
        self.there = {run.data.tags["optuna.trial"] for run in self._runs("'trial'") if run.info.status != "RUNNING"}

    def _runs(self, kind: str) -> list[Any]:
        assert self.client is not None
        wanted = f"tags.`optuna.study` = '{self.study}' AND tags.`optuna.kind` = {kind}"
        return list(self.client.search_runs([self.experiment], wanted, max_results=10_000))

    def _begin(self) -> str:
        assert self.client is not None
        tags = {"optuna.study": self.study, "optuna.kind": "study", "space": self.space, "env": self.config.env.name}
        run = self.client.create_run(self.experiment, tags=tags, run_name=self.study)
        self.client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _add(self, trial: Record) -> None:
        from mlflow.entities import Metric, Param

        assert self.client is not None
        tags = {
            "mlflow.parentRunId": self.parent,
            "optuna.study": self.study,
            "optuna.kind": "trial",
            "optuna.trial": str(trial.number),
            "optuna.state": trial.state,
        }
        if trial.retry_of is not None:
            tags["optuna.retry_of"] = str(trial.retry_of)
        end = trial.ended_ms
        start = end - int(1000 * (trial.wall_s or 0))
        name = f"{self.study} {trial.number}"
        run = self.client.create_run(self.experiment, start_time=start, tags=tags, run_name=name)
        metrics = [Metric("l_rec", value, end, done) for done, value in enumerate(trial.l_rec)]
        metrics += [Metric("auc", trial.auc, end, 0)] if trial.auc is not None else []
        metrics += [Metric("updates", trial.updates(self.config), end, 0)]
        params = [Param(key, str(value)) for key, value in trial.params.items()]
        self.client.log_batch(run.info.run_id, metrics=metrics, params=params)
        self.client.set_terminated(run.info.run_id, STATUS[trial.state], end)
