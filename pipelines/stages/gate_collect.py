"""Look at the first buffer before anything learns from it."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines import stage
from pipelines.gates.guard import guard
from rmiov2.config import Config


def gate_collect(config: Config) -> Path:
    """metrics/gates/collect.json, if every expectation is met; and pages in reports/data_docs/collect."""
    return guard("collect", config)


if __name__ == "__main__":
    sys.exit(stage.main("gate_collect", str(__doc__), gate_collect))
