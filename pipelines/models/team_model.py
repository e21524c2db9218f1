"""The registered model: MLflow stores this file beside the checkpoint and runs it to load the team (no pickle).

Numbers are float32 throughout, since JSON knows one kind and its null becomes NaN; what must be whole is checked here.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

import rmiov2
from rmiov2.execution.window import Window, decide
from rmiov2.types import Floats, UserError

warnings.filterwarnings("ignore", ".*Add type hints to the `predict` method")  # the signature says it all


class TeamModel(PythonModel):
    """A window of l steps in (rmiov2.execution.window.Window), the joint action and the present observations out."""

    def load_context(self, context: PythonModelContext) -> None:
        """The team from the checkpoint."""
        import torch

        self.agent = rmiov2.load(context.artifacts["checkpoint"])
        torch.set_num_threads(self.agent.config.threads)

    # Unannotated: MLflow takes an annotation for a schema of its own, beside the signature.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """act (B, N) or (B, N, A) and obs (B, N, O), as `decide`; 400 and one sentence for a window that cannot be."""
        try:
            act, completed = decide(self.agent, _window(model_input, self.agent.spec.discrete))
        except UserError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from error
        return {"act": act, "obs": _with_nulls(completed)}


def _window(given: dict[str, Floats], discrete: bool) -> Window:
    start = _whole("start", given["start"])
    if not np.isin(start, (0, 1)).all():
        raise UserError("start: got something else than true and false")
    rows = _whole("rows", given["rows"])
    act = _actions(given["act"], rows) if discrete else given["act"]
    return Window(given["obs"], act, given["avail"] if discrete else None, rows, start.astype(bool))


def _actions(act: Floats, rows: Any) -> Any:
    """Whole numbers (B, l, N); what stands where no action was taken yet is not looked at."""
    if len(act) == len(rows) and np.isnan(act[np.arange(act.shape[1]) < rows[:, None] - 1]).any():
        raise UserError("act: got null for an action that was taken, expected what was chosen at every past row")
    return _whole("act", np.nan_to_num(act))


def _with_nulls(obs: Floats) -> Any:
    """JSON has no NaN: None in its place."""
    lost = np.isnan(obs)
    if not lost.any():
        return obs
    told = obs.astype(object)
    told[lost] = None
    return told


def _whole(name: str, values: Floats) -> Any:
    if not (np.abs(values) < 2**24).all() or not (values == np.round(values)).all():
        raise UserError(f"{name}: got a number that is missing, fractional or huge, expected whole numbers")
    return values.astype(np.int64)


set_model(TeamModel())
