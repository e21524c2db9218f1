"""Look at the replay before the world model is tuned on it."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines import stage
from pipelines.gates.guard import guard
from rmiov2.config import Config


def gate_replay(config: Config) -> Path:
    """metrics/gates/replay.json, if every expectation is met; and pages in reports/data_docs/replay."""
    return guard("replay", config)


if __name__ == "__main__":
    sys.exit(stage.main("gate_replay", str(__doc__), gate_replay))
