"""Does the world model foresee how its games end? What it says of the end before and after it has seen it.

    python examples/foresight.py models/pretrain data/replay

A policy learns in what the prior foresees. Where the prior expects far fewer ends than there are, imagined games go on
for too long, values grow beyond what can be earned, and the policy may follow them away from what wins. If the
posterior knows of the ends, world_model.foresight=1.0 lets the prior know, too; if it does not, the model learns too
little: raise pretrain.e_m. For RMIOv2, GAWM and RMIO.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import rmiov2
from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.agents.tensors import to_torch
from rmiov2.program import exit_code
from rmiov2.replay import shards
from rmiov2.replay.buffer import Replay
from rmiov2.types import UserError
from rmiov2.world_model.rollout import observe
from rmiov2.world_model.rssm import gumbel_noise


def foresight(agent: RMIOv2, replay: Replay, batches: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Means over the steps of windows of the replay, by who says it: chance of an end per step, and reward per step.

    Also of the steps that did end a game alone. true, posterior (M saw what came of the step), prior (it did not).
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    rows: dict[str, list[tuple[Tensor, Tensor]]] = {"true": [], "posterior": [], "prior": []}
    ends: list[Tensor] = []
    w, model = agent.config.world_model, agent.model
    for _ in range(batches):
        batch = to_torch(replay.sample(w.batch, w.length, rng), agent.device)
        obs, seen = model.normalise(batch["obs"]), torch.ones(batch["obs"].shape[:3])
        latent = observe(model, obs, seen, batch["act"], model.initial(batch["start"]), generator)
        prior = model.prior_probs(latent.h)
        foreseen = torch.cat([latent.h, model.sample(prior, gumbel_noise(prior.shape, generator, agent.device))], -1)
        step = batch["step"][:, :-1].bool()
        ends.append(batch["con"][:, :-1][step] == 0)
        rows["true"].append((1 - batch["con"][:, :-1][step], batch["trend"][:, :-1][step]))
        for name, features in (("posterior", latent.features[:, 1:]), ("prior", foreseen[:, 1:])):
            said = (1 - model.predict.continuation(features), model.predict.reward(features))
            rows[name].append((said[0][step], said[1][step]))
    ended = torch.cat(ends)
    found: dict[str, dict[str, float]] = {}
    for name, parts in rows.items():
        end, reward = (torch.cat(part).float() for part in zip(*parts, strict=True))
        found[name] = {"end": end.mean().item(), "reward": reward.mean().item()}
        found[name] |= {"end | it ended": end[ended].mean().item(), "reward | it ended": reward[ended].mean().item()}
    return found


@torch.no_grad()
def show(team: Path, data: Path, episodes: int, batches: int) -> None:
    """Print the table; raises UserError for an agent of another kind."""
    agent = rmiov2.load(team)
    if not isinstance(agent, RMIOv2):
        raise UserError(f"{team} is of {agent.config.agent.name}, expected rmiov2, gawm or rmio")
    recent = shards.read(data, agent.spec)[-episodes:]
    replay = Replay(agent.spec, sum(map(len, recent)))
    for trajectory in recent:
        replay.add(trajectory, trajectory.rew)
    found = foresight(agent, replay, batches)
    print(f"{'per step':10}" + "".join(f"{what:>20}" for what in found["true"]))
    for name, values in found.items():
        print(f"{name:10}" + "".join(f"{value:20.4f}" for value in values.values()))


def main() -> int:
    """0, or 2 and one sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("team", type=Path, help="a checkpoint or its folder: models/pretrain")
    parser.add_argument("replay", type=Path, help="its shards: data/replay")
    parser.add_argument("--episodes", type=int, default=128, help="the newest so many: 128")
    parser.add_argument("--batches", type=int, default=40, help="so many batches of windows are drawn: 40")
    options = parser.parse_args()
    work = partial(show, options.team, options.replay, options.episodes, options.batches)
    return exit_code("foresight", work, "nothing was written")


if __name__ == "__main__":
    raise SystemExit(main())
