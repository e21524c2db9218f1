"""Interquartile means, performance profiles and probabilities of improvement of the methods, with what seeds allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rmiov2.reporting.kept import Method
from rmiov2.reporting.methods.aggregates import Aggregate, Values, improvement, iqm, profile
from rmiov2.reporting.methods.measures import own_answer
from rmiov2.reporting.methods.reached import numbers, seed_curves
from rmiov2.reporting.style import FONT, INK, MUTED, Picture, canvas, csv_bytes, name_rows, png
from rmiov2.reporting.words import decimals_of, listed, measure_name, number, with_interval

THRESHOLDS = 101
APART = 15  # thresholds between two marks on a profile
Look = Mapping[str, Any]


def aggregates_picture(methods: Sequence[Method], evaluate: Mapping[str, Any], look: Mapping[str, Look]) -> Picture:
    """Three panels over methods, the run's own first, each by its own answer to a lost observation."""
    scores = {method.agent: seed_curves(method, own_answer(method)) for method in methods}
    levels = _thresholds(list(scores.values()), evaluate)
    means = {agent: iqm(values) for agent, values in scores.items()}
    profiles = {agent: profile(values, levels) for agent, values in scores.items()}
    own, *others = methods
    better = {method.agent: improvement(scores[own.agent], scores[method.agent]) for method in others}
    digits = decimals_of(evaluate)
    said = "; ".join(f"{agent} {_said(found, digits)}" for agent, found in means.items())
    beats = "; ".join(f"{agent} {_said(found, 2)}" for agent, found in better.items())
    caption = (
        "All rates p_loss taken together; the table says how many environment steps each method had. Interquartile"
        f" mean of the {measure_name(evaluate)}, without the best and the worst quarter of all seeds and rates, which"
        f" are mostly the ends of the curves: {said}. Profile: the share of seeds and rates above each value."
        f" Probability that a seed of {own.agent} is above a seed of the other method, a tie counting half, averaged"
        f" over the rates: {beats}."
        f" {_how_little(methods)}"
    )
    rows = [("iqm", agent, "", *row) for agent, found in means.items() for row in _rows(found)]
    rows += [
        ("profile", agent, level, *row)
        for agent, found in profiles.items()
        for level, row in zip(levels.tolist(), _rows(found), strict=True)
    ]
    rows += [("improvement", agent, "", *row) for agent, found in better.items() for row in _rows(found)]
    data = csv_bytes(("quantity", "agent", "threshold", "value", "lo", "hi"), rows)
    wide, narrow = (_drawn(means, profiles, better, levels, look, evaluate, columns) for columns in (3, 1))
    alt = "Three charts: interquartile means, performance profiles, and probabilities of improvement, with intervals."
    title = "All rates of loss at once"
    return Picture("methods_aggregates", title, caption, alt, wide, data, narrow)


def _thresholds(scores: Sequence[Values], evaluate: Mapping[str, Any]) -> Values:
    """From the lowest to the highest that is scored; of a win rate from 0 to 1."""
    if evaluate["measure"] == "win_rate":
        return np.linspace(0, 1, THRESHOLDS)
    every = np.concatenate([values.ravel() for values in scores])
    return np.linspace(every.min(), every.max(), THRESHOLDS)


def _rows(found: Aggregate) -> list[tuple[Any, ...]]:
    """value, lo, hi; the last two empty where there is no interval."""
    values = np.atleast_1d(found.value).tolist()
    if found.bounds is None:
        return [(value, "", "") for value in values]
    return list(zip(values, *(np.atleast_1d(bound).tolist() for bound in found.bounds), strict=True))


def _said(found: Aggregate, digits: int) -> str:
    value, bounds = float(found.value), found.bounds
    if bounds is None:
        return f"{number(value, digits)} (no interval)"
    return with_interval(value, (float(bounds[0]), float(bounds[1])), digits)


def _how_little(methods: Sequence[Method]) -> str:
    """What so few seeds can say, in exact numbers."""
    own, *others = (len(set(numbers(method))) for method in methods)
    fewest = min((seeds for seeds in (own, *others) if seeds > 1), default=0)
    if fewest == 0:
        return "One seed of each method says nothing about other seeds."
    most = max(others, default=own)
    chance = 2 / comb(own + most, own)
    return (
        "Intervals are 95 % bootstrap intervals over seeds; a seed is drawn with all its rates. So few seeds say"
        f" little: {fewest} seeds have {comb(2 * fewest - 1, fewest)} different resamples, none beyond the best and"
        " the worst of them, so the intervals are too narrow, and narrower than Student’s in the tables; and with"
        f" {own} {'seed' if own == 1 else 'seeds'}"
        f" against {most}, even a clean sweep happens by luck with probability {number(chance)}"
        " (two-sided). The intervals leave out the luck of the episodes."
    )


def _drawn(
    means: Mapping[str, Aggregate], profiles: Mapping[str, Aggregate], better: Mapping[str, Aggregate],
    levels: Values, look: Mapping[str, Look], evaluate: Mapping[str, Any], columns: int,
) -> bytes:  # fmt: skip
    tall = 0.34 * len(means) + 0.9
    figure = canvas(10.6, max(3.4, tall)) if columns == 3 else canvas(5.2, 2 * tall + 3.2)
    ratios: dict[str, Any] = {"width_ratios": (1, 1.25, 1)} if columns == 3 else {"height_ratios": (tall, 3.0, tall)}
    panels = figure.subplots(3 // columns, columns, squeeze=False, gridspec_kw=ratios)
    left, middle, right = panels.ravel()
    _dots(left, means, look, decimals_of(evaluate))
    left.set_title(f"interquartile mean, {measure_name(evaluate)}")
    _profiles(middle, profiles, levels, look, banded(means))
    middle.set_xlabel(measure_name(evaluate))
    _dots(right, better, look, 2)
    right.set_xlim(-0.02, 1.16)
    right.set_xticks([0, 0.5, 1])
    right.axvline(0.5, color=MUTED, lw=1, ls=(0, (1, 2)))
    right.set_title(f"probability that {next(iter(means))} is better")
    return png(figure)


def banded(means: Mapping[str, Aggregate]) -> list[str]:
    """The first method and the strongest of the others: more bands than two lie upon each other and cannot be read."""
    own, *others = means
    return [own, *sorted(others, key=lambda agent: -float(means[agent].value))[:1]]


def _profiles(
    axes: Axes, profiles: Mapping[str, Aggregate], levels: Values, look: Mapping[str, Look], bands: Sequence[str]
) -> None:
    """A falling line per method, the first on top, and the intervals of those in bands."""
    names = list(profiles)
    for place, agent in reversed(list(enumerate(names))):
        found, own = profiles[agent], place == 0
        if agent in bands and found.bounds:
            axes.fill_between(levels, *found.bounds, color=look[agent]["color"], alpha=0.12, lw=0, step="post")
        # Each begins elsewhere, as lines run upon each other, and ends before all of them lie upon the axis.
        marks = [at for at in range(2 * place % APART, len(levels), APART) if np.atleast_1d(found.value)[at] > 0]
        axes.step(levels, found.value, where="post", lw=2.2 if own else 1.3, ms=5.5, mec="white", mew=0.6,
                  markevery=marks, label=agent, **look[agent])  # fmt: skip
    axes.set_xlim(levels[0], levels[-1])
    axes.set_ylim(0, 1)
    axes.set_title("share of seeds and rates above it")
    drawn = {line.get_label(): line for line in axes.get_lines()}
    heading = f"bands: {listed([agent for agent in names if agent in bands])} alone" if len(names) > 2 else None
    legend = axes.legend([drawn[agent] for agent in names], names, loc="upper right", fontsize=FONT - 1.5,
                         title=heading, title_fontsize=FONT - 1.5, handlelength=1.8, labelspacing=0.25,
                         borderaxespad=0.2)  # fmt: skip
    for line in legend.get_lines():
        line.set_drawstyle("default")


def _dots(axes: Axes, found: Mapping[str, Aggregate], look: Mapping[str, Look], digits: int) -> None:
    """A mark and its interval per method, named at the left; hollow where there is no interval."""
    for row, (agent, one) in enumerate(list(found.items())[::-1]):
        colour, value, end = look[agent]["color"], float(one.value), float(one.value)
        if one.bounds:
            low, end = map(float, one.bounds)
            axes.plot([low, end], [row, row], color=colour, lw=2.2)
        face = colour if one.bounds else "white"
        axes.plot(value, row, look[agent]["marker"], color=colour, mfc=face, ms=6.5)
        axes.annotate(number(value, digits), (end, row), (7, 0), textcoords="offset points", va="center", color=INK)
    name_rows(axes, list(found))
    axes.margins(x=0.14)
