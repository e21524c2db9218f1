"""Fine-tune and evaluate once more at another p_mask, fewer updates and episodes: what masking is worth (table 2)."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import rmiov2
from pipelines import paths, stage
from rmiov2.config import Config, parse
from rmiov2.files import write_json
from rmiov2.progress import bar, news


def ablate(config: Config, cell: str) -> Path:
    """metrics/ablate/P.json of p_mask = P; the fine-tuned weights are not kept."""
    from rmiov2.envs.registry import make_env
    from rmiov2.evaluation.sweep import evaluate_own
    from rmiov2.training import finetune as training

    settings, label = settings_of(config, cell), f"ablate@{cell}"
    with stage.resumable("ablate", cell) as resume:
        metrics = training.finetune(
            settings,
            pretrained=paths.PRETRAINED,
            replay=paths.REPLAY,
            out=resume / "tuned",
            plots=resume / "plots",
            resume=resume,
            say=news(label),
        )
        agent = rmiov2.load(resume / "tuned", settings)
        curve = evaluate_own(agent, partial(make_env, config.env.name), settings.evaluate, bar(label))
        if "game" in curve:
            curve["game"]["episodes_lost"] += metrics["game"]["episodes_lost"]
        told: dict[str, Any] = {"p_mask": settings.finetune.p_mask, "episodes": settings.evaluate.episodes}
        told |= {"p_loss": list(settings.evaluate.p_loss), "measure": agent.spec.measure}
        write_json(paths.METRICS / "ablate" / f"{cell}.json", metrics | told | curve)
    return paths.METRICS / "ablate" / f"{cell}.json"


def settings_of(config: Config, cell: str) -> Config:
    """The settings of one cell; raises UserError if it is no probability."""
    values = config.model_dump()
    values["finetune"] |= {"p_mask": cell, "updates": config.ablate.updates}
    values["evaluate"] |= {"episodes": config.ablate.episodes}
    return parse(values, f"ablate {cell}")


if __name__ == "__main__":
    sys.exit(stage.main("ablate", str(__doc__), ablate, "P_MASK"))
