"""QMIX: returns and mixing in closed form, what may be chosen, and that it learns."""

import numpy as np
import pytest
import torch
from learning_cases import SEEDS
from off_policy_cases import agent_and_replay, greedy, settings, some_windows, trained

from rmiov2.agents.off_policy import windows
from rmiov2.agents.qmix.losses import best, own_values, td_loss, td_target
from rmiov2.agents.registry import make_agent
from rmiov2.envs.registry import make_env
from rmiov2.policy.exploration import epsilon, or_uniform
from rmiov2.policy.mixing import Mixer
from rmiov2.policy.returns import td_lambda
from rmiov2.replay.buffer import Replay
from rmiov2.training.collect import Sweep
from rmiov2.training.pretrain import policy_of
from rmiov2.types import UserError


def test_lambda_returns_by_hand_where_the_game_ended_where_time_ran_out_and_before_padding() -> None:
    gamma, lam = 0.9, 0.8
    rew = torch.tensor([[1.0, 2.0, 3.0, 7.0]]).expand(3, 4)
    con = torch.tensor([[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    step = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    ahead = torch.tensor([[10.0, 20.0, 30.0, 40.0]]).expand(3, 4)
    got = td_lambda(rew, con, step, ahead, gamma, lam)
    for row, third in enumerate([3.0, 3 + 0.9 * 30, 3 + 0.9 * (0.2 * 30 + 0.8 * (7 + 0.9 * 40))]):
        second = 2 + 0.9 * (0.2 * 20 + 0.8 * third)
        first = 1 + 0.9 * (0.2 * 10 + 0.8 * second)
        assert torch.allclose(got[row, :3], torch.tensor([first, second, third])), row
    alone = td_lambda(rew[1:2, :3], con[1:2, :3], step[1:2, :3], ahead[1:2, :3], gamma, lam)
    assert torch.equal(alone, got[1:2, :3]), "padding changes nothing"


def test_lambda_returns_at_both_ends_of_lambda() -> None:
    rew, con, step, ahead = torch.randn(4, 6), torch.ones(4, 6), torch.ones(4, 6), torch.randn(4, 6)
    assert torch.allclose(td_lambda(rew, con, step, ahead, 0.9, 0.0), rew + 0.9 * ahead)
    total = (rew * 0.9 ** torch.arange(6)).sum(1) + 0.9**6 * ahead[:, -1]
    assert torch.allclose(td_lambda(rew, con, step, ahead, 0.9, 1.0)[:, 0], total, atol=1e-5)


def slopes(monotone: bool, seed: int) -> torch.Tensor:
    """dQ_tot / dQ_i for random weights, values and states."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mixer = Mixer(4, 6, 8, 12, monotone)
        q, state = 3 * torch.randn(500, 4), 3 * torch.randn(500, 6)
    return torch.autograd.grad(mixer(q.requires_grad_(), state).sum(), q)[0]


def test_the_team_never_loses_by_a_better_own_value_unless_the_mixer_may_be_of_any_slope() -> None:
    assert all(slopes(True, seed).min() >= 0 for seed in range(20))
    assert all(slopes(False, seed).min() < 0 < slopes(False, seed).max() for seed in range(20))


def test_the_mixer_is_a_sum_where_its_weights_say_so() -> None:
    mixer, q = Mixer(3, 5, 4, 6, True), torch.randn(50, 7, 3)
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
        mixer.weight_1[2].bias.copy_(torch.tensor([-1.0, 0, 0, 0]).repeat(3))  # its size is taken
        mixer.bias_1.bias[0] = 100.0  # where ELU is the identity
        mixer.weight_2[2].bias[0] = 1.0
        mixer.bias_2[2].bias[0] = -100.0
        assert torch.allclose(mixer(q, torch.randn(50, 7, 5)), q.sum(-1), atol=1e-4)


def test_what_is_not_available_is_never_chosen_and_what_is_is_equally_likely() -> None:
    rng = np.random.default_rng(0)
    avail = np.tile(np.array([[False, True, False, True, True], [False, False, False, False, True]]), (500_000, 1, 1))
    drawn = or_uniform(np.where(avail, 1, 0).argmax(-1), avail, 1.0, rng)
    assert np.take_along_axis(avail, drawn[..., None], -1).all()
    assert np.allclose(np.bincount(drawn[:, 0], minlength=5) / len(drawn), [0, 1 / 3, 0, 1 / 3, 1 / 3], atol=0.003)
    kept = or_uniform(np.full((200_000, 1), 1), avail[:200_000, :1], 0.3, rng)
    assert (kept == 1).mean() == pytest.approx(0.7 + 0.1, abs=0.005)
    q = torch.tensor([[9.0, 1.0, 8.0, 2.0, 0.0]]).expand(2, 5)
    assert best(q, torch.from_numpy(avail[0])).tolist() == [3, 4]


def test_an_agent_explores_less_with_every_step_and_only_where_it_may() -> None:
    agent, _ = agent_and_replay("qmix", "toy/lights", "agent.epsilon_steps=100", "agent.epsilon_end=0.1")
    assert [epsilon(agent.settings, steps) for steps in (0, 50, 100, 900)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    env, rng = make_env("toy/lights", 4000), np.random.default_rng(0)
    step = env.reset(0)
    best_acts, _ = agent.act(agent.start(4000), step.obs, step.avail, step.first, rng, greedy=True)
    for env_steps in (0, 50, 100):
        agent.env_steps = env_steps
        act, _ = agent.act(agent.start(4000), step.obs, step.avail, step.first, rng, greedy=False)
        assert np.take_along_axis(step.avail, act[..., None], -1).all()
        share = epsilon(agent.settings, env_steps) * 4 / 5  # five are available, one of them is the best
        assert (act != best_acts).mean() == pytest.approx(share, abs=0.02)


def test_an_episode_reads_in_one_go_as_it_was_played_step_by_step() -> None:
    agent, _ = agent_and_replay("qmix", "toy/clock")
    env = make_env("toy/clock", 6)
    game = Sweep(env, policy_of(agent, 6, np.random.default_rng(0), greedy=True), 0, 1000)
    replay = Replay(env.spec, 1000)
    for piece in next(game.pieces()):
        replay.add(piece, piece.rew)
    w = some_windows(replay, 8, batch=32)
    chosen = best(own_values(agent.online, w), w.avail)[:, :-1]
    assert torch.equal(chosen[w.step > 0], w.act.argmax(-1)[w.step > 0])


def test_rows_that_begin_an_episode_remember_nothing() -> None:
    agent, _ = agent_and_replay("qmix", "toy/lights")
    env, rng = make_env("toy/lights", 3), np.random.default_rng(0)
    step = env.reset(0)
    _, memory = agent.act(agent.start(3), step.obs, step.avail, step.first, rng, greedy=True)
    first = np.array([True, False, True])
    _, after = agent.act(memory, step.obs, step.avail, first, rng, greedy=True)
    _, fresh = agent.act(agent.start(3), step.obs, step.avail, first, rng, greedy=True)
    for mine, new in ((after.hidden, fresh.hidden), (memory.begin(first).act, agent.start(3).act)):
        assert torch.equal(mine[first], new[first])
    assert not torch.equal(after.hidden[1], fresh.hidden[1])


def test_the_online_networks_choose_and_the_targets_judge() -> None:
    agent, replay = agent_and_replay("qmix_classic", "toy/lights")
    w = some_windows(replay, 13)
    with torch.no_grad():
        agent.target.agents.head.weight.mul_(-1)
        q, judged = own_values(agent.online, w), own_values(agent.target, w)
        chosen = q.masked_fill(~w.avail, -1e9).argmax(-1, keepdim=True)
        ahead = agent.target.mixer(judged.gather(-1, chosen).squeeze(-1)[:, 1:], w.state[:, 1:])
        assert torch.allclose(td_target(agent.target, w, q, 0.9, 0.0), w.rew + 0.9 * w.con * ahead)


def test_targets_are_copied_every_so_many_updates_and_stay_in_between() -> None:
    agent, replay = agent_and_replay("qmix", "toy/lights", "agent.target_every=3")
    w = some_windows(replay, 13)
    for update in range(1, 7):
        agent.learn(w, 1.0)
        pairs = zip(agent.online.parameters(), agent.target.parameters(), strict=True)
        assert all(torch.equal(mine, target) for mine, target in pairs) is (update % 3 == 0)


def test_the_loss_falls_on_a_batch_that_stays() -> None:
    agent, replay = agent_and_replay("qmix", "toy/lights", "agent.target_every=1000")
    w = some_windows(replay, 13)
    told = [float(agent.learn(w, 1.0)["td_loss"].detach()) for _ in range(150)]
    assert told[-1] < 0.2 * told[0]
    loss, _ = td_loss(agent.online, agent.target, w, 0.99, 0.5)
    assert torch.isfinite(loss)


def test_it_needs_no_state() -> None:
    agent, replay = agent_and_replay("qmix", "toy/lights")
    w = some_windows(replay, 13)
    bare = type(replay.spec)(**{**vars(replay.spec), "state_dim": 0})
    batch = replay.sample(4, 13, np.random.default_rng(0))
    seen = np.zeros((4, 13, 3), bool)
    assert torch.equal(windows(batch, bare, 13, seen).state, torch.from_numpy(batch.obs).flatten(2))
    assert w.state.shape[-1] == replay.spec.state_dim
    assert make_agent(agent.config, bare).online.mixer.bias_1.in_features == 3 * 15


def test_continuous_actions_are_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match="qmix plays discrete actions only, toy/dials has continuous ones; choose"):
        make_agent(settings("qmix", "toy/dials"), make_env("toy/dials", 1).spec)


LEARNS = (
    "collect.num_envs=8", "collect.warmup_steps=400", "collect.capacity=20000", "pretrain.env_steps=6000",
    "pretrain.e_m=0.2", "agent.target_every=20", "agent.epsilon_steps=3000", "policy.gamma=0.9",
)  # fmt: skip


@pytest.mark.parametrize("preset", ["qmix", pytest.param("qmix_classic", marks=pytest.mark.long)])
@pytest.mark.parametrize("seed", SEEDS)
def test_learns_the_toy_game_to_its_optimum(preset: str, seed: int) -> None:
    columns = greedy(trained(settings(preset, "toy/lights", *LEARNS, f"seed={seed}")))
    assert columns["won"].mean() == 1 and columns["return"].mean() == pytest.approx(12)
