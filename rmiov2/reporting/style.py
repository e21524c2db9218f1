"""One look for every figure, the record of a drawn one, and drawing that gives the same bytes for the same numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

INK, MUTED, FAINT = "#22262b", "#6b7280", "#d9dde3"
ALLY, ENEMY, BLIND = "#0b5fa5", "#c2410c", "#22262b"
# Okabe and Ito's hues, darkened until text in them can be read on white.
MODES = {
    "completion": ("completion", "#0b5fa5", "o", "-"),
    "completion_untuned": ("not fine-tuned", "#2b8cbe", "D", (0, (4, 1.5))),
    "zeros": ("zeros", "#c2410c", "s", "-"),
    "zeros_untuned": ("not fine-tuned", "#d95f30", "D", (0, (4, 1.5))),
    "last_seen": ("last seen", "#9a6a00", "^", "-"),
    "open_loop": ("open loop", "#8a4b78", "v", (0, (1.5, 1.5))),
}
CYCLE = ("#0b5fa5", "#c2410c", "#00735c", "#8a4b78", "#9a6a00", "#2b8cbe", "#6b7280", "#a3195b")
# Grey is what stands beside all of them, and the second blue comes last: the first is the run's own.
HUES = (*(colour for colour in CYCLE if colour not in (MUTED, "#2b8cbe")), "#4d7c0f", "#2b8cbe")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "*")
COLOURS, DPI = 128, 200  # of a picture
FONT = 10.5
STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": FONT, "axes.labelsize": FONT, "axes.titlesize": FONT,
    "xtick.labelsize": FONT - 1, "ytick.labelsize": FONT - 1, "legend.fontsize": FONT - 1, "legend.frameon": False,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.edgecolor": MUTED, "axes.linewidth": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.titlelocation": "left", "axes.titlepad": 7,
    "xtick.major.width": 0.7, "ytick.major.width": 0.7, "xtick.major.size": 3, "ytick.major.size": 3,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": FAINT, "grid.linewidth": 0.6, "axes.axisbelow": True,
    "lines.linewidth": 1.8, "lines.markersize": 5, "lines.solid_capstyle": "round",
    "figure.facecolor": "white", "figure.dpi": 100, "svg.hashsalt": "rmiov2",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A drawn figure with its words and its numbers: png for wide pages, narrow (None: the same) for phones."""

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    data_name: str
    data: bytes
    narrow: bytes | None = None


@contextmanager
def styled() -> Iterator[None]:
    """Our style and nothing of the user's own matplotlib settings, restored afterwards."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def canvas(width: float = 5.2, height: float = 3.5) -> Figure:
    """An empty figure of that many inches, off screen, that lays itself out."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG without date or software, so that the same numbers give the same bytes.

    A palette of COLOURS is a third of the size, and nobody sees it.
    """
    dpi, sheet, buffer = figure.dpi, FigureCanvasAgg(figure), io.BytesIO()
    figure.set_dpi(DPI)  # not savefig, which draws twice and compresses what is not kept
    sheet.draw()  # type: ignore[no-untyped-call]
    drawn = Image.fromarray(np.asarray(sheet.buffer_rgba())).convert("RGB")  # type: ignore[no-untyped-call]
    flat = drawn.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    flat.save(buffer, format="png", optimize=True, dpi=(dpi, dpi))
    return buffer.getvalue()


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """The numbers behind a figure as a table."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Name lines at the right edge, ends being (y, text, colour); call it last, when the limits stand.

    Labels that would lie upon each other are moved apart and tied to their line by a thin leader.
    """
    figure, place = axes.get_figure(), axes.get_subplotspec()
    if figure is None or place is None:
        raise ValueError("label_ends: the axes must be a subplot of a figure")
    height = figure.bbox.height / figure.dpi  # of the part of a figure, where it has parts
    gap = 1.35 * FONT / (0.76 * height * 72 / place.get_gridspec().nrows)
    to_axes = axes.transData + axes.transAxes.inverted()
    order = sorted(ends, key=lambda end: end[0])
    wanted = np.clip([to_axes.transform((axes.get_xlim()[1], y))[1] for y, _, _ in order], 0, 1)
    for (_, text, colour), start, end in zip(order, wanted, spread(wanted, gap), strict=True):
        axes.annotate(
            text, (1.0, float(start)), (1.045, float(end)), xycoords="axes fraction", textcoords="axes fraction",
            color=colour, va="center", ha="left", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "shrinkA": 1, "shrinkB": 2, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(wanted: Any, gap: float) -> list[float]:
    """Places in rising order, at least gap apart, as near as may be to the wanted ones (also rising)."""
    blocks: list[tuple[float, int]] = []  # (mean of wanted minus offset, count): pooled where neighbours would collide
    for index, value in enumerate(wanted):
        mean, count = float(value) - index * gap, 1
        while blocks and blocks[-1][0] > mean:
            other, size = blocks.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        blocks.append((mean, count))
    base = [mean for mean, count in blocks for _ in range(count)]
    shift = max(0.0, -base[0]) if base else 0.0
    return [value + shift + index * gap for index, value in enumerate(base)]


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each name, the same in every figure that is given the same names in the same order.

    A colour comes again, with another marker, after all have been used, so that no name goes without.
    """
    pairs = zip(cycle(HUES), cycle(MARKERS), strict=True)
    return {name: {"color": colour, "marker": marker} for name, (colour, marker) in zip(names, pairs, strict=False)}


def reference_line(axes: Axes, y: float, text: str) -> tuple[float, str, str]:
    """Draw a dotted level across the axes; its end, for label_ends."""
    axes.axhline(y, color=MUTED, lw=1, ls=(0, (1, 2)))
    return y, text, MUTED
