"""Aggregates over seeds are rliable's, their intervals can be counted, and the page admits how few seeds there are."""

from __future__ import annotations

import csv
import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from test_methods import kept_methods

from rmiov2.reporting.methods.aggregates import Aggregate, improvement, iqm, profile
from rmiov2.reporting.methods.aggregates_figure import _profiles, aggregates_picture, banded
from rmiov2.reporting.style import canvas, looks, styled

OURS = np.array([[0.1, 0.5, 0.9], [0.2, 0.4, 0.3], [0.7, 0.8, 0.6], [0.35, 0.45, 0.05]])
THEIRS = np.array([[0.2, 0.3, 0.8], [0.4, 0.4, 0.1], [0.15, 0.5, 0.5]])


def test_values_are_those_of_rliable() -> None:
    """By rliable.metrics 1.2.0: aggregate_iqm, probability_of_improvement of each column; its score_distributions."""
    assert iqm(OURS).value == pytest.approx(0.4333333333333333) and iqm(THEIRS).value == pytest.approx(0.36)
    found = [float(improvement(OURS[:, [i]], THEIRS[:, [i]]).value) for i in range(3)]
    assert found == pytest.approx([0.5416666666666666, 0.75, 0.5])
    assert improvement(OURS, THEIRS).value == pytest.approx(np.mean(found))  # its average over tasks
    shares = profile(OURS, np.array([0.0, 0.2, 0.4, 0.45, 0.9])).value
    assert shares == pytest.approx([1.0, 0.75, 0.5, 0.4166666666666667, 0.0])


def test_an_interval_is_that_of_every_possible_resample() -> None:
    """Four seeds have 256 resamples, so the quantiles can be counted; a seed moves with all of its rates."""
    every = [OURS[list(chosen)] for chosen in product(range(4), repeat=4)]
    means = [np.sort(drawn.ravel())[3:9].mean() for drawn in every]
    found = iqm(OURS)
    assert found.bounds == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=0.01)
    pairs = product(product(range(4), repeat=4), product(range(3), repeat=3))
    mine, others = OURS[:, 0], THEIRS[:, 0]
    shares = [np.mean([(mine[i] > others[j]) + (mine[i] == others[j]) / 2 for i in a for j in b]) for a, b in pairs]
    better = improvement(mine[:, None], others[:, None])
    assert better.bounds == pytest.approx(tuple(np.quantile(shares, (0.025, 0.975))), abs=0.03)


def test_a_profile_falls_and_lies_within_its_band() -> None:
    levels = np.linspace(0, 1, 21)
    found = profile(OURS, levels)
    assert (np.diff(found.value) <= 0).all() and found.bounds is not None
    assert (found.bounds[0] <= found.value).all() and (found.value <= found.bounds[1]).all()


def test_equal_methods_are_even_and_a_tie_counts_half() -> None:
    for level in (np.array([[0.3], [0.3]]), np.array([[0.1], [0.4]])):
        assert float(improvement(level, level).value) == 0.5


def test_a_clean_sweep_has_no_interval_as_its_resamples_are_itself() -> None:
    clean = improvement(np.array([[0.7], [0.8], [0.9]]), np.array([[0.1], [0.2], [0.3]]))
    assert (clean.value, clean.bounds) == (1, None)
    assert improvement(OURS, THEIRS).bounds is not None
    nobody_wins_blind = np.array([[0.7, 0.0], [0.8, 0.0]]), np.array([[0.1, 0.0], [0.2, 0.0]])
    assert improvement(*nobody_wins_blind) == Aggregate(np.asarray(0.75), None)


def test_one_seed_has_no_interval_and_the_same_seeds_have_the_same() -> None:
    alone = iqm(OURS[:1])
    assert alone.bounds is None and alone.value == pytest.approx(0.5)
    assert improvement(OURS[:1], THEIRS).bounds is None
    first, again = iqm(OURS), iqm(OURS)
    assert (first.value, first.bounds) == (again.value, again.bounds)
    assert isinstance(first, Aggregate)


def test_the_picture_has_the_numbers_and_says_how_little_they_are(tmp_path: Path) -> None:
    levels = {"gawm": [0.40, 0.41, 0.42], "mag": [0.1, 0.2, 0.5], "mappo": [0.9]}
    methods = kept_methods(tmp_path, levels)
    evaluate = methods[0].seeds[0].evaluate
    with styled():
        picture = aggregates_picture(methods, evaluate, looks([m.agent for m in methods]))
    rows = list(csv.DictReader(io.StringIO(picture.data.decode())))
    means = {row["agent"]: row for row in rows if row["quantity"] == "iqm"}
    assert float(means["gawm"]["value"]) == pytest.approx(0.41) and means["mappo"]["lo"] == ""
    better = {row["agent"]: float(row["value"]) for row in rows if row["quantity"] == "improvement"}
    assert better == {"mag": pytest.approx(2 / 3), "mappo": 0}
    assert sum(row["quantity"] == "profile" for row in rows) == 3 * 101
    assert "3 seeds have 10 different resamples" in picture.caption
    assert "with 3 seeds against 3, even a clean sweep happens by luck with probability 0.10" in picture.caption
    assert "mappo 0.90 (no interval)" in picture.caption


def test_profiles_are_told_apart_without_colour_and_two_bands_at_most_lie_upon_each_other() -> None:
    levels = np.linspace(0, 1, 101)
    scores = {"gawm": OURS, "mag": THEIRS, "mappo": OURS + 0.1, "qmix": THEIRS / 2}
    bands = banded({agent: iqm(values) for agent, values in scores.items()})
    assert bands == ["gawm", "mappo"]
    with styled():
        axes = canvas().add_subplot()
        _profiles(axes, {a: profile(v, levels) for a, v in scores.items()}, levels, looks(list(scores)), bands)
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    first = [min(line.get_markevery()) for line in lines.values()]  # type: ignore[type-var,arg-type]
    assert len(set(first)) == len(scores)
    assert {line.get_marker() for line in lines.values()} == {look["marker"] for look in looks(list(scores)).values()}
    assert len(axes.collections) == len(bands)
    legend = axes.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == list(scores)
    assert legend.get_title().get_text() == "bands: gawm and mappo alone"
