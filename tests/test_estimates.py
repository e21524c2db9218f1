"""Intervals over seeds and of differences are the textbooks', and no narrower than the episodes allow."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from rmiov2.reporting.estimates import Estimate, Sample, by_seed, difference, holm, over_seeds
from rmiov2.reporting.methods.seeds import one_a_seed


def test_an_interval_over_seeds_is_students_and_never_narrower_than_the_episodes_allow() -> None:
    spread = over_seeds(Sample((0.2, 0.4, 0.6), (0.01,) * 3))
    assert spread.bounds == pytest.approx((0.4 - 4.302653 * 0.2 / 3**0.5, 0.4 + 4.302653 * 0.2 / 3**0.5), abs=1e-6)
    assert spread.p == pytest.approx(scipy.stats.ttest_1samp([0.2, 0.4, 0.6], 0).pvalue)
    agreeing = over_seeds(Sample((0.4,) * 3, (0.3,) * 3))
    assert agreeing.bounds == pytest.approx((0.4 - 0.3 / 3**0.5, 0.4 + 0.3 / 3**0.5))
    assert over_seeds(Sample((0.4,), (0.01,))) == Estimate(0.4, None)


def test_a_difference_of_unrelated_seeds_is_welchs() -> None:
    ours, theirs = [0.31, 0.39, 0.44], [0.18, 0.22, 0.20, 0.21]
    found = difference(Sample(tuple(ours), (0.0,) * 3), Sample(tuple(theirs), (0.0,) * 4))
    told = scipy.stats.ttest_ind(ours, theirs, equal_var=False)
    assert found.bounds == pytest.approx(tuple(told.confidence_interval()))
    assert found.p == pytest.approx(told.pvalue) and found.decided
    assert not difference(Sample((0.9,), (0.01,)), Sample(tuple(theirs), (0.0,) * 4)).decided


def test_a_difference_is_never_surer_than_the_episodes_of_both() -> None:
    one, other = Sample((0.5, 0.5), (0.06, 0.08)), Sample((0.4, 0.4), (0.0, 0.24))
    found = difference(one, other)
    assert found.bounds == pytest.approx((0.1 - 0.13, 0.1 + 0.13))  # hypot of 0.05 and 0.12
    assert found.p is not None and found.p > 0.05 and not found.decided


@pytest.mark.parametrize("lead", [-0.2, 0.05, 0.2])
def test_p_is_below_a_twentieth_where_the_interval_is_on_one_side(lead: float) -> None:
    found = over_seeds(Sample((lead - 0.03, lead + 0.01, lead + 0.02), (0.05,) * 3))
    assert found.p is not None and (found.p < 0.05) == found.decided


def test_no_spread_and_no_luck_leave_nothing_to_chance() -> None:
    assert over_seeds(Sample((0.5, 0.5), (0.0, 0.0))) == Estimate(0.5, (0.5, 0.5), 0.0)
    assert over_seeds(Sample((0.0, 0.0), (0.0, 0.0))) == Estimate(0.0, (0.0, 0.0), 1.0)


def test_teams_of_one_seed_count_once() -> None:
    found = by_seed([0, 0, 1], [0.2, 0.4, 0.7], [0.03, 0.04, 0.05])
    assert found.values == pytest.approx((0.3, 0.7)) and found.half_widths == pytest.approx((0.025, 0.05))
    assert over_seeds(found).mean == pytest.approx(0.5)


def test_holms_values_are_those_of_his_procedure() -> None:
    """p of 0.01, 0.04, 0.03 and 0.005, as in the textbooks; what has none is left out."""
    known = {name: Estimate(0.0, (0.0, 0.0), p) for name, p in zip("abcd", (0.01, 0.04, 0.03, 0.005), strict=True)}
    assert holm(known | {"alone": Estimate(1.0, None)}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_curves_of_one_seed_count_once() -> None:
    steps = np.array([0.0, 1.0])
    teams = [(0, (steps, np.array([0.0, 0.2]))), (0, (steps, np.array([0.0, 0.4]))), (1, (steps, np.array([0.0, 0.9])))]
    (_, first), (_, second) = one_a_seed(teams)
    assert first == pytest.approx([0.0, 0.3]) and second == pytest.approx([0.0, 0.9])
