"""world_model.pad_ends: where an end may be at any row of a window, imagined games last as long as those played."""

import numpy as np
import pytest
import torch
from learning_cases import agent_and_replay, settings
from torch import Tensor

from rmiov2.agents.tensors import to_torch
from rmiov2.config import Config
from rmiov2.replay.buffer import Replay
from rmiov2.seeding import Generators
from rmiov2.types import EnvSpec, Trajectory
from rmiov2.world_model.rollout import imagine, observe

CHANCE, AHEAD = 0.05, 12  # of every step to be the last; imagined steps


def game_of_chance(spec: EnvSpec, rng: np.random.Generator) -> Trajectory:
    """Nothing is to be seen in it, and nothing tells when it ends."""
    steps, agents = int(rng.geometric(CHANCE)), spec.num_agents
    con = np.ones(steps, np.float32)
    con[-1] = 0
    return Trajectory(
        obs=np.zeros((steps + 1, agents, spec.obs_dim), np.float32),
        state=np.zeros((steps + 1, spec.state_dim), np.float32),
        act=rng.integers(spec.act_dim, size=(steps, agents)),
        rew=np.zeros(steps, np.float32), con=con, avail=np.ones((steps + 1, agents, spec.act_dim), bool),
        start=True, won=False,
    )  # fmt: skip


def still_played(config: Config) -> Tensor:
    """The share of imagined games that last AHEAD steps, by the row of the window that they go on from, (T,)."""
    agent, _ = agent_and_replay(config, sweeps=1)
    rng, rngs = np.random.default_rng(0), Generators(0)
    replay = Replay(agent.spec, 10**6)
    for _ in range(400):
        game = game_of_chance(agent.spec, rng)
        replay.add(game, game.rew)
    agent.update(replay, rngs, 300, 0)
    w, model = agent.config.world_model, agent.model
    batch = to_torch(replay.sample(200, w.length, rng, w.pad_ends), agent.device)
    seen, h = torch.ones(batch["obs"].shape[:3]), model.initial(batch["start"])
    with torch.no_grad():
        latent = observe(model, batch["obs"], seen, batch["act"], h, rngs.torch)

    def choose(shown: Tensor, avail: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        act = torch.randint(agent.spec.act_dim, shown.shape[:-1], generator=rngs.torch)
        return act, act, torch.zeros(act.shape)

    con = imagine(model, latent.h.flatten(0, 1), latent.z.flatten(0, 1), choose, AHEAD, rngs.torch).con
    lasts = con.prod(1).view(200, -1)
    return (lasts * batch["row"]).sum(0) / batch["row"].sum(0)


def test_imagined_games_last_as_long_as_those_played_from_any_row_of_a_window_only_if_ends_are_padded() -> None:
    """Moved inside, a window teaches that its last row is an end, and whatever is imagined beyond it ends at once."""
    padded, moved = (still_played(settings("toy/lights", world_model__pad_ends=pads)) for pads in (True, False))
    assert padded == pytest.approx(np.full(len(padded), (1 - CHANCE) ** AHEAD), abs=0.1)
    assert moved[0] < 0.3 and moved[-1] < 0.03
