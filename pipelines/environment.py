"""What the tools around the library, and its threads, are told by environment variables; a user's own value wins."""

from __future__ import annotations

import os

from pipelines import paths

TOOLS: dict[str, str] = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A store that does not answer must not hold up a finished training for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight processes and two gigabytes that nothing here uses
    "PREFECT_HOME": str(paths.STATE / "prefect"),
    # In memory, as by default, leases die with the server, and minutes later every run that has a concurrency limit.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",  # a first database alone takes longer than the default
    # Threads that spin while they wait take the core from the one that works: a small product then costs a hundredfold.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "OMP_NUM_THREADS": "1",
}


def prepare() -> None:
    """Set them where they are not set; every entry point calls this before it imports a tool."""
    for name, value in TOOLS.items():
        os.environ.setdefault(name, value)
