"""Draw the page from the results; nothing is trained or played."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines import paths, stage
from rmiov2.config import Config


def report(config: Config) -> Path:
    """reports/index.html and its pictures."""
    from rmiov2.reporting.pages.run import build

    return build(paths.ROOT, paths.REPORTS, [str(rate) for rate in config.ablate.p_mask])


if __name__ == "__main__":
    sys.exit(stage.main("report", str(__doc__), report))
