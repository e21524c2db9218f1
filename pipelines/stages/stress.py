"""Play the tuned team under loss that it was not trained on: bursts, one agent gone for good, whole-team blackouts;
and with a longer or shorter memory than the one that it was trained for.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import rmiov2
from pipelines import paths, stage
from rmiov2.config import Config
from rmiov2.files import write_json

if TYPE_CHECKING:
    from rmiov2.agents.base import Agent


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
        tuned, partial(remembering, config), make, config.evaluate, config.stress, config.agent.label, config.seed, bar
    )  # fmt: skip
    if evaluation.MEMORY in summary:
        summary[evaluation.MEMORY]["own"] = config.execution.history
    write_rows(rows, paths.RESULTS / "stress.parquet", evaluation.COLUMNS)
    write_json(paths.METRICS / "stress.json", summary)
    return paths.METRICS / "stress.json"


def remembering(config: Config, history: int) -> Agent:
    """The tuned team, whose world model is unrolled over so many steps."""
    execution = config.execution.model_copy(update={"history": history})
    return rmiov2.load(paths.FINETUNED, config.model_copy(update={"execution": execution}))


if __name__ == "__main__":
    sys.exit(stage.main("stress", str(__doc__), stress))
