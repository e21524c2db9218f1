"""The toy games earn exactly what their docstrings say, for the known best play and for random play."""

import numpy as np
import pytest

from rmiov2.envs import make_env
from rmiov2.types import UserError


def play(env, choose, rounds):
    """Total reward and win rate of episodes played by choose(env, step)."""
    step, total, won, episodes = env.reset(), 0.0, 0, 0
    while episodes < rounds:
        step = env.step(choose(env, step))
        total += step.rew.sum()
        won += step.won.sum()
        episodes += step.done.sum()
    return total / episodes, won / episodes


def random_legal(rng):
    return lambda env, step: np.argmax(rng.random(step.avail.shape) * step.avail, axis=-1)


def test_right_answers_earn_the_optimum_and_win():
    best, won = play(make_env("toy/lights", 6), lambda env, step: env.answers(), 30)
    assert best == pytest.approx(12) and won == 1


def test_one_wrong_answer_in_an_episode_loses_it():
    env = make_env("toy/lights", 2)
    step = env.reset()
    for t in range(12):
        act = env.answers()
        if t == 4:
            act[0, 1] = 5  # row 0 waits once
        step = env.step(act)
    assert step.terminated.all() and not step.truncated.any()
    assert step.won.tolist() == [False, True]


def test_random_answers_earn_two_point_four():
    mean, won = play(make_env("toy/lights", 64), random_legal(np.random.default_rng(0)), 640)
    assert mean == pytest.approx(2.4, abs=0.12) and won == 0  # deviation of the mean 0.024


def test_one_light_tells_every_other_now_and_later():
    env = make_env("toy/lights", 4)
    now = env.reset().obs.reshape(4, 3, 3, 5)
    later = env.step(env.answers()).obs.reshape(4, 3, 3, 5)
    light = now[:, 0, 0].argmax(-1)
    for i in range(3):
        assert np.array_equal(now[:, i, i].argmax(-1), (light + i) % 5)
        assert np.array_equal(later[:, i, i].argmax(-1), (light + i + 1) % 5)
        assert (now[:, i].sum((1, 2)) == 1).all()  # nothing outside its own slot


def test_the_answer_after_the_right_one_is_refused():
    env = make_env("toy/lights", 2)
    env.reset()
    with pytest.raises(UserError, match="action .* of agent 0 in environment 0 is not available"):
        env.step((env.answers() + 1) % 5)


def test_dials_set_right_earn_one_a_step_until_time_is_up():
    env = make_env("toy/dials", 5)
    step = env.reset()
    for _ in range(12):
        step = env.step(env.targets().astype(np.float32))
        assert step.rew == pytest.approx(np.ones(5))
    assert step.truncated.all() and not step.terminated.any()


def test_dials_still_or_random_earn_what_the_docstring_says():
    rng = np.random.default_rng(0)
    still, _ = play(make_env("toy/dials", 64), lambda env, step: np.zeros((64, 3, 2), np.float32), 640)
    wild, _ = play(make_env("toy/dials", 64), lambda env, step: rng.uniform(-1, 1, (64, 3, 2)).astype(np.float32), 640)
    assert still / 12 == pytest.approx(1 / 2, abs=0.01)
    assert wild / 12 == pytest.approx(1 / 6, abs=0.02)


def test_dials_ignore_padded_actions():
    env = make_env("toy/dials", 3)
    env.reset()
    act = env.targets().astype(np.float32)
    act[:, :2, 1] = -1
    assert env.step(act).rew == pytest.approx(np.ones(3))


def test_clock_names_step_action_and_end():
    env, rng = make_env("toy/clock", 50), np.random.default_rng(0)
    step = env.reset()
    t, lengths = np.zeros(50, int), {"terminated": set(), "truncated": set()}
    for _ in range(60):
        act = rng.integers(2, size=(50, 2))
        step = env.step(act)
        assert step.rew == pytest.approx(np.where(step.first, 0, (t + 1) / 8))
        t = np.where(step.first, 0, t + 1)
        assert np.array_equal(step.obs[..., :8].argmax(-1), np.stack([t, t], axis=1))
        taken = np.eye(2)[act] * ~step.first[:, None, None]
        assert np.array_equal(step.obs[..., 8:10], taken)
        assert step.obs[:, 0, 10] == pytest.approx((np.arange(50) + 1) / 50)
        lengths["terminated"] |= set(t[step.terminated])
        lengths["truncated"] |= set(t[step.truncated])
    assert lengths == {"terminated": {4, 6}, "truncated": {3, 5, 7}}
