"""The reward trend of eqs. (10)-(12)."""

from typing import Any

import numpy as np
import pytest
from learning_cases import settings

from rmiov2.config import RewardTrend
from rmiov2.world_model.reward_trend import half_widths, reward_trend


def trend_settings(**changes: Any) -> RewardTrend:
    values = {"mode": "conserving", "beta": 2.0, "h_base": 3, "h_min": 0, "h_max": 5, "sigma": 0.5, "normalise": False}
    return RewardTrend.model_validate(values | changes)


def episodes() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.normal(0, scale, length).astype(np.float32) for scale in (0.1, 1, 10) for length in (1, 2, 5, 60)]


@pytest.mark.parametrize("mode", ["conserving", "fixed"])
def test_the_sum_of_an_episode_is_kept(mode: str) -> None:
    for rew in episodes():
        trend, _ = reward_trend(rew, trend_settings(mode=mode), 1.0)
        assert trend.sum() == pytest.approx(rew.sum(), abs=1e-5 * (1 + float(np.abs(rew).sum())))


def test_the_literal_formula_counts_a_last_reward_again() -> None:
    rew = np.zeros(30, np.float32)
    rew[-1] = 4.0
    trend, half = reward_trend(rew, trend_settings(mode="paper"), 1.0)
    assert half[-1] > 0 and trend.sum() > 1.1 * rew.sum()


def test_calm_rewards_stay_and_wild_ones_spread_to_their_neighbours_only() -> None:
    rew = np.zeros(40, np.float32)
    rew[20] = 8.0
    trend, half = reward_trend(rew, trend_settings(), 1.0)
    assert half[20] == 5 and (half[[0, 39]] == 0).all()
    assert np.flatnonzero(trend).tolist() == list(range(15, 26))
    assert np.allclose(trend[15:26], trend[15:26][::-1]) and trend.argmax() == 20
    quiet = np.full(40, 0.3, np.float32)
    assert np.array_equal(reward_trend(quiet, trend_settings(), 1.0)[0], quiet)


def test_half_width_is_the_floor_of_beta_times_the_variance_within_bounds() -> None:
    rew = np.array([0, 0, 0, 2, 0, 0, 0], np.float32)  # in a window of 7: mean 2/7, variance 4/7 - 4/49 = 24/49
    for beta, expected in ((2.0, 0), (2.1, 1), (20.0, 5)):
        assert half_widths(rew, trend_settings(beta=beta), 1.0)[3] == expected
    assert half_widths(rew, trend_settings(beta=0.0, h_min=2), 1.0)[3] == 2
    scaled = half_widths(10 * rew, trend_settings(beta=2.1, normalise=True), 100.0)
    assert np.array_equal(scaled, half_widths(rew, trend_settings(beta=2.1), 1.0)), "normalised, the scale is no matter"


def test_off_is_the_identity() -> None:
    for rew in episodes():
        assert np.array_equal(reward_trend(rew, trend_settings(mode="off"), 1.0)[0], rew)


def test_the_default_keeps_the_sum() -> None:
    assert settings("toy/lights").reward_trend.mode == "conserving"
