"""Play the tuned team under loss that it was not trained on: bursts, one agent gone for good, whole-team blackouts."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import rmiov2
from pipelines import paths, stage
from rmiov2.config import Config
from rmiov2.files import write_json


def stress(config: Config) -> Path:
    """results/stress.parquet and metrics/stress.json."""
    import torch

    from rmiov2.envs.registry import make_env
    from rmiov2.evaluation import stress as evaluation
    from rmiov2.evaluation.sweep import write_rows
    from rmiov2.progress import bar

    torch.set_num_threads(config.threads)
    tuned = rmiov2.load(paths.FINETUNED, config)
    make = partial(make_env, config.env.name)
    rows, summary = evaluation.stress(
        tuned, make, config.evaluate, config.stress, config.agent.name, config.seed, bar
    )  # fmt: skip
    write_rows(rows, paths.RESULTS / "stress.parquet", evaluation.COLUMNS)
    write_json(paths.METRICS / "stress.json", summary)
    return paths.METRICS / "stress.json"


if __name__ == "__main__":
    sys.exit(stage.main("stress", str(__doc__), stress))
