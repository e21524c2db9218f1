"""This run beside other methods on the same task: over p_loss, while learning, and in what they reconstruct."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rmiov2.reporting.kept import L_REC_COLUMNS, Method, Seed
from rmiov2.reporting.methods.aggregates_figure import Look, aggregates_picture
from rmiov2.reporting.methods.measures import own_answer, untuned
from rmiov2.reporting.methods.reached import curves, env_steps, performance, seed_curves, seeds_said
from rmiov2.reporting.methods.seeds import Curve, curve_of, interval_curve, mean_curve, one_a_seed
from rmiov2.reporting.run.figures import points, whole_scale
from rmiov2.reporting.run.training_figures import thousands
from rmiov2.reporting.style import HUES, Picture, canvas, csv_bytes, grid, label_ends, looks, png, reference_line
from rmiov2.reporting.words import count, decimals_of, focus_index, measure_name, number, probability, significant

APART = 5  # times as many: from then on an axis is logarithmic, or the shorter curves would not be seen
BAND = "bands are 95 % intervals of the mean over seeds, for a single seed those of its episodes"
Numbered = tuple[int, Curve]  # a team's curve behind its seed


def methods_pictures(methods: Sequence[Method], evaluate: Mapping[str, Any]) -> list[Picture | None]:
    """All of them, none of a method alone; None for one that has nothing to compare."""
    if len(methods) < 2:
        return []
    look = looks([method.agent for method in methods])
    return [
        p_loss_picture(methods, evaluate, look),
        aggregates_picture(methods, evaluate, look),
        learning_picture(methods, evaluate, look),
        l_rec_picture(methods, look),
    ]


def p_loss_picture(methods: Sequence[Method], evaluate: Mapping[str, Any], look: Mapping[str, Look]) -> Picture:
    """Every method's curve over p_loss, before and after masked fine-tuning, each seed and the mean, with intervals."""
    at, digits = focus_index(evaluate["p_loss"]), decimals_of(evaluate)
    said = "; ".join(
        f"{method.agent} {number(performance(method, own_answer(method), at).mean, digits)}"
        f" ({count(round(env_steps(method)))} environment steps, {seeds_said(method)})"
        for method in methods
    )
    caption = (
        f"{measure_name(evaluate).capitalize()} of every method by its own answer to a lost observation,"
        f" {_in_every_panel(methods[0], look)}: thin lines are single teams, thick lines their means; {BAND};"
        " dashed: before masked fine-tuning; dotted: random play."
        f" At p_loss {probability(evaluate['p_loss'][at])}: {said}."
    )
    alt = f"Line chart: {measure_name(evaluate)} against p_loss for {_named(methods)}."
    rows = [
        (method.agent, mode, seed.name, *point)
        for method in methods
        for mode in (own_answer(method), untuned(method))
        for seed in method.seeds
        for point in points(seed.evaluate, mode, evaluate["p_loss"])
    ]
    data = csv_bytes(("agent", "mode", "seed", "p_loss", evaluate["measure"], "lo", "hi"), rows)

    def draw(axes: Axes, pair: Sequence[Method]) -> None:
        for method in reversed(pair):
            over_p_loss(axes, method, look[method.agent], method.agent)
        _levels(axes, evaluate)
        axes.set_xlim(min(evaluate["p_loss"]), max(evaluate["p_loss"]))
        axes.xaxis.set_major_formatter("{x:g}")

    wide, narrow = side_by_side(methods, look, draw, measure_name(evaluate), "$p_{loss}$", sharex=True)
    return Picture("methods", "Every method under observation loss", caption, alt, wide, data, narrow)


def side_by_side(
    methods: Sequence[Method], look: Mapping[str, Look], draw: Callable[[Axes, Sequence[Method]], None],
    y_name: str, x_name: str, sharex: bool,
) -> tuple[bytes, bytes]:  # fmt: skip
    """A panel for each of the others with the first beside it, wide and narrow: draw(axes, (first, other))."""
    own, *others = methods
    drawn = []
    for width, columns in ((10.6, min(4, len(others))), (5.2, min(2, len(others)))):
        figure = canvas(width, 2.3 * -(-len(others) // columns) + 0.5)
        panels = grid(figure, len(others), columns, sharex=sharex, sharey=True)
        for axes, other in zip(panels, others, strict=True):
            draw(axes, (own, other))
            axes.set_title(other.agent, color=look[other.agent]["color"])
        for axes in panels[::columns]:
            axes.set_ylabel(y_name)
        for axes in panels[-columns:]:
            axes.set_xlabel(x_name)
            axes.tick_params(labelbottom=True)
        drawn.append(png(figure))
    wide, narrow = drawn
    return wide, narrow


def _in_every_panel(own: Method, look: Mapping[str, Look]) -> str:
    """How to tell the first method's line from the one that its panel is titled after."""
    return f"with {own.agent} ({HUES.get(look[own.agent]['color'], 'black')}) in every panel"


def _levels(axes: Axes, evaluate: Mapping[str, Any]) -> None:
    """Random play's level, which the caption names, and the whole range of a win rate."""
    reference_line(axes, evaluate["random"], "random play")
    whole_scale(axes, evaluate)


def over_p_loss(axes: Axes, method: Method, look: Look, name: str) -> tuple[float, str, str]:
    """Draw a method; the end of its line, for label_ends."""
    own, p_loss, colour = own_answer(method), method.evaluate["p_loss"], look["color"]
    mean, alone = seed_curves(method, own).mean(axis=0), method.evaluate["ci95"][own]
    inside = np.array([performance(method, own, index).bounds or alone[index] for index in range(len(p_loss))])
    axes.fill_between(p_loss, inside[:, 0], inside[:, 1], color=colour, alpha=0.1, lw=0)
    axes.plot(p_loss, curves(method, own).T, color=colour, lw=0.8, alpha=0.4)
    before = seed_curves(method, untuned(method)).mean(axis=0)
    axes.plot(p_loss, before, color=colour, lw=1.1, ls=(0, (4, 1.5)), alpha=0.7)
    axes.plot(p_loss, mean, ls="-", lw=2.4, mec="white", mew=0.7, clip_on=False, **look)
    return float(mean[-1]), name, colour


def learning_picture(methods: Sequence[Method], evaluate: Mapping[str, Any], look: Mapping[str, Look]) -> Picture:
    """Every method's learning curve over environment steps, each seed and the mean."""
    measure, digits = measure_name(evaluate), decimals_of(evaluate)
    curves_of = {method.agent: [(seed.seed, learned(seed)) for seed in method.seeds] for method in methods}

    def draw(axes: Axes, pair: Sequence[Method]) -> None:
        seeds_and_means(axes, {method.agent: curves_of[method.agent] for method in pair}, look)
        _levels(axes, evaluate)

    wide, narrow = side_by_side(methods, look, draw, f"{measure}, full sight", "environment steps", sharex=False)
    said = "; ".join(_learned_to(agent, of_seeds, digits) for agent, of_seeds in curves_of.items())
    caption = (
        f"Greedy {measure} with full sight over the environment steps of pre-training,"
        f" {_in_every_panel(methods[0], look)}: thin lines are single teams, thick lines their means, with 95 %"
        " intervals over seeds, as far as every seed went. Dotted: the level at which a curve ends, and random play."
        f" Each panel has its own axis of steps, logarithmic where one curve goes more than {APART} times as far as"
        f" another. The curves end at: {said}."
    )
    alt = f"Line chart: {measure} over environment steps for {_named(methods)}."
    data = _rows(methods, curves_of, ("agent", "seed", "env_steps", evaluate["measure"]))
    return Picture("methods_learning", "Learning curves", caption, alt, wide, data, narrow)


def _learned_to(agent: str, teams: Sequence[Numbered], digits: int) -> str:
    """What the mean ends at, and when."""
    steps, values = mean_curve(one_a_seed(teams))
    return f"{agent} {number(float(values[-1]), digits)} after {count(steps[-1])}"


def l_rec_picture(methods: Sequence[Method], look: Mapping[str, Look]) -> Picture | None:
    """L_rec during masked fine-tuning of the methods that reconstruct (figure 9); None unless there are two of them."""
    kept = [Method(m.agent, tuple(seed for seed in m.seeds if seed.l_rec is not None)) for m in methods]
    kept = [method for method in kept if method.seeds]
    if len(kept) < 2:
        return None
    errors = {method.agent: [(seed.seed, _error(seed)) for seed in method.seeds] for method in kept}
    figure = canvas(height=4.2)
    axes = figure.add_subplot()
    ends = seeds_and_means(axes, errors, look)
    values = [value for teams in errors.values() for _, (_, y) in teams for value in y]
    if min(values) > 0 and max(values) > APART**2 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel("masked updates")
    axes.set_title("$L_{rec}$ on lost agents, held-out episodes")
    label_ends(axes, ends)
    counted = {method.agent: seeds_said(method) for method in kept}
    said = "; ".join(
        f"{agent} ({counted[agent]}) from {significant(_first(errors[agent]))} to {significant(end)}"
        for end, agent, _ in reversed(ends)
    )
    caption = (
        "Reconstruction loss of lost observations during masked fine-tuning: thin lines are single teams, thick lines"
        " their means, with 95 % intervals over seeds. Each method is measured on episodes of its own policy, so their"
        f" levels are not comparable; seeds whose curve was not kept are left out. Change of the means: {said}."
    )
    alt = f"Line chart: reconstruction loss over masked updates for {_named(kept)}."
    data = _rows(kept, errors, ("agent", "seed", "update", "l_rec"))
    return Picture("methods_l_rec", "Reconstruction loss", caption, alt, png(figure), data)


def _first(teams: Sequence[Numbered]) -> float:
    """What the mean begins with."""
    return float(mean_curve(one_a_seed(teams))[1][0])


def seeds_and_means(
    axes: Axes, drawn: dict[str, list[Numbered]], look: Mapping[str, Look]
) -> list[tuple[float, str, str]]:
    """Draw every method's teams and the mean over seeds, with a thin line from its end to the edge; the ends, for
    label_ends."""
    lasts = [float(x[-1]) for teams in drawn.values() for _, (x, _) in teams]
    firsts = [float(x[0]) for teams in drawn.values() for _, (x, _) in teams]
    edge, ends = max(lasts), []
    for agent, teams in reversed(drawn.items()):  # the run's own on top
        colour = look[agent]["color"]
        for _, (x, y) in teams:
            axes.plot(x, y, color=colour, lw=0.8, alpha=0.4)
        of_seeds = one_a_seed(teams)
        axes.fill_between(*interval_curve(of_seeds), color=colour, alpha=0.1, lw=0)
        x, y = mean_curve(of_seeds)
        axes.plot(x, y, lw=2.2, mec="white", mew=0.6, ms=5, markevery=max(1, len(x) // 8), **look[agent])
        axes.plot([x[-1], edge], [y[-1], y[-1]], color=colour, lw=0.7, ls=(0, (1, 2)))
        ends.append((float(y[-1]), agent, colour))
    if min(firsts) > 0 and edge > APART * min(lasts):
        axes.set_xscale("log")
        axes.set_xlim(min(firsts), edge)
    else:
        axes.set_xlim(0, max(edge, 1))
    axes.xaxis.set_major_formatter(thousands)
    return ends


def learned(seed: Seed) -> Curve:
    """Its learning curve."""
    return curve_of(seed.learning, "env_steps", "performance")


def _error(seed: Seed) -> Curve:
    assert seed.l_rec is not None
    return curve_of(seed.l_rec, *L_REC_COLUMNS)


def _rows(methods: Sequence[Method], drawn: Mapping[str, Sequence[Numbered]], header: Sequence[str]) -> bytes:
    return csv_bytes(
        header,
        [
            (method.agent, seed.name, x, y)
            for method in methods
            for seed, (_, curve) in zip(method.seeds, drawn[method.agent], strict=True)
            for x, y in zip(*curve, strict=True)
        ],
    )


def _named(methods: Sequence[Method]) -> str:
    return ", ".join(method.agent for method in methods)
