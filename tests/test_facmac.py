"""FACMAC: actions of both kinds, the two losses in closed form, and that it learns."""

import numpy as np
import pytest
import torch
from learning_cases import SEEDS
from off_policy_cases import agent_and_replay, greedy, settings, some_windows, trained

from rmiov2.agents.facmac.losses import actor_loss, critic_loss, td_target
from rmiov2.envs.registry import make_env
from rmiov2.policy.exploration import gumbel, straight_through


def test_a_straight_through_draw_is_one_hot_and_has_the_gradient_of_the_softmax() -> None:
    logits, noise = torch.randn(200, 6, requires_grad=True), gumbel(torch.Size((200, 6)), torch.Generator())
    weight = torch.randn(200, 6)
    drawn = straight_through(logits, noise)
    assert torch.allclose(drawn, torch.nn.functional.one_hot((logits + noise).argmax(-1), 6).float(), atol=1e-6)
    mine = torch.autograd.grad((drawn * weight).sum(), logits)[0]
    assert torch.allclose(mine, torch.autograd.grad((torch.softmax(logits + noise, -1) * weight).sum(), logits)[0])


def test_gumbel_draws_have_the_probabilities_of_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf]).expand(200_000, 4)
    drawn = straight_through(logits, gumbel(logits.shape, torch.Generator().manual_seed(0)))
    assert torch.allclose(drawn.mean(0), torch.softmax(logits[0], -1), atol=0.005)
    assert drawn[:, 3].max() == 0


def test_what_is_not_available_has_no_probability_no_gradient_and_is_never_chosen() -> None:
    agent, _ = agent_and_replay("facmac_discrete", "toy/lights", "agent.epsilon_start=0.5")
    actor, rng = agent.actor, np.random.default_rng(0)
    out = (5 * torch.randn(350_000, 3, 6, generator=torch.Generator().manual_seed(0))).requires_grad_()
    avail = torch.rand(out.shape, generator=torch.Generator().manual_seed(1)) < 0.3
    avail[..., 5] |= ~avail.any(-1)
    soft = actor.differentiable(out, avail, gumbel(out.shape, torch.Generator().manual_seed(2)))
    assert not soft[~avail].any()
    gradient = torch.autograd.grad((soft * torch.arange(6)).sum(), out)[0]
    assert not gradient[~avail].any() and gradient[avail].any()
    with torch.no_grad():
        for act in (actor.explore(out, avail, 0, rng), actor.best(out, avail)):
            assert torch.equal(act.sum(-1), torch.ones(350_000, 3)) and not act[~avail].any()


def test_exploring_mixes_the_own_probabilities_with_a_uniform_share() -> None:
    agent, _ = agent_and_replay("facmac_discrete", "toy/lights", "agent.epsilon_start=0.4")
    out = torch.tensor([0.0, 1.0, 2.0, 5.0, 0.0, 0.0]).expand(200_000, 1, 6)
    avail = torch.tensor([True, True, True, False, False, False]).expand(out.shape)
    share = agent.actor.explore(out, avail, 0, np.random.default_rng(0)).mean((0, 1))
    expected = 0.6 * torch.softmax(out[0, 0, :3], -1) + 0.4 / 3
    assert torch.allclose(share, torch.cat([expected, torch.zeros(3)]), atol=0.005)


def test_continuous_actions_stay_in_their_range_and_width_and_explore_by_the_noise_that_is_set() -> None:
    agent, _ = agent_and_replay("facmac", "toy/dials", "agent.noise=0.2")
    step, rng = make_env("toy/dials", 20_000).reset(0), np.random.default_rng(0)
    start = agent.start(20_000)
    mean, _ = agent.act(start, step.obs, None, step.first, rng, greedy=True)
    act, memory = agent.act(start, step.obs, None, step.first, rng, greedy=False)
    has = np.array([[True, False], [True, False], [True, True]])
    assert act.dtype == mean.dtype == np.float32 and np.abs(act).max() <= 1
    assert not act[:, ~has].any() and not mean[:, ~has].any() and memory.hidden.shape == (20_000, 3, 0)
    inside = np.abs(mean[:, has]) < 0.3
    assert (act - mean)[:, has][inside].std() == pytest.approx(0.2, rel=0.05)


def test_columns_beyond_an_agent_s_width_are_nothing_to_the_critic() -> None:
    """Random play fills them."""
    _, replay = agent_and_replay("facmac", "toy/dials")
    raw = replay.sample(16, 2, np.random.default_rng(0)).act
    w = some_windows(replay, 2)
    assert raw[:, :, 0, 1].any() and not w.act[:, :, :2, 1].any() and w.act[:, :, 2].all()


def test_the_continuous_target_is_one_step_whatever_lambda_is() -> None:
    agent, replay = agent_and_replay("facmac", "toy/dials")
    w = some_windows(replay, 2, batch=50)
    with torch.no_grad():
        agent.target_actor.body[4].bias.add_(0.3)
        agent.target_critic.each[4].bias.add_(1.0)
        act = torch.tanh(agent.target_actor.body(w.obs[:, 1])) * agent.actor.widths
        ahead = agent.target_critic(w.obs[:, 1], act, w.state[:, 1])
        for lam in (0.0, 0.8):
            y = td_target(agent.target_actor, agent.target_critic, w, 0.9, lam)
            assert torch.allclose(y, (w.rew[:, 0] + 0.9 * w.con[:, 0] * ahead)[:, None])
        q_tot = agent.critic(w.obs[:, 0], w.act[:, 0], w.state[:, 0])
        assert torch.allclose(critic_loss(agent.critic, y, w)[0], ((y[:, 0] - q_tot) ** 2).mean())


def test_the_policy_gradient_goes_through_the_actions_of_all_agents_at_once() -> None:
    agent, replay = agent_and_replay("facmac", "toy/dials")
    w = some_windows(replay, 2, batch=50)
    act = (torch.tanh(agent.actor.body(w.obs[:, 0])) * agent.actor.widths).detach().requires_grad_()
    by_action = torch.autograd.grad(agent.critic(w.obs[:, 0], act, w.state[:, 0]).mean(), act)[0]
    shaped = torch.tanh(agent.actor.body(w.obs[:, 0])) * agent.actor.widths
    size = (shaped**2).sum() / (50 * 4)
    expected = torch.autograd.grad(0.1 * size - (shaped * by_action).sum(), list(agent.actor.parameters()))
    got = torch.autograd.grad(actor_loss(agent.actor, agent.critic, w, None, 0.1, 4), list(agent.actor.parameters()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize(("monotone", "any_negative"), [("true", False), ("false", True)])
def test_the_critic_is_monotone_in_its_agents_only_if_it_is_told_to_be(monotone: str, any_negative: bool) -> None:
    agent, replay = agent_and_replay("facmac", "toy/dials", f"agent.monotone={monotone}")
    w = some_windows(replay, 2, batch=50)
    own = agent.critic.each(torch.cat([w.obs[:, 0], w.act[:, 0]], -1)).squeeze(-1).detach().requires_grad_()
    slope = torch.autograd.grad(agent.critic.mixer(own, w.state[:, 0]).sum(), own)[0]
    assert bool((slope < 0).any()) is any_negative


def test_targets_move_by_tau_every_so_many_updates() -> None:
    agent, replay = agent_and_replay("facmac", "toy/dials", "agent.target_every=2", "agent.tau=0.25")
    w = some_windows(replay, 2)
    begun = [p.clone() for net in (agent.target_actor, agent.target_critic) for p in net.parameters()]
    agent.learn(w, None, 1.0)
    now = [p for net in (agent.target_actor, agent.target_critic) for p in net.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(begun, now, strict=True))
    agent.learn(w, None, 1.0)
    online = [*agent.actor.parameters(), *agent.critic.parameters()]
    moved = [0.75 * a + 0.25 * b for a, b in zip(begun, online, strict=True)]
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(now, moved, strict=True))


# Without the regulariser the actor is soon so sure of one action and, where it is forbidden, of another one that no
# gradient is left: 0.4 a step, whatever the light is.
DISCRETE = (
    "collect.num_envs=8", "collect.warmup_steps=400", "collect.capacity=20000", "pretrain.env_steps=6000",
    "pretrain.e_m=0.15", "agent.target_every=20", "agent.epsilon_steps=3000", "agent.epsilon_end=0.2",
    "agent.regulariser=6.0", "policy.gamma=0.9", "policy.lr_actor=1.0e-3", "policy.lr_critic=5.0e-3",
    "policy.hidden=64", "policy.critic_hidden=64",
)  # fmt: skip
CONTINUOUS = (
    "collect.num_envs=8", "collect.warmup_steps=1000", "collect.capacity=20000", "pretrain.env_steps=4500",
    "pretrain.e_m=0.5", "pretrain.anneal=0.1", "agent.tau=0.01", "agent.adam_eps=1.0e-4", "policy.gamma=0.8",
    "policy.hidden=64", "policy.critic_hidden=64", "agent.batch=64",
)  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_learns_the_discrete_toy_game_to_its_optimum(seed: int) -> None:
    columns = greedy(trained(settings("facmac_discrete", "toy/lights", *DISCRETE, f"seed={seed}")))
    assert columns["won"].mean() == 1 and columns["return"].mean() == pytest.approx(12)


@pytest.mark.parametrize("seed", SEEDS)
def test_learns_the_continuous_toy_game_to_its_optimum(seed: int) -> None:
    columns = greedy(trained(settings("facmac", "toy/dials", *CONTINUOUS, f"seed={seed}")))
    assert (columns["return"] / columns["length"]).mean() > 0.99
