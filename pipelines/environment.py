"""The environment of every tool around the library: where it keeps its state, and that nothing is sent to anybody."""

from __future__ import annotations

import os

from pipelines import paths

TOOLS: dict[str, str] = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PREFECT_HOME": str(paths.STATE / "prefect"),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
}


def prepare() -> None:
    """Set what is not set yet; called by every entry point before a tool is imported."""
    for name, value in TOOLS.items():
        os.environ.setdefault(name, value)
