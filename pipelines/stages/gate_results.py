"""Look at the evaluated episodes before a page is drawn from them."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines import stage
from pipelines.gates.guard import guard
from rmiov2.config import Config


def gate_results(config: Config) -> Path:
    """metrics/gates/results.json, if every expectation is met; and pages in reports/data_docs/results."""
    return guard("results", config)


if __name__ == "__main__":
    sys.exit(stage.main("gate_results", str(__doc__), gate_results))
