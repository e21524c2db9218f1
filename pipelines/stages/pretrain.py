"""Learn the world model and the policy together (Algorithm 1)."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines import paths, stage
from rmiov2.config import Config
from rmiov2.files import write_json
from rmiov2.progress import news


def pretrain(config: Config) -> Path:
    """models/pretrain, data/replay, metrics/pretrain.json, plots/pretrain.csv and plots/learning.csv."""
    from rmiov2.training import pretrain as training

    with stage.resumable("pretrain") as resume:
        metrics = training.pretrain(
            config,
            collected=paths.COLLECTED,
            out=paths.PRETRAINED,
            replay_out=paths.REPLAY,
            plots=paths.PLOTS,
            resume=resume,
            say=news("pretrain"),
        )
        write_json(paths.METRICS / "pretrain.json", metrics)
    return paths.PRETRAINED


if __name__ == "__main__":
    sys.exit(stage.main("pretrain", str(__doc__), pretrain))
