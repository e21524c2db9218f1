"""The trials of a study as MLflow runs: one parent for the study, one child for each trial that has ended.

A mirror of Optuna's storage, which stays the only truth: what is missing is added, so a stop in between loses nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from pipelines.models import tracking
from pipelines.tuning.trial import Record
from rmiov2.config import Config
from rmiov2.types import UserError

STATUS = {"COMPLETE": "FINISHED", "PRUNED": "FINISHED", "FAIL": "FAILED"}


class Mirror:
    """One study in MLflow, where tracking.uri() says, in the experiment of its environment.

    A store that does not answer costs a warning; the next update adds what is missing.
    """

    def __init__(self, study: str, space: str, config: Config) -> None:
        self.study, self.space, self.config = study, space, config
        self.client: Any = None
        self.experiment = self.parent = ""
        self.there: set[str] = set()

    def update(self, ended: Sequence[Record]) -> None:
        """Add the runs that are missing."""
        if tracking.uri() == tracking.OFF or not ended:
            return
        try:
            with tracking.one_sentence():
                self._add_missing(ended)
        except UserError as reason:
            print(f"WARNING tuning: not recorded, but Optuna's storage has it: {reason}", file=sys.stderr, flush=True)

    def _add_missing(self, ended: Sequence[Record]) -> None:
        if not self.parent:
            self._open()
        for trial in ended:
            if str(trial.number) not in self.there:
                self._add(trial)
                self.there.add(str(trial.number))

    def _open(self) -> None:
        self.client = tracking.open_store()
        self.experiment = tracking.experiment_of(self.client, self.config.env.name)
        self.there = {run.data.tags["optuna.trial"] for run in self._runs("trial") if run.info.status != "RUNNING"}
        runs = self._runs("study")
        self.parent = runs[0].info.run_id if runs else self._begin()

    def _runs(self, kind: str) -> list[Any]:
        wanted = f"tags.`optuna.study` = '{self.study}' AND tags.`optuna.kind` = '{kind}'"
        return list(self.client.search_runs([self.experiment], wanted, max_results=10_000))

    def _begin(self) -> str:
        tags = {"optuna.study": self.study, "optuna.kind": "study", "space": self.space, "env": self.config.env.name}
        run = self.client.create_run(self.experiment, tags=tags, run_name=self.study)
        self.client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _add(self, trial: Record) -> None:
        from mlflow.entities import Metric, Param

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
