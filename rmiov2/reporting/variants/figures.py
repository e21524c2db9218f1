"""What each part is worth, drawn: differences to the whole method, and figures 10 to 14 of the paper."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes

from rmiov2.reporting.estimates import estimate_said
from rmiov2.reporting.kept import Method, Seed
from rmiov2.reporting.methods.figures import BAND, learned, over_p_loss, seeds_and_means
from rmiov2.reporting.methods.measures import own_answer
from rmiov2.reporting.methods.reached import area
from rmiov2.reporting.methods.seeds import Curve, curve_of
from rmiov2.reporting.run.figures import name_axes, points, whole_scale
from rmiov2.reporting.run.training_figures import running_median
from rmiov2.reporting.style import CYCLE, MUTED, Picture, canvas, csv_bytes, label_ends, look_of, png, reference_line
from rmiov2.reporting.variants.moments_figure import moments_picture
from rmiov2.reporting.variants.worth import (
    FUSIONS,
    NORMALISED,
    RATES,
    TREND,
    A,
    Family,
    Paired,
    less_whole,
    rates,
)
from rmiov2.reporting.words import WHOLE, decimals_of, measure_name, part_name, significant

WIDTHS = (10.6, 5.2)  # inches, of wide pages and of phones
PRETRAINED = (WHOLE, A, TREND, NORMALISED)
# One look a variant in all figures. There are fewer hues than variants: a masking rate may have that of a part which it
# is never drawn beside, with another marker.
LOOKS = {name: look_of(place, place) for place, name in enumerate((*FUSIONS, NORMALISED, TREND))}
LOOKS |= {name: look_of(place, place + 1) for place, name in enumerate(RATES, start=2)}


def variants_pictures(found: Family) -> list[Picture | None]:
    """All of them; None for one of which nothing is kept but the whole method."""
    return [
        worth_picture(found),
        p_loss_picture(found, FUSIONS, "variants_fusion", "Without the fusions (figure 12)"),
        p_loss_picture(found, tuple({WHOLE: 0.5, **rates(found)}), "variants_p_mask", "Masking rates (figure 14)"),
        losses_picture(found),
        learning_picture(found),
        moments_picture(found),
    ]


def chosen(found: Family, names: Sequence[str]) -> list[Method]:
    """Those of the variants that were kept, in this order; nothing if only the whole method was.

    Of the whole method only the teams that began like one of a variant drawn, where there are any: others, of other
    seeds and processors, would shift its mean and look like an effect.
    """
    methods = [found.named[name] for name in names if name in found.named]
    begun = {seed.pair for method in methods if method is not found.whole for seed in method.seeds}
    alike = tuple(seed for seed in found.whole.seeds if seed.pair in begun) or found.whole.seeds
    methods = [replace(method, seeds=alike) if method is found.whole else method for method in methods]
    return methods if len(methods) > 1 else []


def _left_out(found: Family, drawn: Sequence[Method]) -> str:
    """That not all teams of the whole method are drawn, if so."""
    shown = [len(method.seeds) for method in drawn if method.ablation == WHOLE]
    if not shown or shown[0] == len(found.whole.seeds):
        return ""
    return (
        f" Of the whole method’s {len(found.whole.seeds)} teams, only the {shown[0]} are drawn that share seed and"
        " processor with a team of one of these variants."
    )


def worth_picture(found: Family) -> Picture | None:
    """AUC of every variant less that of the whole method, each seed, mean and interval; None without any."""
    pairs = {m.ablation: pair for m in found.variants if (pair := less_whole(m, found, "AUC")) is not None}
    if not pairs:
        return None
    ranked = sorted(pairs, key=lambda name: pairs[name].estimate.mean)
    caption = (
        "AUC of each variant minus that of the whole method with the same seed: rings are single seeds, diamonds their"
        " means, with 95 % intervals over seeds; a hollow diamond is a single seed, which has no interval. Left of the"
        " line, a variant does worse. Variants whose whole interval lies left of it:"
        f" {_beyond(pairs, ranked, -1)}; right of it: {_beyond(pairs, ranked, 1)}."
    )
    rows = [(name, seed, value) for name in ranked for seed, value in zip(pairs[name].seeds, pairs[name].values,
                                                                         strict=True)]  # fmt: skip
    alt = f"Dot chart of differences in area under the curve: {', '.join(map(part_name, ranked))}."
    wide, narrow = (_worth(pairs, ranked, width) for width in WIDTHS)
    data = csv_bytes(("ablation", "seed", "auc_less_whole"), rows)
    return Picture("variants", "Each variant against the whole method", caption, alt, wide, data, narrow)


def _beyond(pairs: Mapping[str, Paired], ranked: Sequence[str], side: int) -> str:
    """Those whose whole interval lies on that side of zero, -1 or 1."""
    leads = {name: pairs[name].estimate for name in ranked}
    return ", ".join(part_name(name) for name, one in leads.items() if one.decided and one.mean * side > 0) or "none"


def _worth(pairs: Mapping[str, Paired], ranked: Sequence[str], width: float) -> bytes:
    figure = canvas(width, 0.9 + 0.3 * len(ranked))
    axes = figure.add_subplot()
    axes.axvline(0, color=MUTED, lw=1, ls=(0, (1, 2)))
    for place, name in enumerate(reversed(ranked)):
        pair = pairs[name]
        if pair.estimate.bounds:
            axes.plot(pair.estimate.bounds, [place, place], color=CYCLE[0], lw=2)
        axes.plot(pair.values, [place] * len(pair.values), "o", ms=4, mfc="white", mec=CYCLE[0], mew=0.9)
        # a narrow interval would be hidden by a filled mark
        hollow: dict[str, Any] = {"mfc": "white", "mec": CYCLE[0], "mew": 1.2}
        filled: dict[str, Any] = {"color": CYCLE[0], "mec": "white", "mew": 0.7}
        axes.plot(pair.estimate.mean, place, "D", ms=6, **(filled if pair.estimate.bounds else hollow))
    axes.set_yticks(range(len(ranked)), [_label(name) for name in reversed(ranked)])
    axes.set_ylim(-0.6, len(ranked) - 0.4)
    axes.grid(axis="x")
    axes.set_title("AUC minus that of the whole method")
    return png(figure)


def _label(name: str) -> str:
    return part_name(name).replace("p_mask", "$p_{mask}$")


def p_loss_picture(found: Family, names: Sequence[str], name: str, title: str) -> Picture | None:
    """Performance over p_loss of these variants, before and after masked fine-tuning, each seed and the mean."""
    methods, evaluate = chosen(found, names), found.whole.evaluate
    if not methods:
        return None
    digits = decimals_of(evaluate)
    areas = {method.ablation: area(method, own_answer(method)) for method in methods}
    said = "; ".join(f"{part_name(part)} {estimate_said(one, digits)}" for part, one in areas.items())
    caption = (
        f"{measure_name(evaluate).capitalize()} with the team’s own answer to a lost observation: thin lines are single"
        f" teams, thick lines the means over seeds; {BAND}; dashed: before masked fine-tuning."
        f"{_left_out(found, methods)} AUC: {said}."
    )
    alt = f"Line chart: {measure_name(evaluate)} against p_loss for {_named(methods)}."
    rows = [
        (method.ablation, seed.name, *point)
        for method in methods
        for seed in method.seeds
        for point in points(seed.evaluate, own_answer(method), evaluate["p_loss"])
    ]
    data = csv_bytes(("ablation", "seed", "p_loss", evaluate["measure"], "lo", "hi"), rows)
    wide, narrow = (_p_loss(methods, evaluate, width) for width in WIDTHS)
    return Picture(name, title, caption, alt, wide, data, narrow)


def _p_loss(methods: Sequence[Method], evaluate: Mapping[str, Any], width: float) -> bytes:
    figure = canvas(width, 4.6)
    axes = figure.add_subplot()
    ends = [over_p_loss(axes, m, LOOKS[m.ablation], _label(m.ablation)) for m in reversed(methods)]
    name_axes(axes, evaluate["p_loss"], measure_name(evaluate))
    whole_scale(axes, evaluate)
    label_ends(axes, [*ends, reference_line(axes, evaluate["random"], "random play")])
    return png(figure)


def losses_picture(found: Family) -> Picture | None:
    """The world model's loss over environment steps of pre-training (figure 10); None unless two variants have it."""
    words = Words(
        "variants_losses", "World-model loss (figure 10)", "loss_model_running_median", "world-model loss",
        "The world model’s loss as a running median over a fifteenth of its rounds",
    )  # fmt: skip
    return _over_steps(found, lost, words, _loss_axis)


def learning_picture(found: Family) -> Picture | None:
    """The learning curves of the same variants (figure 11); None unless there are two."""
    evaluate = found.whole.evaluate
    what = f"{measure_name(evaluate)} with full sight"
    words = Words("variants_learning", "Learning curves (figure 11)", evaluate["measure"], what, f"Greedy {what}")
    return _over_steps(found, learned, words, _level_axis)


@dataclass(frozen=True)
class Words:
    """Of a picture over environment steps: its name, its title, the column of its numbers, the title of its axes, and
    what its caption says is drawn."""

    name: str
    title: str
    column: str
    axis: str
    what: str


def lost(seed: Seed) -> Curve | None:
    """The world model's loss over pre-training, as a running median; None where it was not kept."""
    if seed.losses is None:
        return None
    return curve_of(seed.losses.assign(median=running_median(seed.losses["loss_model"])), "env_steps", "median")


def _over_steps(
    found: Family, of: Callable[[Seed], Curve | None], words: Words, shape: Callable[[Axes, list[float]], None]
) -> Picture | None:
    methods = chosen(found, PRETRAINED)
    every = {m.ablation: [(s.seed, curve) for s in m.seeds if (curve := of(s)) is not None] for m in methods}
    drawn = {name: curves for name, curves in every.items() if curves}
    if len(drawn) < 2:
        return None
    figure = canvas(height=4.2)
    axes = figure.add_subplot()
    look = {part_name(name): LOOKS[name] for name in drawn}
    ends = seeds_and_means(axes, {part_name(name): teams for name, teams in drawn.items()}, look)
    shape(axes, [float(value) for teams in drawn.values() for _, (_, y) in teams for value in y])
    axes.set_xlabel("environment steps")
    axes.set_title(words.axis)
    label_ends(axes, ends)
    said = "; ".join(f"{name} {significant(end)}" for end, name, _ in reversed(ends))
    caption = (
        f"{words.what}, during pre-training: thin lines are single teams, thick lines their means, with 95 % intervals"
        f" over seeds.{_left_out(found, methods)} The means end at: {said}."
    )
    alt = f"Line chart: {words.axis} over environment steps for {', '.join(map(part_name, drawn))}."
    rows = [(name, index, x, y) for name, teams in drawn.items() for index, (_, curve) in enumerate(teams)
            for x, y in zip(*curve, strict=True)]  # fmt: skip
    data = csv_bytes(("ablation", "curve", "env_steps", words.column), rows)
    return Picture(words.name, words.title, caption, alt, png(figure), data)


def _loss_axis(axes: Axes, values: list[float]) -> None:
    if min(values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")


def _level_axis(axes: Axes, values: list[float]) -> None:
    if min(values) >= 0:
        axes.set_ylim(bottom=0)


def _named(methods: Sequence[Method]) -> str:
    return ", ".join(part_name(method.ablation) for method in methods)
