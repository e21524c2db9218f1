"""What DVC and Prefect add to the stages that they run, as a share of the main job."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.table import Row
from pipelines import paths
from pipelines.processes.dvc_stage import dag, surroundings
from pipelines.studies import workspace
from pipelines.studies.cells import walls
from rmiov2.types import UserError

TOY = ("preset=toy", "env=toy_lights")
LIMIT = 0.05
# One stage at a time, as without it: two side by side would hide what the flow costs.
FLOW = "from pipelines import flow; flow.pipeline.with_options(task_runner=flow.threads(1))(registration=False)"


def orchestration() -> list[Row]:
    """The toy preset's stages by themselves, then as a flow that has no server and no database yet."""
    with tempfile.TemporaryDirectory() as folder:
        bare, flow = (workspace.make(Path(folder) / name, TOY, share=False) for name in ("bare", "flow"))
        stages = [[f"pipelines.stages.{name}", *cell.split()] for name, _, cell in named(bare)]
        alone = sum((_seconds(["-m", *stage], bare) for stage in stages), start=np.zeros(2))
        added = _seconds(["-c", FLOW], flow) - alone
    return [row(float(added[0]), float(added[1]), float(alone[0]), main_job(paths.METRICS))]


def named(root: Path) -> list[tuple[str, str, str]]:
    """Every stage as (stage, @, cell of its matrix), in order."""
    return [stage.partition("@") for stage, _ in dag(root)]


def main_job(metrics: Path) -> float:
    """Seconds that the committed main job took at least: most of it is these two stages, not all."""
    return sum(walls(metrics).values())


def row(added: float, added_cpu: float, alone: float, job: float) -> Row:
    """What the flow adds in seconds and in seconds of a processor, which other programs spoil less."""
    return Row(
        "orchestration",
        f"{added:.1f} s ({added_cpu:.1f} s of a processor) added to toy stages of {alone:.1f} s",
        f"{added / job:.1%} of the main job's {job:.0f} s of training",
        f"at most {LIMIT:.0%}",
        added / job <= LIMIT,
        {"added_s": added, "added_cpu_s": added_cpu, "stages_s": alone, "main_job_s": job},
    )


def _seconds(command: Sequence[str], root: Path) -> npt.NDArray[np.float64]:
    """(2,): how long a command took, and for how long it and its children had a processor."""
    home = root / "state" / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    own = {"PREFECT_HOME": str(home), "MLFLOW_TRACKING_URI": f"sqlite:///{root}/state/mlflow.db"}
    variables = surroundings() | workspace.variables(root) | own
    variables.pop("PREFECT_API_URL", None)
    before = _clocks()
    done = subprocess.run(
        [sys.executable, *command], cwd=root, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise UserError(f"orchestration: {' '.join(command)} failed: {(done.stderr.splitlines() or ['silently'])[-1]}")
    return _clocks() - before


def _clocks() -> npt.NDArray[np.float64]:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return np.array([time.perf_counter(), used.ru_utime + used.ru_stime])
