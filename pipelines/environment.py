"""What the tools around the library are told by environment variables, in one place; a user's own value wins."""

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
    # In memory, as by default, leases die with the server, and minutes later every run that has a concurrency limit.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # a first database alone takes longer than the default
}


def prepare() -> None:
    """Set them where they are not set; every entry point calls this before it imports a tool."""
    for name, value in TOOLS.items():
        os.environ.setdefault(name, value)
