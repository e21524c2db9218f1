"""world_model.foresight: reward and end are learned off what the prior draws, too."""

import pytest
import torch
from learning_cases import agent_and_replay, settings
from torch import Tensor

from rmiov2.world_model.losses import model_losses, total_loss
from rmiov2.world_model.rssm import Latent, WorldModel, gumbel_noise

ENDS = 0.1  # of the steps end their game


def a_game_that_z_tells(model: WorldModel, games: int, generator: torch.Generator) -> tuple[Latent, dict[str, Tensor]]:
    """Two rows each, h empty: every class of the second z says whether the game ended there, and an end pays 1."""
    s, n = model.settings, model.spec.num_agents
    ended = torch.rand(games, generator=generator) < ENDS
    z = torch.zeros(games, 2, n, s.categoricals, s.classes)
    z[:, 0, ..., 0] = 1
    z[:, 1, ..., 0], z[:, 1, ..., 1] = (~ended).float()[:, None, None], ended.float()[:, None, None]
    latent = Latent(torch.zeros(games, 2, n, s.deter), z.flatten(-2), z)
    batch = {
        "obs": torch.zeros(games, 2, n, model.spec.obs_dim), "avail": torch.zeros(games, 2, n, model.spec.act_dim),
        "row": torch.ones(games, 2), "step": torch.ones(games, 2),
        "trend": ended.float()[:, None].expand(games, 2), "con": (~ended).float()[:, None].expand(games, 2),
    }  # fmt: skip
    return latent, batch


def noise_of(latent: Latent, generator: torch.Generator) -> Tensor:
    """What the prior draws with, for every row."""
    return gumbel_noise(latent.probs.shape, generator, latent.h.device)


def calibrated_prior(model: WorldModel) -> None:
    """Whatever h is, each categorical of each agent says "ended" as often as games end: the best a factored one can."""
    last = list(model.prior.children())[-1]
    chances = torch.full((model.settings.categoricals, model.settings.classes), 1e-6)
    chances[:, 0], chances[:, 1] = 1 - ENDS, ENDS
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(chances.log().flatten())


@pytest.mark.parametrize(("foresight", "least", "most"), [(0.0, 0.0, 0.5), (1.0, 0.6, 1.1), (10.0, 0.75, 1.1)])
def test_the_more_the_heads_learn_off_the_prior_s_draws_the_nearer_imagined_ends_and_rewards_come_to_the_played(
    foresight: float, least: float, most: float
) -> None:
    agent, _ = agent_and_replay(settings("toy/lights", world_model__unimix=0.0), sweeps=1)
    model, generator = agent.model, torch.Generator().manual_seed(0)
    calibrated_prior(model)
    optimiser = torch.optim.Adam(model.predict.parameters(), 1e-2)
    for _ in range(200):
        latent, batch = a_game_that_z_tells(model, 256, generator)
        losses, _ = model_losses(model, latent, batch, noise_of(latent, generator))
        optimiser.zero_grad()
        total_loss(losses, 0.0, foresight=foresight).backward()
        optimiser.step()
    with torch.no_grad():
        latent, batch = a_game_that_z_tells(model, 4000, generator)
        z = model.sample(model.prior_probs(latent.h), noise_of(latent, generator))
        drawn = torch.cat([latent.h, z], -1)
        said = [1 - model.predict.continuation(features[:, 1]) for features in (latent.features, drawn)]
        paid = [model.predict.reward(features[:, 1]) for features in (latent.features, drawn)]
    told = batch["con"][:, 0] == 0
    assert said[0][told].mean() > 0.9, "the posterior's z tells it, and nothing is wrong with a head that listens"
    for mean in (said[1].mean().item(), paid[1].mean().item()):
        assert least < mean / ENDS < most


def test_what_is_foreseen_is_read_as_what_was_seen_and_teaches_the_prior_nothing() -> None:
    agent, replay = agent_and_replay(settings("toy/lights"))
    model, generator = agent.model, torch.Generator().manual_seed(0)
    latent, batch = a_game_that_z_tells(model, 32, generator)
    noise = noise_of(latent, generator)
    for head in (model.predict.rew, model.predict.con):
        torch.nn.init.ones_(head.team[-1].weight)  # it begins as zero, through which nothing is taught
    h = torch.randn_like(latent.h).requires_grad_()
    drawn = model.sample(model.prior_probs(h), noise).detach()
    losses, _ = model_losses(model, Latent(h, drawn, latent.probs), batch, noise)
    assert torch.equal(losses["foreseen_rew"], losses["rew"]) and torch.equal(losses["foreseen_con"], losses["con"])
    (losses["foreseen_rew"] + losses["foreseen_con"]).backward()
    assert all(p.grad is None or not p.grad.any() for p in model.prior.parameters())
    assert h.grad is not None and h.grad[:, 1].any() and not h.grad[:, 0].any()
    assert all(p.grad is not None and p.grad.any() for p in model.predict.con.team.parameters())
