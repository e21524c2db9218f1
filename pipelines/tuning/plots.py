"""Optuna's pictures of a study: how it went, what mattered, and every setting by itself."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as pictures

from rmiov2.files import write_bytes

NEEDED = 3  # complete trials, before anything can be said about what mattered


def draw(study: Study, folder: Path) -> list[Path]:
    """history, importance and slice as PNGs, and with two objectives the front; none below NEEDED complete trials."""
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < NEEDED:
        return []
    matplotlib.use("Agg")
    target = _auc if len(study.directions) > 1 else None
    drawn: dict[str, Callable[[], Any]] = {
        "history": lambda: pictures.plot_optimization_history(study, target=target, target_name="AUC"),
        "importance": lambda: pictures.plot_param_importances(
            study, target=_loss if target else None, target_name="AUC"
        ),
        "slice": lambda: pictures.plot_slice(study, target=target, target_name="AUC"),
    }
    if len(study.directions) > 1:
        drawn["front"] = lambda: pictures.plot_pareto_front(study, target_names=["AUC", "updates"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # experimental functions, axes of one value
        return [_save(make(), folder / f"{name}.png") for name, make in drawn.items()]


def _auc(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _loss(trial: FrozenTrial) -> float:
    return -_auc(trial)  # importance is for reaching low values


def _save(axes: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure = np.ravel(axes)[0].figure
    figure.set_size_inches(max(7.0, 3.0 * np.size(axes)), 4.5)
    for axis in np.ravel(axes) if np.size(axes) > 1 else ():
        axis.tick_params("x", which="both", rotation=40)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    write_bytes(path, picture.getvalue())
    return path
