"""Moments of episodes of the whole method and of those without its fusions, side by side (figure 13)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from rmiov2.reporting.battle_map import Scene
from rmiov2.reporting.map_figure import maps
from rmiov2.reporting.moment import COLUMNS, off
from rmiov2.reporting.scene_figures import draw_series, series_handles
from rmiov2.reporting.style import Picture, canvas, png
from rmiov2.reporting.variants import FUSIONS, Family
from rmiov2.reporting.words import part_name, probability, significant

WIDE, NARROW = 4, 2  # maps in a row, of wide pages and of phones
BATTLE = (
    "at the step at which a blind agent (heavy ring) believes the most living units in sight. Hollow marks are where it"
    " believes them, thin lines tie them to where they are, discs are the deviation over draws of the latent state. On"
    " average off, in units of the map"
)
SERIES = (
    "in its middle, of the agent most often blind: what was true, and what was reconstructed where it was blind"
    " (shaded). Mean absolute error while blind"
)


def moments_picture(found: Family) -> Picture | None:
    """A moment of an episode of each of FUSIONS, all of one seed; None where fewer than two were kept."""
    shown, seed = of_one_seed(found)
    if len(shown) < 2:
        return None
    wide, narrow = (side_by_side(shown, columns) for columns in (WIDE, NARROW))
    what = BATTLE if all("map" in moment for moment in shown.values()) else SERIES
    said = "; ".join(f"{part_name(name)} {significant(off(moment))}" for name, moment in shown.items())
    rates = ", ".join(sorted({probability(moment["p_loss"]) for moment in shown.values()}))
    caption = f"Of each an episode of its own (p_loss {rates}, training seed {seed}), {what}: {said}."
    alt = f"What was true and what a blind agent believed, for {', '.join(map(part_name, shown))}."
    data = json.dumps(shown, indent=1).encode()
    title = "What the blind believe without the fusions (figure 13)"
    return Picture("variants_moments", title, caption, alt, wide, "variants_moments.json", data, narrow)


def of_one_seed(found: Family) -> tuple[dict[str, Scene], int]:
    """The moments of FUSIONS by name, and the seed they are of: that of which most were kept, the first of such."""
    methods = [found.named[name] for name in FUSIONS if name in found.named]
    kept = {m.ablation: {s.seed: s.moment for s in m.seeds if s.moment is not None} for m in methods}
    seeds = {seed for moments in kept.values() for seed in moments}
    if not seeds:
        return {}, 0
    seed = max(seeds, key=lambda seed: (sum(seed in moments for moments in kept.values()), -seed))
    return {name: moments[seed] for name, moments in kept.items() if seed in moments}, seed


def side_by_side(moments: Mapping[str, Scene], columns: int) -> bytes:
    """A panel for each, by name, all of one kind of environment; maps at most `columns` in a row."""
    first = next(iter(moments.values()))
    if "map" not in first:
        return _series(list(moments.values()), [part_name(name) for name in moments], columns == WIDE)
    return maps([(moment, 0, moment["agent"], part_name(name)) for name, moment in moments.items()], columns)


def _series(moments: Sequence[Scene], titles: Sequence[str], wide: bool) -> bytes:
    """A row for each, with COLUMNS columns of the observation, on phones the first alone."""
    columns = COLUMNS if wide else 1
    figure = canvas(10.6 if wide else 5.2, 1.7 * len(moments) + 0.8)
    panels = figure.subplots(len(moments), columns, sharex=True, sharey="col", squeeze=False)
    for row, moment, title in zip(panels, moments, titles, strict=True):
        for column, axes in enumerate(row):
            _draw(axes, moment, column)
            axes.set_title(f"{title}, {moment['series']['names'][column]}")
    for axes in panels[-1]:
        axes.set_xlabel("step")
    figure.legend(handles=series_handles(), loc="outside lower center", ncols=3, columnspacing=1.6)
    return png(figure)


def _draw(axes: Axes, moment: Scene, column: int) -> None:
    series, first = moment["series"], moment["step"]
    truth, guess = (
        np.concatenate([np.full(first, np.nan), np.asarray(series[name], dtype=float)[:, column]])
        for name in ("truth", "reconstruction")
    )
    blind = np.concatenate([np.zeros(first, bool), np.asarray(series["blind"], dtype=bool)])
    draw_series(axes, truth, guess, blind, slice(first, len(truth)))
