"""The replay: what windows hold, where they may lie, how often each step is seen, and what is forgotten."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from storage_cases import CONTINUOUS, DISCRETE, named

from rmiov2.replay.buffer import Replay
from rmiov2.types import EnvSpec, UserError


def filled(spec: EnvSpec, lengths: list[int], capacity: int = 10**6) -> Replay:
    replay = Replay(spec, capacity)
    for episode, steps in enumerate(lengths):
        trajectory = named(spec, episode, steps, start=episode != 1)
        replay.add(trajectory, -trajectory.rew)
    return replay


@pytest.mark.parametrize("pad_ends", [False, True])
@pytest.mark.parametrize("spec", [DISCRETE, CONTINUOUS])
def test_a_window_is_consecutive_rows_of_one_trajectory_and_what_is_missing_is_masked(
    spec: EnvSpec, pad_ends: bool
) -> None:
    lengths = [3, 9, 1, 30, 7]
    batch = filled(spec, lengths).sample(500, 8, np.random.default_rng(0), pad_ends)
    name = batch.obs[:, :, 0, 0]
    episode = (name[:, 0] // 100).astype(int)
    steps = np.array(lengths)[episode]
    first = (name[:, 0] % 100).astype(int)
    position = first[:, None] + np.arange(8)
    exists = position <= steps[:, None]
    np.testing.assert_array_equal(batch.row, exists)
    truth = np.where(exists, 100 * episode[:, None] + position, 0)
    np.testing.assert_array_equal(batch.obs, np.broadcast_to(truth[:, :, None, None], batch.obs.shape))
    np.testing.assert_array_equal(batch.state, np.broadcast_to(truth[:, :, None], batch.state.shape))
    acted = position < steps[:, None]
    np.testing.assert_array_equal(batch.rew, np.where(acted, truth, 0))
    np.testing.assert_array_equal(batch.trend, -batch.rew)
    agent_act = batch.act if spec.discrete else batch.act[..., 0]
    np.testing.assert_array_equal(agent_act, np.where(acted, truth % 4, 0)[:, :, None].repeat(2, 2))
    np.testing.assert_array_equal(batch.con, acted & (position < steps[:, None] - 1))
    inside = np.arange(8) < 7
    np.testing.assert_array_equal(batch.step, acted & inside)
    np.testing.assert_array_equal(batch.start, (first == 0) & (episode != 1))
    assert set(episode) == set(range(5)) and batch.start.any() and not batch.row.all()
    short = steps + 1 < 8
    if pad_ends:
        assert (first < steps).all() and (first == steps - 1).any()
    else:
        assert (first[short] == 0).all() and batch.row[~short].all()
    if spec.discrete:
        assert batch.avail is not None
        np.testing.assert_array_equal(batch.avail[..., 3].all(-1), ~exists)
        assert batch.avail[..., :3].all()
    else:
        assert batch.avail is None


@pytest.mark.parametrize("pad_ends", [False, True])
@pytest.mark.parametrize("length", [2, 5, 8])
def test_every_step_is_seen_at_least_as_often_as_the_middle_of_a_long_episode_and_less_than_three_times(
    length: int, pad_ends: bool
) -> None:
    lengths, draws, steps_seen = [40, 3, 12, 1], 60_000, length - 1
    windows = 0
    expected = np.zeros(400)
    for episode, steps in enumerate(lengths):
        for begin in range(1 - steps_seen, steps):
            inside = max(begin, 0) if pad_ends else min(max(begin, 0), max(steps - steps_seen, 0))
            expected[100 * episode + inside : 100 * episode + min(inside + steps_seen, steps)] += 1
            windows += 1
    covered = expected[expected > 0]
    assert len(covered) == sum(lengths)
    assert covered.min() == steps_seen == expected[20] == expected[39] and covered.max() < 3 * steps_seen
    batch = filled(DISCRETE, lengths).sample(draws, length, np.random.default_rng(1), pad_ends)
    seen = np.bincount(batch.rew[batch.step].astype(int), minlength=400) / draws
    probability = expected / windows
    np.testing.assert_array_less(np.abs(seen - probability), 5 * np.sqrt(probability / draws) + 1e-12)


def test_with_padded_ends_a_step_of_a_long_episode_is_its_last_as_often_at_every_row_of_a_window() -> None:
    """Moved inside, it is so at the last row alone: a clock that a recurrent model learns, and that no game has."""
    replay, length = filled(DISCRETE, [40] * 5), 8
    for pad_ends, often in ((True, 1 / 40), (False, 0.0)):
        batch = replay.sample(60_000, length, np.random.default_rng(2), pad_ends)
        ends = ((batch.con == 0) & batch.step)[~batch.start]  # a window that begins a game is the game's own time
        chance = ends.sum(0)[:-1] / batch.step[~batch.start].sum(0)[:-1]
        assert chance[:-1] == pytest.approx(often, rel=0.15)
        assert (chance[-1] == pytest.approx(often, rel=0.15)) == pad_ends


def test_samples_and_contents_depend_on_what_was_added_and_the_generator_alone() -> None:
    lengths = [5, 11, 2, 20]
    one, two = (filled(DISCRETE, lengths) for _ in range(2))
    two.sample(64, 4, np.random.default_rng(99))
    left, right = (replay.sample(64, 6, np.random.default_rng(3)) for replay in (one, two))
    np.testing.assert_array_equal(left.obs, right.obs)
    other = one.sample(64, 6, np.random.default_rng(4))
    assert (other.obs != left.obs).any()


def test_what_is_sampled_is_the_callers_to_change() -> None:
    replay = filled(DISCRETE, [5])
    replay.sample(4, 6, np.random.default_rng(0)).obs[:] = -1
    assert (replay.sample(4, 6, np.random.default_rng(0)).obs >= 0).all()


def test_the_oldest_are_forgotten_whole_and_the_rest_survives_growing_and_wrapping() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 60, size=300).tolist()
    replay = filled(DISCRETE, lengths, capacity=2000)
    held = replay.trajectories(replay.episodes)
    kept = len(held)
    assert kept == replay.episodes
    assert replay.steps == sum(lengths[-kept:]) <= 2000 < sum(lengths[-kept - 1 :])
    for episode, got in enumerate(held, start=300 - kept):
        want = named(DISCRETE, episode, lengths[episode])
        for name in ("obs", "avail", "state", "act", "rew", "con"):
            np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
        assert (got.start, got.won) == (want.start, want.won)
    batch = replay.sample(400, 10, rng)
    assert (batch.obs[:, 0, 0, 0] // 100 >= 300 - kept).all()
    assert [len(t) for t in replay.trajectories(3)] == lengths[-3:]
    assert replay.trajectories(0) == []


def test_growing_while_wrapped_keeps_every_row() -> None:
    # 900 steps wrap round the first 1024 rows; then short episodes, with a last row each, need more rows than that
    lengths = [300] * 5 + [1] * 900
    replay = Replay(DISCRETE, 900)
    for episode, steps in enumerate(lengths):
        replay.add(named(DISCRETE, episode, steps), np.zeros(steps, np.float32))
        if episode % 50 == 4:
            oldest = replay.trajectories(replay.episodes)[0]
            first = episode + 1 - replay.episodes
            np.testing.assert_array_equal(oldest.obs, named(DISCRETE, first, lengths[first]).obs)
    assert replay.steps == replay.episodes == 900


def test_reward_variance_is_that_of_the_rewards_held() -> None:
    lengths = [5, 40, 17, 60, 3]
    replay = Replay(DISCRETE, 100)
    assert replay.reward_variance() == 0.0
    rng, rewards = np.random.default_rng(0), []
    for episode, steps in enumerate(lengths):
        # far from zero, where a plain sum of squares would lose every digit
        rew = (1e4 + rng.normal(size=steps)).astype(np.float32)
        replay.add(replace(named(DISCRETE, episode, steps), rew=rew), rew)
        rewards.append(rew)
    held = np.concatenate(rewards[-replay.episodes :]).astype(np.float64)
    assert len(held) == replay.steps < sum(lengths)
    assert replay.reward_variance() == pytest.approx(held.var(), rel=1e-9)


def test_what_is_malformed_is_refused_in_one_sentence_and_leaves_the_replay_as_it_was() -> None:
    good = named(DISCRETE, 0, 5)
    assert good.avail is not None
    nan = good.obs.copy()
    nan[2, 1, 0] = np.nan
    nobody = good.avail.copy()
    nobody[3, 1] = False
    bad = {
        "obs": replace(good, obs=good.obs[:-1]),
        "finite": replace(good, obs=nan),
        "avail": replace(good, avail=None),
        "available": replace(good, avail=nobody),
        "int64": replace(good, act=good.act.astype(np.int32)),
        "0..3": replace(good, act=good.act + 2),
        "0 and 1": replace(good, con=good.con * 0.5),
        "before the last": replace(good, con=good.con[::-1]),
        "step": replace(good, rew=good.rew[:0]),
        "capacity": named(DISCRETE, 0, 60),
    }
    replay = Replay(DISCRETE, 50)
    for word, trajectory in bad.items():
        with pytest.raises(UserError, match=word):
            replay.add(trajectory, trajectory.rew)
    with pytest.raises(UserError, match="trend"):
        replay.add(good, good.rew[:-1])
    with pytest.raises(UserError, match="collect"):
        replay.sample(1, 2, np.random.default_rng(0))
    assert (replay.steps, replay.episodes) == (0, 0)
