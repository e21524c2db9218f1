"""Moments of episodes of the whole method and of those without its fusions, side by side (figure 13)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rmiov2.reporting.scene.battle_map import Scene, distances
from rmiov2.reporting.scene.figures import draw_series, series_legend
from rmiov2.reporting.scene.map_figure import IN_A_ROW, maps
from rmiov2.reporting.scene.moment import column
from rmiov2.reporting.style import Picture, canvas, png
from rmiov2.reporting.variants.worth import FUSIONS, Family
from rmiov2.reporting.words import WHOLE, part_name, probability, significant

COLUMNS = 2  # of a robot's observation, on wide pages


@dataclass(frozen=True)
class _Drawn:
    """The pictures, what they show in words, and how far from the truth each belief is on average."""

    wide: bytes
    narrow: bytes
    what: str
    off: Mapping[str, float]


def moments_picture(found: Family) -> Picture | None:
    """A moment of an episode of each of FUSIONS, all of one seed; None where the whole method's or any other's is
    missing, and where those of a robot have no column in common."""
    shown, seed = of_one_seed(found)
    if len(shown) < 2:
        return None
    drawn = _battles(shown) if "map" in shown[WHOLE] else _robots(shown)
    if drawn is None:
        return None
    said = "; ".join(f"{part_name(name)} {significant(value)}" for name, value in drawn.off.items())
    judged = " The table of findings has the differences over all seeds." if "map" in shown[WHOLE] else ""
    rates = ", ".join(sorted({probability(moment["p_loss"]) for moment in shown.values()}))
    caption = f"Each shows an episode of its own (p_loss {rates}, training seed {seed}), {drawn.what}: {said}.{judged}"
    alt = f"What was true and what a blind agent believed, for {', '.join(map(part_name, shown))}."
    data = json.dumps(shown, indent=1).encode()
    title = "What blind agents believe without the fusions (figure 13)"
    return Picture("variants_moments", title, caption, alt, drawn.wide, data, drawn.narrow, kind="json")


def of_one_seed(found: Family) -> tuple[dict[str, Scene], int]:
    """The moments of FUSIONS by name, and the seed they are of: of the whole method's that of which most others were
    kept, the first of such. Of robots those whose agent is the whole method's."""
    methods = [found.named[name] for name in FUSIONS if name in found.named]
    kept = {m.ablation: {s.pair: s.moment for s in m.seeds if s.moment is not None} for m in methods}
    seeds = kept.get(WHOLE, {})
    if not seeds:
        return {}, 0
    seed = min(seeds, key=lambda seed: (-sum(seed in moments for moments in kept.values()), seed))
    shown = {name: moments[seed] for name, moments in kept.items() if seed in moments}
    whole = shown[WHOLE]
    return {n: m for n, m in shown.items() if "map" in whole or m["agent"] == whole["agent"]}, seed[0]


def _battles(shown: Mapping[str, Scene]) -> _Drawn:
    panels = [(moment, 0, moment["agent"], part_name(name)) for name, moment in shown.items()]
    spread = all("spread" in moment["map"] for moment in shown.values())
    unsure = " Discs and the whiskers of hollow health bars show the deviation over draws of the latent state."
    what = (
        "at the step at which a blind agent (heavy ring) believes the most living units to be in sight. Hollow marks,"
        " with the health it believes below them, show where it believes them to be, itself included, and thin lines"
        f" tie them to where they are.{unsure if spread else ''} Mean distance between the two, in units of the map"
    )
    off = {name: float(np.mean(distances(moment, 0, moment["agent"]))) for name, moment in shown.items()}
    wide, narrow = (maps(panels, columns) for columns in IN_A_ROW)
    return _Drawn(wide, narrow, what, off)


def _robots(shown: Mapping[str, Scene]) -> _Drawn | None:
    """The first COLUMNS columns of the observation that all of them tell; None without any."""
    told = [moment["series"]["names"] for moment in shown.values()]
    names = [name for name in told[0] if all(name in other for other in told)][:COLUMNS]
    if not names:
        return None
    what = (
        f"in its middle, for agent {shown[WHOLE]['agent'] + 1}: true values and, where it was blind (shaded),"
        f" reconstructed ones. Mean absolute error of {' and '.join(names)} while blind"
    )
    off = {part: float(np.mean([_error(moment, name) for name in names])) for part, moment in shown.items()}
    return _Drawn(_grid(shown, names, 10.6), _grid(shown, names[:1], 5.2), what, off)


def _error(moment: Scene, name: str) -> float:
    truth, guess, blind = column(moment, name)
    return float(np.abs(truth - guess)[blind].mean())


def _grid(shown: Mapping[str, Scene], names: Sequence[str], width: float) -> bytes:
    """A row for each, a column for each name."""
    figure = canvas(width, 1.8 * len(shown) + 0.8)
    panels = figure.subplots(len(shown), len(names), sharey="col", squeeze=False)
    for row, (part, moment) in zip(panels, shown.items(), strict=True):
        for axes, name in zip(row, names, strict=True):
            draw_series(axes, *column(moment, name), moment["step"])
            axes.set_title(f"{part_name(part)}, {name}")
    for axes in panels[-1]:
        axes.set_xlabel("step")
    series_legend(figure)
    return png(figure)
