"""`rmiov2 watch`: one episode of a trained team, to be looked at."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from rmiov2.cli.games import game_for
from rmiov2.cli.team import trained
from rmiov2.envs.observation_loss import read_pattern
from rmiov2.evaluation.scene import record_scene
from rmiov2.reporting.scene.animation import refuse_other_pictures, write_animation
from rmiov2.world_model.reward_trend import reward_trend

if TYPE_CHECKING:
    from rmiov2.config import Config
    from rmiov2.types import Floats, Ints


def run(options: argparse.Namespace) -> None:
    """Record one episode and draw it as a GIF."""
    refuse_other_pictures(options.out)
    read_pattern(options.pattern)
    agent = trained(options.checkpoint)
    team = agent.team(1, options.seed, options.mode, greedy=not options.sampled)
    with closing(game_for(agent, options.env, 1, options.seed)) as env:
        print(f"playing one episode of {env.spec.name} at p_loss = {options.p_loss:g}", flush=True)
        scene = record_scene(env, team, options.p_loss, options.seed, _trend(agent.config), options.pattern)
    print(f"drawing {len(scene['seen'])} steps", flush=True)
    write_animation(scene, options.out)
    print(f"result: {options.out.resolve()}")


def _trend(config: Config) -> Any:
    def trend(rew: Floats) -> tuple[Floats, Ints]:
        return reward_trend(rew, config.reward_trend, float(np.var(rew)))

    return trend
