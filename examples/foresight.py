"""Does the world model foresee how its games end? What it says of the end before and after it has seen it.

    python examples/foresight.py models/pretrain data/replay

A policy learns in what the prior draws, step after step. Where imagined games end far less often than those played,
values grow beyond what can be earned; where they end more often, what is won at the end counts for too little; and the
policy may follow either away from what wins. If the posterior knows of the ends, world_model.foresight=1.0 lets
imagination know, too; if it does not, the model learns too little: raise pretrain.e_m. If more imagined games end the
later in a window they begin, and as many of those played, world_model.pad_ends=true takes the window's clock away. For
RMIOv2, GAWM and RMIO.
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
from rmiov2.world_model.rollout import by_the_prior, foresee, observe
from rmiov2.world_model.rssm import Latent, WorldModel, gumbel_noise


def seen_by(model: WorldModel, batch: dict[str, Tensor], generator: torch.Generator) -> Latent:
    """What M makes of windows of which it sees everything."""
    obs, seen = model.normalise(batch["obs"]), torch.ones(batch["obs"].shape[:3])
    return observe(model, obs, seen, batch["act"], model.initial(batch["start"]), generator)


def foresight(agent: RMIOv2, replay: Replay, batches: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Means over the steps of windows of the replay, by who says it: chance of an end per step, and reward per step.

    Also of the steps that did end a game alone. true · posterior: M saw what came of the step · prior: it saw what was
    before the step · imagined: it saw nothing for about as many steps as imagination goes.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    rows: dict[str, list[tuple[Tensor, Tensor]]] = {"true": [], "posterior": [], "prior": [], "imagined": []}
    ends: list[Tensor] = []
    w, model = agent.config.world_model, agent.model
    for _ in range(batches):
        batch = to_torch(replay.sample(w.batch, w.length, rng, w.pad_ends), agent.device)
        latent = seen_by(model, batch, generator)
        prior = model.prior_probs(latent.h)
        drawn = torch.cat([latent.h, model.sample(prior, gumbel_noise(prior.shape, generator, agent.device))], -1)
        imagined = foresee(model, latent, batch["act"], generator)
        step = batch["step"][:, :-1].bool()
        ends.append(batch["con"][:, :-1][step] == 0)
        rows["true"].append((1 - batch["con"][:, :-1][step], batch["trend"][:, :-1][step]))
        after = {"posterior": latent.features[:, 1:], "prior": drawn[:, 1:], "imagined": imagined}
        for name, features in after.items():
            said = (1 - model.predict.continuation(features), model.predict.reward(features))
            rows[name].append((said[0][step], said[1][step]))
    ended = torch.cat(ends)
    found: dict[str, dict[str, float]] = {}
    for name, parts in rows.items():
        end, reward = (torch.cat(part).float() for part in zip(*parts, strict=True))
        found[name] = {"end": end.mean().item(), "reward": reward.mean().item()}
        found[name] |= {"end | it ended": end[ended].mean().item(), "reward | it ended": reward[ended].mean().item()}
    return found


def ending(agent: RMIOv2, replay: Replay, batches: int, seed: int = 0) -> dict[str, dict[str, float]]:
    """Shares of games that end within policy.horizon steps, from the first and the last row of a window on: of those
    played, and of those imagined with the same actions. A row that no game reaches is left out.
    """
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    w, model, ahead = agent.config.world_model, agent.model, agent.config.policy.horizon
    shares: dict[str, dict[str, list[Tensor]]] = {name: {"played": [], "imagined": []} for name in ("first", "last")}
    for _ in range(batches):
        batch = to_torch(replay.sample(w.batch, w.length + ahead, rng, pad_ends=True), agent.device)
        latent = seen_by(model, batch, generator)
        over = (batch["con"] == 0) & batch["step"].bool()
        for name, row in (("first", 0), ("last", w.length - 1)):
            playing = batch["step"][:, row].bool()
            h, z, lasts = latent.h[:, row], latent.z[:, row], torch.ones(w.batch)
            forward = by_the_prior(model, w.batch, ahead, generator)
            for step in range(row, row + ahead):
                h, z = forward(h, z, batch["act"][:, step])
                lasts = lasts * model.predict.continuation(torch.cat([h, z], -1))
            shares[name]["played"].append(over[:, row : row + ahead].any(1)[playing])
            shares[name]["imagined"].append(1 - lasts[playing])
    joined = {name: {who: torch.cat(x).float() for who, x in by.items()} for name, by in shares.items()}
    return {name: {who: x.mean().item() for who, x in by.items()} for name, by in joined.items() if len(by["played"])}


@torch.no_grad()
def show(team: Path, data: Path, episodes: int, batches: int) -> None:
    """Print the tables; raises UserError for an agent of another kind."""
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
    print(f"\ngames that end within {agent.config.policy.horizon} steps, from a window's")
    for name, by in ending(agent, replay, batches).items():
        print(f"{name + ' row':10}" + "".join(f"{who:>12}{share:8.4f}" for who, share in by.items()))


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
