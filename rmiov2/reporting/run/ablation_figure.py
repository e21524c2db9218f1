"""What masking is worth: the area under the curve, and L_rec if there is one, over p_mask (table 2 and figure 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rmiov2.reporting.style import CYCLE, Picture, canvas, csv_bytes, png
from rmiov2.reporting.words import count, decimals_of, probability, significant, with_interval


def ablation_picture(cells: Sequence[Mapping[str, Any]], evaluate: Mapping[str, Any]) -> Picture | None:
    """Panels over p_mask, AUC with its interval and L_rec; None without cells. cells: metrics/ablate/*.json."""
    if not cells:
        return None
    cells = sorted(cells, key=lambda cell: float(cell["p_mask"]))
    errs = all("l_rec" in cell for cell in cells)
    digits = decimals_of(evaluate)
    said = "; ".join(
        f"{with_interval(cell['auc'], cell['auc_ci95'], digits)} at {probability(cell['p_mask'])}" for cell in cells
    )
    caption = (
        f"The same pre-trained team, fine-tuned with {count(cells[0]['updates'])} updates at each rate p_mask and "
        f"evaluated over {count(cells[0]['episodes'])} episodes per p_loss. AUC by p_mask: {said}. "
        + (f"L_rec on lost agents was {significant(cells[0]['l_rec']['before'])} before. " if errs else "")
        + "The main result has more updates."
    )
    header = ("p_mask", "auc", "lo", "hi", *(("l_rec",) if errs else ()))
    rows = [(c["p_mask"], c["auc"], *c["auc_ci95"], *((c["l_rec"]["after"],) if errs else ())) for c in cells]
    alt = "Line chart over the masking rate: area under the curve with intervals."
    if errs:
        alt = "Two line charts over the masking rate: area under the curve with intervals, and reconstruction error."
    data = csv_bytes(header, rows)
    return Picture("ablation", "What masking is worth", caption, alt, _drawn(cells, errs), data)


def _drawn(cells: Sequence[Mapping[str, Any]], errs: bool) -> bytes:
    figure = canvas(height=4.2) if errs else canvas(height=2.4)
    panels = np.ravel(figure.subplots(2 if errs else 1, 1, sharex=True, squeeze=False))
    _auc_panel(panels[0], cells)
    if errs:
        _l_rec_panel(panels[1], cells)
    rates = [cell["p_mask"] for cell in cells]
    panels[-1].set_xticks(rates, [probability(rate) for rate in rates])
    panels[-1].set_xlabel("masking rate of the fine-tuning, $p_{mask}$")
    return png(figure)


def _auc_panel(axes: Axes, cells: Sequence[Mapping[str, Any]]) -> None:
    rates, areas = [cell["p_mask"] for cell in cells], [cell["auc"] for cell in cells]
    low, high = ([cell["auc_ci95"][side] for cell in cells] for side in (0, 1))
    axes.plot(rates, areas, "o-", color=CYCLE[0], mec="white", mew=0.7)
    axes.vlines(rates, low, high, color=CYCLE[0], lw=2)
    axes.set_ylim(bottom=min(0.0, *low))
    axes.set_title("area under the curve")


def _l_rec_panel(axes: Axes, cells: Sequence[Mapping[str, Any]]) -> None:
    rates = [cell["p_mask"] for cell in cells]
    axes.plot(rates, [cell["l_rec"]["after"] for cell in cells], "s-", color=CYCLE[1], mec="white", mew=0.7)
    axes.set_ylim(bottom=0)
    axes.set_title("$L_{rec}$ on lost agents")
