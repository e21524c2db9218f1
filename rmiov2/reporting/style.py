"""One look for every figure, the record of a drawn one, and drawing that gives the same bytes for the same numbers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
import scipy
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from PIL import Image

INK, MUTED, FAINT = "#22262b", "#6b7280", "#d9dde3"
ALLY, ENEMY, BLIND = "#0b5fa5", "#c2410c", "#22262b"
# With words for them in captions. Text in them can be read on white (4.5 to 1 and more), and any two are at least 14.5
# apart by CIEDE2000, 16.1 by CIE76, with full colour vision, deuteranopia and protanopia alike (Machado et al. 2009,
# severity 1). They differ in lightness, too, because the colour-blind see few hues.
HUES = {
    "#0b5fa5": "blue", "#c2410c": "orange", "#218479": "teal", "#422142": "dark purple", "#dc2c6e": "pink",
    "#794242": "brown", "#2c009a": "violet", "#003700": "dark green",
}  # fmt: skip
CYCLE = tuple(HUES)
MODES = {
    "completion": ("completion", CYCLE[0], "o", "-"),
    "completion_untuned": ("not fine-tuned", "#2b8cbe", "D", (0, (4, 1.5))),
    "zeros": ("zeros", CYCLE[1], "s", "-"),
    "zeros_untuned": ("not fine-tuned", "#d95f30", "D", (0, (4, 1.5))),
    "last_seen": ("last seen", CYCLE[2], "^", "-"),
    "open_loop": ("open loop", CYCLE[3], "v", (0, (1.5, 1.5))),
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
# In every figure, whoever stands beside them, each of these has the hue and the marker of its place.
AGENTS = ("rmiov2", "rmio", "gawm", "mamba", "mag", "mappo", "qmix", "facmac")
COLOURS, DPI = 256, 200  # of a picture
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
    data: bytes
    narrow: bytes | None = None
    kind: str = "csv"  # of the numbers

    @property
    def data_name(self) -> str:
        """Of the file of its numbers."""
        return f"{self.name}.{self.kind}"


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


def grid(
    figure: Figure | SubFigure, count: int, columns: int, sharex: bool = False, sharey: bool = False
) -> list[Axes]:
    """So many axes, row by row, in rows of so many columns."""
    every = figure.subplots(-(-count // columns), columns, sharex=sharex, sharey=sharey, squeeze=False).ravel()
    for axes in every[count:]:
        axes.remove()
    return list(every[:count])


def png(figure: Figure) -> bytes:
    """The figure as PNG without date or software, so that the same numbers give the same bytes.

    A palette is a third of the size. Of what one sees as an area or a line it is true, see flattened; where a heat map
    has more than COLOURS shades, or lines cross, shades next to each other become one.
    """
    dpi, sheet, buffer = figure.dpi, FigureCanvasAgg(figure), io.BytesIO()
    figure.set_dpi(DPI)  # not savefig, which draws twice and compresses what is not kept
    sheet.draw()  # type: ignore[no-untyped-call]
    flat = flattened(np.asarray(sheet.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]
    flat.save(buffer, format="png", optimize=True, dpi=(dpi, dpi))
    return buffer.getvalue()


def flattened(drawn: npt.NDArray[np.uint8]) -> Image.Image:
    """The same picture (height, width, 3) in at most COLOURS of its own colours, each pixel in the nearest of them.

    They are taken one by one, each time the one that is furthest off where it matters: by its distance to those taken,
    and by how much of the picture it covers. Median cuts lose a hue that covers little, such as that of a dashed line.
    """
    packed = drawn.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    found, place, times = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1).astype(np.int64)
    nearest, apart = np.zeros(len(found), dtype=np.uint8), np.full(len(found), 3 * 256**2)
    matters, taken = np.sqrt(times), []
    for index in range(min(COLOURS, len(found))):
        taken.append(int(np.argmax(apart * matters)))  # exact integers and roots: the same on every processor
        distance = ((colours - colours[taken[-1]]) ** 2).sum(axis=1)
        nearest[distance < apart] = index
        apart = np.minimum(apart, distance)
    flat = Image.fromarray(nearest[place].reshape(packed.shape))
    flat.putpalette(colours[taken].astype(np.uint8).tobytes())
    return flat


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
    """Places in rising order, at least gap apart, as near as may be to the wanted ones (also rising), none below 0."""
    if not len(wanted):
        return []
    offsets = gap * np.arange(len(wanted))
    base = scipy.optimize.isotonic_regression(np.asarray(wanted) - offsets).x
    return [float(place) for place in base + max(0.0, -base[0]) + offsets]


def looks(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each name: of AGENTS its own, so that it is the same whatever else is drawn.

    The others get, in their order, ink and then the hues anew with other markers, so that no name goes without.
    """
    known = {name: look_of(hue, hue) for hue, name in enumerate(AGENTS)}
    others = (name for name in names if name not in known)
    known.update(zip(others, _spare(), strict=False))
    return {name: known[name] for name in names}


def look_of(hue: int, marker: int) -> dict[str, Any]:
    """The colour and the marker at these places, counted on from the first after the last."""
    return {"color": CYCLE[hue % len(CYCLE)], "marker": MARKERS[marker % len(MARKERS)]}


def _spare() -> Iterator[dict[str, Any]]:
    """What no agent has; blue, the own method's on most pages, is the last hue to come again."""
    yield {"color": INK, "marker": "*"}
    for shift in range(1, len(MARKERS)):
        for hue in (*range(1, len(CYCLE)), 0):
            yield look_of(hue, hue + shift)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a dot chart at the left, the first on top; the last row is at 0."""
    axes.set_yticks(range(len(names)), list(names)[::-1])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def reference_line(axes: Axes, y: float, text: str) -> tuple[float, str, str]:
    """Draw a dotted level across the axes; its end, for label_ends."""
    axes.axhline(y, color=MUTED, lw=1, ls=(0, (1, 2)))
    return y, text, MUTED
