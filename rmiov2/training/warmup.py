"""Random play before anything is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rmiov2.config import Config
from rmiov2.envs.base import facts_of
from rmiov2.envs.registry import make_env
from rmiov2.progress import Say
from rmiov2.replay import shards
from rmiov2.seeding import Generators, derive
from rmiov2.training.collect import Sweep, random_policy


def warmup(config: Config, out: Path, say: Say) -> dict[str, Any]:
    """Fill `out` with random play: warmup_steps environment steps or a little more, whole episodes."""
    env = make_env(config.env.name, config.collect.num_envs, config.seed)
    rngs = Generators(derive(config.seed, "warmup"))
    policy, kept, steps, sweep, won, lost = random_policy(env.spec, rngs.numpy["exploration"]), [], 0, 0, [], 0
    while steps < config.collect.warmup_steps:
        game = Sweep(env, policy, rngs.env_seed(sweep), config.pretrain.segment)
        kept += [piece for pieces in game.pieces() for piece in pieces]
        won += game.won.tolist()
        steps, sweep, lost = steps + game.steps(), sweep + 1, lost + game.lost
        say(f"random play, {steps} steps", min(1.0, steps / config.collect.warmup_steps))
    env.close()
    shards.replace(out, kept, env.spec)
    told = {"env_steps": steps, "episodes": len(won), "trajectories": len(kept), "won": float(np.mean(won))}
    return told | facts_of(env, lost)
