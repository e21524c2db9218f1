"""Known answers and invariances of the intervals."""

from __future__ import annotations

import numpy as np
import pytest

from rmiov2.evaluation import statistics
from rmiov2.types import UserError

GRID = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    ("wins", "episodes", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (500, 1000, 0.4691, 0.5309)],
)
def test_wilson_known_answers(wins: int, episodes: int, low: float, high: float) -> None:
    assert statistics.wilson(wins, episodes) == pytest.approx((low, high), abs=2e-4)


def test_wilson_has_its_closed_form() -> None:
    n, share, z = 37, 11 / 37, 1.959963984540054
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert statistics.wilson(11, 37) == pytest.approx((centre - half, centre + half))


def test_wilson_refuses_nonsense() -> None:
    for wins, episodes in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(UserError):
            statistics.wilson(wins, episodes)


def test_auc_of_a_line_is_its_middle_and_of_a_constant_the_constant() -> None:
    assert statistics.auc(GRID, 1 - GRID) == pytest.approx(0.5)
    assert statistics.auc(GRID, np.full(6, -3.5)) == pytest.approx(-3.5)
    uneven = np.array([0.0, 0.1, 1.0])
    assert statistics.auc(uneven, 1 - uneven) == pytest.approx(0.5)


def test_auc_of_the_sketch_table() -> None:
    assert statistics.auc(GRID, np.array([0.54, 0.47, 0.36, 0.18, 0.06, 0.0])) == pytest.approx(0.268)


def test_auc_refuses_a_grid_that_does_not_rise() -> None:
    with pytest.raises(UserError):
        statistics.auc(np.array([0.0, 0.0, 1.0]), np.ones(3))


def test_bootstrap_of_the_mean_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(2.0, 3.0, size=2000)
    low, high = statistics.mean_interval(values, 4000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    intervals = [statistics.mean_interval(rng.exponential(size=60), 300) for _ in range(200)]
    covered = np.mean([low <= 1.0 <= high for low, high in intervals])
    assert 0.86 <= covered <= 0.99


def test_bootstrap_is_equivariant_and_repeatable() -> None:
    values = np.random.default_rng(2).exponential(size=100)
    low, high = statistics.mean_interval(values, 500)
    assert statistics.mean_interval(values, 500) == (low, high)
    assert statistics.mean_interval(-2 * values + 1, 500) == pytest.approx((1 - 2 * high, 1 - 2 * low))


def test_bootstrap_refuses_one_episode() -> None:
    with pytest.raises(UserError, match="2 at least"):
        statistics.mean_interval(np.ones(1), 100)


def test_auc_interval_has_the_width_of_independent_strata() -> None:
    """Strata resampled together would be wider: the variance of the area is the weighted sum of theirs."""
    rng = np.random.default_rng(3)
    strata = [[rng.normal(size=500)] for _ in GRID]
    low, high = statistics.auc_interval(GRID, strata, 4000)
    weights = np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.1])
    deviation = np.sqrt(sum(w**2 * s[0].var() / 500 for w, s in zip(weights, strata, strict=True)))
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_auc_interval_of_two_seeds_is_stratified_by_seed() -> None:
    """Seeds that differ a lot but never vary within leave no doubt about their mean."""
    strata = [[np.zeros(20), np.ones(20)] for _ in GRID]
    assert statistics.auc_interval(GRID, strata, 200) == pytest.approx((0.5, 0.5))


def test_pairs_take_out_what_both_sides_share() -> None:
    rng = np.random.default_rng(4)
    shared = rng.normal(0, 10, size=300)
    mean, (low, high) = statistics.paired_difference(shared + 0.5, shared, 300)
    assert mean == pytest.approx(0.5) and high - low < 1e-9
    with pytest.raises(UserError):
        statistics.paired_difference(shared, shared[:-1], 300)


def test_the_measure_chooses_the_interval() -> None:
    wins = np.array([1.0] * 5 + [0.0] * 5)
    assert statistics.performance_interval(wins, "win_rate", 100) == statistics.wilson(5, 10)
    assert statistics.performance_interval(wins, "step_return", 100) == statistics.mean_interval(wins, 100)


def rates(rng: np.random.Generator, shift: float, shared: list[np.ndarray]) -> list[np.ndarray]:
    return [values + shift + rng.normal(0, 0.5, size=len(values)) for values in shared]


def test_a_team_against_itself_differs_by_nothing_and_without_doubt() -> None:
    mine = rates(np.random.default_rng(5), 0.0, [np.zeros(50)] * 6)
    assert statistics.paired_auc_difference(GRID, mine, mine, 200) == (0.0, (0.0, 0.0))


def test_the_paired_difference_of_areas_has_the_width_of_what_is_not_shared() -> None:
    """Games that are hard for both sides (deviation 10) leave no doubt; what each does with them (0.5) does."""
    rng = np.random.default_rng(6)
    shared = [rng.normal(0, 10, size=400) for _ in GRID]
    area, (low, high) = statistics.paired_auc_difference(GRID, rates(rng, 0.3, shared), rates(rng, 0, shared), 4000)
    deviation = np.sqrt(np.sum(np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.1]) ** 2) * 2 * 0.5**2 / 400)
    assert low < area < high and high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_the_interval_of_the_paired_difference_covers_the_truth_about_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(7), []
    for _ in range(200):
        shared = [rng.normal(0, 3, size=40) for _ in GRID]
        _, (low, high) = statistics.paired_auc_difference(GRID, rates(rng, 0.1, shared), rates(rng, 0, shared), 300)
        covered.append(low <= 0.1 <= high)
    assert 0.88 <= np.mean(covered) <= 0.99


def test_the_paired_difference_is_that_of_the_areas_and_refuses_other_episodes() -> None:
    rng = np.random.default_rng(8)
    left, right = rates(rng, 1, [np.zeros(30)] * 6), rates(rng, 0, [np.zeros(30)] * 6)
    areas = [statistics.auc(GRID, np.array([values.mean() for values in side])) for side in (left, right)]
    assert statistics.paired_auc_difference(GRID, left, right, 50)[0] == pytest.approx(areas[0] - areas[1])
    with pytest.raises(UserError, match="same episodes"):
        statistics.paired_auc_difference(GRID, left, [values[1:] for values in right], 50)
