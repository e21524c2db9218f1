"""world_model.foresight: reward and end are learned off what imagination would have, too."""

import numpy as np
import pytest
import torch
from learning_cases import agent_and_replay, settings
from torch import Tensor

from rmiov2.agents.rmiov2 import RMIOv2
from rmiov2.agents.tensors import to_torch
from rmiov2.world_model import rollout
from rmiov2.world_model.losses import model_losses, total_loss
from rmiov2.world_model.rollout import foresee, observe
from rmiov2.world_model.rssm import Latent, WorldModel

ENDS = 0.1  # of the steps end their game


@torch.no_grad()
def a_game_that_z_tells(model: WorldModel, games: int, generator: torch.Generator) -> tuple[Latent, dict[str, Tensor]]:
    """Two rows each, h the same in all: every class of the second z says if the game ended there, and an end pays 1."""
    s, n = model.settings, model.spec.num_agents
    ended = torch.rand(games, generator=generator) < ENDS
    z = torch.zeros(games, 2, n, s.categoricals, s.classes)
    z[:, 0, ..., 0] = 1
    z[:, 1, ..., 0], z[:, 1, ..., 1] = (~ended).float()[:, None, None], ended.float()[:, None, None]
    act = torch.zeros(games, 2, n, dtype=torch.int64)
    h = model.initial(torch.ones(games))
    h = torch.stack([h, model.advance(h, z[:, 0].flatten(-2), model.embed_action(act[:, 0]))], 1)
    latent = Latent(h, z.flatten(-2), z)
    batch = {
        "obs": torch.zeros(games, 2, n, model.spec.obs_dim), "avail": torch.zeros(games, 2, n, model.spec.act_dim),
        "act": act, "row": torch.ones(games, 2), "step": torch.ones(games, 2),
        "trend": ended.float()[:, None].expand(games, 2), "con": (~ended).float()[:, None].expand(games, 2),
    }  # fmt: skip
    return latent, batch


def calibrated_prior(model: WorldModel) -> None:
    """Whatever h is, each categorical of each agent says "ended" as often as games end: the best a factored one can."""
    last = list(model.prior.children())[-1]
    chances = torch.full((model.settings.categoricals, model.settings.classes), 1e-6)
    chances[:, 0], chances[:, 1] = 1 - ENDS, ENDS
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(chances.log().flatten())


@pytest.mark.parametrize(("foresight", "least", "most"), [(0.0, 0.0, 0.1), (1.0, 0.4, 1.1), (10.0, 0.75, 1.1)])
def test_the_more_the_heads_learn_off_the_prior_s_draws_the_nearer_imagined_ends_and_rewards_come_to_the_played(
    foresight: float, least: float, most: float
) -> None:
    agent, _ = agent_and_replay(settings("toy/lights", world_model__unimix=0.0), sweeps=1)
    model, generator = agent.model, torch.Generator().manual_seed(0)
    calibrated_prior(model)
    optimiser = torch.optim.Adam(model.predict.parameters(), 1e-2)
    for _ in range(200):
        latent, batch = a_game_that_z_tells(model, 256, generator)
        losses, _ = model_losses(model, latent, batch, foresee(model, latent, batch["act"], generator))
        optimiser.zero_grad()
        total_loss(losses, 0.0, foresight=foresight).backward()
        optimiser.step()
    with torch.no_grad():
        latent, batch = a_game_that_z_tells(model, 4000, generator)
        drawn = foresee(model, latent, batch["act"], generator)[:, 0]
        said = [1 - model.predict.continuation(features) for features in (latent.features[:, 1], drawn)]
        paid = [model.predict.reward(features) for features in (latent.features[:, 1], drawn)]
    told = batch["con"][:, 0] == 0
    assert said[0][told].mean() > 0.9, "the posterior's z tells it, and nothing is wrong with a head that listens"
    ends, rewards = said[1].mean().item() / ENDS, paid[1].mean().item() / ENDS
    assert least < ends < most and least < rewards < (1.1 if foresight else 0.7)


def test_what_is_foreseen_is_what_imagination_has_of_the_same_actions_from_the_last_row_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollout, "LOOKS", 0.0)
    agent, latent, batch = seen_games()
    unseen = foresee(agent.model, latent, batch["act"], torch.Generator().manual_seed(1))
    assert not torch.equal(unseen[:, 1:, :, : latent.h.shape[-1]], latent.h[:, 2:]), "it drifts"
    steps, h, z = latent.h.shape[1] - 1, latent.h[:, 0], latent.z[:, 0]
    forward = rollout.by_the_prior(agent.model, len(h), steps, torch.Generator().manual_seed(1))
    for t in range(steps):
        h, z = forward(h, z, batch["act"][:, t])
        torch.testing.assert_close(unseen[:, t], torch.cat([h, z], -1))


def test_where_every_row_is_seen_what_is_foreseen_is_one_step_off_the_posterior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rollout, "LOOKS", 1.0)
    agent, latent, batch = seen_games()
    seen = foresee(agent.model, latent, batch["act"], torch.Generator())
    torch.testing.assert_close(seen[..., : latent.h.shape[-1]], latent.h[:, 1:])


def test_losses_of_what_is_foreseen_teach_heads_and_the_last_step_and_neither_prior_nor_posterior() -> None:
    agent, latent, batch = seen_games()
    model = agent.model
    for head in (model.predict.rew, model.predict.con):
        torch.nn.init.ones_(head.team[-1].weight)  # it begins as zero, through which nothing is taught
    losses, _ = model_losses(model, latent, batch, foresee(model, latent, batch["act"], torch.Generator()))
    (losses["foreseen_rew"] + losses["foreseen_con"]).backward()
    for part in (model.prior, model.posterior, model.encoder):
        assert all(p.grad is None or not p.grad.any() for p in part.parameters())
    for part in (model.gru, model.action_fusion, model.predict.con.team):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters() if p.dim() > 1)


def seen_games() -> tuple[RMIOv2, Latent, dict[str, Tensor]]:
    """A new agent, what it makes of a batch of windows, and the batch."""
    agent, replay = agent_and_replay(settings("toy/lights"))
    w = agent.config.world_model
    batch = to_torch(replay.sample(w.batch, w.length, np.random.default_rng(0)), agent.device)
    seen, h = torch.ones(batch["obs"].shape[:3]), agent.model.initial(batch["start"])
    return agent, observe(agent.model, batch["obs"], seen, batch["act"], h, torch.Generator()), batch
