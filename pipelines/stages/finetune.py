"""Teach the world model to fill in what blind agents would have seen (Algorithm 2, lines 20-27)."""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines import paths, stage
from rmiov2.config import Config
from rmiov2.files import write_json
from rmiov2.progress import news


def finetune(config: Config) -> Path:
    """models/finetune, metrics/finetune.json and plots/finetune.csv."""
    from rmiov2.training import finetune as training

    with stage.resumable("finetune") as resume:
        metrics = training.finetune(
            config,
            pretrained=paths.PRETRAINED,
            replay=paths.REPLAY,
            out=paths.FINETUNED,
            plots=paths.PLOTS,
            resume=resume,
            say=news("finetune"),
        )
        write_json(paths.METRICS / "finetune.json", metrics)
    return paths.FINETUNED


if __name__ == "__main__":
    sys.exit(stage.main("finetune", str(__doc__), finetune))
