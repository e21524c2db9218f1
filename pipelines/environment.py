"""The environment variables under which every tool runs: its files in state/, and no analytics leave the machine."""

from __future__ import annotations

import os

from pipelines import paths

TOOLS: dict[str, str] = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes and two gigabytes that nothing here uses
    "PREFECT_HOME": str(paths.STATE / "prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}


def prepare() -> None:
    """Set what is not set, so that a user's own value wins; before a tool is imported, since some read it only then."""
    for variable, value in TOOLS.items():
        os.environ.setdefault(variable, value)
