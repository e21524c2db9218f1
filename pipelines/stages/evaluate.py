"""Play every mode over the grid of p_loss, and record one episode to look at."""

from __future__ import annotations

import csv
import io
import sys
from functools import partial
from pathlib import Path
from typing import Any

import rmiov2
from pipelines import paths, stage
from rmiov2.config import Config
from rmiov2.files import replace_file, write_json
from rmiov2.types import Floats, Ints


def evaluate(config: Config) -> Path:
    """results/episodes.parquet, results/scene.json, metrics/evaluate.json and plots/p_loss.csv."""
    import torch

    from rmiov2.envs.registry import make_env
    from rmiov2.evaluation import sweep
    from rmiov2.progress import bar

    torch.set_num_threads(config.threads)
    tuned, untuned = (rmiov2.load(folder, config) for folder in (paths.FINETUNED, paths.PRETRAINED))
    make = partial(make_env, config.env.name)
    rows, summary = sweep.evaluate(tuned, untuned, make, config.evaluate, config.agent.label, config.seed, bar)
    write_json(paths.RESULTS / "scene.json", record(config, tuned))
    sweep.write_rows(rows, paths.RESULTS / "episodes.parquet")
    write_curves(summary)
    write_json(paths.METRICS / "evaluate.json", summary)
    return paths.METRICS / "evaluate.json"


def record(config: Config, agent: Any) -> dict[str, Any]:
    """One episode, told step by step."""
    import numpy as np

    from rmiov2.envs.registry import make_env
    from rmiov2.evaluation.insight import Insight, Modelled
    from rmiov2.evaluation.scene import record_scene, told_trend
    from rmiov2.evaluation.sweep import rows_of
    from rmiov2.world_model.reward_trend import reward_trend

    def trend(rew: Floats, normalise: bool = config.reward_trend.normalise) -> tuple[Floats, Ints]:
        settings = config.reward_trend.model_copy(update={"normalise": normalise})
        return reward_trend(rew, settings, float(np.var(rew)))

    seed, p_loss = config.report.scene_seed, config.report.scene_p_loss
    rows = rows_of(config.evaluate)  # as many as were played with, so that nothing is compiled anew
    env = make_env(config.env.name, rows)
    try:
        look = partial(Insight, agent) if isinstance(agent, Modelled) else None
        scene = record_scene(env, agent.team(rows, seed), p_loss, seed, trend, config.evaluate.pattern, look)
    finally:
        env.close()
    if "trend" in scene["reward"] and not config.reward_trend.normalise:  # what the window does free of the scale
        raw = np.asarray(scene["reward"]["raw"], dtype=np.float32)
        scene["reward"]["normalised"] = told_trend(*trend(raw, normalise=True))
    return scene


def write_curves(summary: dict[str, Any]) -> None:
    """plots/p_loss.csv: one row per p_loss, one column per mode."""
    modes = list(summary["performance"])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["p_loss", *modes])
    table.writerows(zip(summary["p_loss"], *summary["performance"].values(), strict=True))
    with replace_file(paths.PLOTS / "p_loss.csv") as handle:
        handle.write(text.getvalue().encode())


if __name__ == "__main__":
    sys.exit(stage.main("evaluate", str(__doc__), evaluate))
