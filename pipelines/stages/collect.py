"""Fill the first buffer with random play."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines import paths, stage
from rmiov2.config import Config
from rmiov2.files import write_json
from rmiov2.progress import news


def collect(config: Config) -> Path:
    """data/collect and metrics/collect.json."""
    from rmiov2.training.warmup import warmup

    metrics = warmup(config, paths.COLLECTED, news("collect"))
    write_json(paths.METRICS / "collect.json", metrics)
    return paths.COLLECTED


if __name__ == "__main__":
    sys.exit(stage.main("collect", str(__doc__), collect))
