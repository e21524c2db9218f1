"""The policy: closed forms, masks, and that its loss touches nothing but itself."""

import math

import numpy as np
import pytest
import torch
from learning_cases import agent_and_replay, settings
from windows import opinionated

from rmiov2.agents.tensors import to_torch
from rmiov2.envs.registry import make_env
from rmiov2.evaluation.controls import random_performance
from rmiov2.evaluation.episodes import play
from rmiov2.policy.critic import ReturnScale, ValueNorm
from rmiov2.policy.ppo import Pseudo, actor_loss, critic_loss, standardise
from rmiov2.policy.returns import gae, still_playing
from rmiov2.seeding import Generators


def test_gae_by_hand() -> None:
    rew, con = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    value = torch.tensor([[0.5, 1.0, 1.5, 100.0]])
    last = 3.0 - 1.5  # the end: what the critic says after it is not looked at
    middle = 2.0 + 0.9 * 1.5 - 1.0 + 0.9 * 0.8 * last
    first = 1.0 + 0.9 * 1.0 - 0.5 + 0.9 * 0.8 * middle
    assert torch.allclose(gae(rew, con, value, 0.9, 0.8), torch.tensor([[first, middle, last]]))


def test_gae_at_lambda_one_is_the_discounted_return_less_the_value() -> None:
    rew, value = torch.randn(4, 6), torch.randn(4, 7)
    discount = 0.9 ** torch.arange(6)
    returns = torch.stack([(rew[:, k:] * discount[: 6 - k]).sum(1) + 0.9 ** (6 - k) * value[:, 6] for k in range(6)], 1)
    assert torch.allclose(gae(rew, torch.ones(4, 6), value, 0.9, 1.0), returns - value[:, :-1], atol=1e-5)


def test_a_step_is_played_if_none_before_it_ended_the_game() -> None:
    con = torch.tensor([[0.5, 0.5, 0.0, 1.0]])
    assert torch.equal(still_playing(con), torch.tensor([[1.0, 0.5, 0.25, 0.0]]))


@pytest.mark.parametrize("unimix", [0.0, 0.05])
def test_what_is_not_available_has_no_probability_and_is_never_drawn(unimix: float) -> None:
    agent, _ = agent_and_replay(settings("toy/lights", policy__unimix=unimix), sweeps=1)
    generator = torch.Generator().manual_seed(0)
    out = 20 * torch.randn(50_000, 3, agent.spec.act_dim, generator=generator)
    avail = torch.rand(out.shape, generator=generator) < 0.4
    avail[..., 0] |= ~avail.any(-1)
    probs = agent.actor.log_probs(out, avail).exp()
    assert (probs[~avail] == 0).all() and torch.allclose(probs.sum(-1), torch.ones(probs.shape[:-1]))
    act, logp = agent.actor.choose(out, avail, generator)
    assert avail.gather(-1, act[..., None]).all() and torch.isfinite(logp).all()
    assert torch.isfinite(agent.actor.entropy(out, avail)).all()


def test_draws_follow_the_probabilities() -> None:
    agent, _ = agent_and_replay(settings("toy/lights"), sweeps=1)
    out = torch.tensor([0.0, 1.0, 2.0] + [0.0] * (agent.spec.act_dim - 3)).expand(60_000, agent.spec.act_dim)
    avail = torch.ones(out.shape, dtype=torch.bool)
    act, logp = agent.actor.choose(out, avail, torch.Generator().manual_seed(0))
    share = torch.bincount(act, minlength=agent.spec.act_dim) / len(act)
    assert torch.allclose(share, torch.softmax(out[0], -1), atol=0.01)
    assert torch.allclose(logp, torch.log_softmax(out[0], -1)[act])


def test_gaussian_density_and_entropy_in_closed_form() -> None:
    agent, _ = agent_and_replay(settings("toy/dials"), sweeps=1)
    std, width = agent.actor.std()[0, 0].item(), agent.spec.act_widths[0]
    out = torch.zeros(1, agent.spec.num_agents, agent.spec.act_dim)
    density = width * (-math.log(std) - 0.5 * math.log(2 * math.pi))
    assert agent.actor.log_prob(out, out, None)[0, 0].item() == pytest.approx(density)
    assert agent.actor.entropy(out, None)[0, 0].item() == pytest.approx(width * 0.5 - density + 0.0)


@torch.no_grad()
def test_a_component_that_an_agent_lacks_is_zero_with_noise_and_without() -> None:
    agent, _ = agent_and_replay(settings("toy/dials"), sweeps=1)
    has = torch.from_numpy(agent.spec.act_mask)
    for noise in (None, torch.ones(5, 3, 2)):
        act = agent.actor.draw(torch.ones(5, 3, 2), None, noise)
        assert (act[:, has] > 0).all() and not act[:, ~has].any() and not has.all()


def test_the_policy_in_play_sees_in_the_scale_in_which_it_learned() -> None:
    agent, replay = agent_and_replay(settings("toy/dials", world_model__normalise_obs=True))
    opinionated(agent).update(replay, Generators(0), 5, 0)
    step, mean, std = make_env("toy/dials", 4).reset(0), agent.model.obs_mean.numpy(), agent.model.obs_std.numpy()
    scaled = (step.obs - mean) / std
    assert not np.allclose(scaled, step.obs, atol=0.1)
    act, _ = agent.act(agent.start(4), step.obs, None, step.first, np.random.default_rng(0), greedy=True)
    with torch.no_grad():
        out, _ = agent.actor.unroll(torch.from_numpy(scaled)[:, None], agent.actor.initial(4))
    assert np.allclose(act, (out[:, 0].numpy() * agent.spec.act_mask).clip(-1, 1), atol=1e-5)


def pseudo(agent: object, advantage: float, avail_all: bool = True) -> Pseudo:
    spec, m, h = agent.spec, 4, 3  # type: ignore[attr-defined]
    obs, memory = torch.randn(m, h, spec.num_agents, spec.obs_dim), agent.actor.initial(m)  # type: ignore[attr-defined]
    avail = torch.zeros(m, h, spec.num_agents, spec.act_dim, dtype=torch.bool)
    avail[..., 0] = True
    avail |= avail_all
    out, _ = agent.actor.unroll(obs, memory)  # type: ignore[attr-defined]
    act, logp = agent.actor.choose(out, avail, torch.Generator().manual_seed(0))  # type: ignore[attr-defined]
    features, ones = torch.randn(m, h, spec.num_agents, 48), torch.ones(m, h)
    return Pseudo(obs, avail, act, logp.detach(), memory, features, advantage * ones, ones, ones)


def test_a_good_action_becomes_likelier_and_a_dead_agent_learns_nothing() -> None:
    config = settings("toy/lights", policy__entropy=0.0)
    agent, _ = agent_and_replay(config, sweeps=1)
    for advantage, grows in ((1.0, True), (-1.0, False)):
        p = pseudo(agent, advantage)
        loss, _ = actor_loss(agent.actor, p, config.policy.clip, config.policy.entropy)
        grads = torch.autograd.grad(loss, list(agent.actor.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(agent.actor.parameters(), grads, strict=True):
                parameter -= 0.01 * grad
        out, _ = agent.actor.unroll(p.obs, p.memory)
        assert bool(agent.actor.log_prob(out, p.act, p.avail).mean() > p.logp.mean()) is grows
    loss, _ = actor_loss(agent.actor, pseudo(agent, 1.0, avail_all=False), config.policy.clip, 0.0)
    assert all(not g.any() for g in torch.autograd.grad(loss, list(agent.actor.parameters())))


def test_beyond_the_clip_there_is_no_gradient() -> None:
    config = settings("toy/lights", policy__entropy=0.0)
    agent, _ = agent_and_replay(config, sweeps=1)
    p = pseudo(agent, 1.0)
    p.logp = p.logp - math.log(1 + 2 * config.policy.clip)
    loss, _ = actor_loss(agent.actor, p, config.policy.clip, config.policy.entropy)
    assert all(not g.any() for g in torch.autograd.grad(loss, list(agent.actor.parameters())))


def test_the_policy_losses_leave_the_world_model_alone() -> None:
    config = settings("toy/lights")
    agent, replay = agent_and_replay(config)
    before = {name: value.clone() for name, value in agent.model.state_dict().items()}
    batch, rngs = to_torch(replay.sample(8, 8, np.random.default_rng(0)), agent.device), Generators(0)
    _, p = agent._imagine(*agent._branches(batch, rngs), rngs)
    loss, _ = actor_loss(agent.actor, p, config.policy.clip, config.policy.entropy)
    (loss + critic_loss(agent.critic, agent.value_norm, p, 10.0)).backward()
    assert all(parameter.grad is None for parameter in agent.model.parameters())
    assert any(parameter.grad is not None for parameter in agent.actor.parameters())
    agent.update(replay, rngs, 0, 2)
    assert all(torch.equal(value, before[name]) for name, value in agent.model.state_dict().items())


def test_value_norm_and_return_scale_follow_the_moments() -> None:
    norm, scale, values = ValueNorm(True), ReturnScale(floor=0.1), 5 + 3 * torch.randn(20_000)
    for chunk in values.chunk(20):
        norm.update(chunk)
        spread = scale.update(chunk)
    mean, std = norm.moments()
    assert mean.item() == pytest.approx(5, abs=0.1) and std.item() == pytest.approx(3, abs=0.1)
    assert spread.item() == pytest.approx(3 * 2 * 1.645, rel=0.05)
    assert torch.allclose(norm.denormalise(norm.normalise(values)), values, atol=1e-4)
    assert ReturnScale(floor=0.1).update(torch.ones(10)).item() == pytest.approx(0.1)
    weighted = standardise(torch.tensor([[1.0, 3.0, 99.0]]), torch.tensor([[1.0, 1.0, 0.0]]))
    assert torch.allclose(weighted[0, :2], torch.tensor([-1.0, 1.0]))


@pytest.mark.parametrize("env", ["toy/lights", pytest.param("toy/dials", marks=pytest.mark.long)])
def test_learns_the_toy_game(env: str) -> None:
    """From random play alone, so all that the policy knows of the game it learned from the model."""
    config = settings(
        env, world_model__lr=3e-3, world_model__categoricals=8, world_model__classes=8, policy__e_sample=4,
        policy__lr_actor=3e-3, policy__lr_critic=3e-3, policy__entropy=0.001,
        world_model__pad_ends=True, world_model__foresight=1.0,
    )  # fmt: skip
    agent, replay = agent_and_replay(config, sweeps=40)
    agent.update(replay, Generators(0), 500, 0)
    agent.update(replay, Generators(1), 0, 40)
    game = make_env(env, 16)
    columns = play(game, agent.team(16, 0), "independent", 0.0, 32, 5)
    reached = float(np.mean(columns["return"] / columns["length"]))
    chance = random_performance(game, 64, 6) if env == "toy/dials" else 1 / agent.spec.act_dim
    assert reached > 0.9 and reached > chance + 0.3


@torch.no_grad()
def test_imagination_begins_with_the_memory_that_the_actor_had_before_the_row() -> None:
    """And the posterior there: what the actor would do at a row in play is what it does first in imagination."""
    agent, replay = agent_and_replay(settings("toy/lights"))
    batch = to_torch(replay.sample(8, 8, np.random.default_rng(0)), agent.device)
    shown = batch | {"obs": agent.model.normalise(batch["obs"]), "seen": torch.ones(batch["obs"].shape[:3])}
    h, z, memory = agent._states(torch.Generator().manual_seed(0), shown)
    assert not memory[:, 0].any() and torch.equal(h[:, 0], agent.model.initial(batch["start"]))
    for row in (1, 5):
        _, after = agent.actor.unroll(shown["obs"][:, :row], agent.actor.initial(8))
        assert torch.allclose(memory[:, row], after[:, -1], atol=1e-6)
        led = agent.model.advance(h[:, row - 1], z[:, row - 1], agent.model.embed_action(batch["act"][:, row - 1]))
        assert torch.allclose(h[:, row], led, atol=1e-6)


@torch.no_grad()
def test_an_imagined_step_counts_as_much_as_it_is_likely_to_be_played() -> None:
    agent, replay = agent_and_replay(settings("toy/lights"))
    batch, rngs = to_torch(replay.sample(8, 8, np.random.default_rng(0)), agent.device), Generators(0)
    imagined, p = agent._imagine(*agent._branches(batch, rngs), rngs)
    assert torch.equal(p.weight, still_playing(imagined.con)) and (p.weight < 0.9).any()  # a new model doubts it
