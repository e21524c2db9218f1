"""One evaluated episode: in its columns, the error of the reconstruction, and the reward window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from rmiov2.reporting.scene.battle_map import Scene, ally_indices
from rmiov2.reporting.style import CYCLE, FAINT, FONT, INK, MUTED, Picture, canvas, csv_bytes, grid, label_ends, png
from rmiov2.reporting.words import count, probability, significant
from rmiov2.types import UserError

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]
SERIES_STEPS = 80  # a longer stretch is a hatching of blind spans that nobody can read
SERIES_COLUMNS = 4


def scene_title(scene: Scene) -> str:
    """Which episode it is and how it went."""
    ended = f", {'won' if scene['won'] else 'not won'}" if scene["measure"] == "win_rate" else ""
    return f"{scene['env']}, p_loss {probability(scene['p_loss'])}, seed {scene['seed']}{ended}"


def playing(scene: Scene) -> Mask:
    """(T, N) the agent is alive; where there is no map everybody is."""
    seen = np.asarray(scene["seen"], dtype=bool)
    if scene.get("map") is None:
        return np.ones_like(seen)
    units = scene["map"]["units"]
    return np.array([[row[i]["alive"] for i in ally_indices(row)[: scene["agents"]]] for row in units], dtype=bool)


def blinded(scene: Scene) -> Mask:
    """(T, N) the agent is alive and did not see."""
    seen: Mask = np.asarray(scene["seen"], dtype=bool)
    return playing(scene) & ~seen


def evenly(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of these steps, spread from the first to the last."""
    picked = np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int)
    return [int(steps[index]) for index in np.unique(picked)]


def error_picture(scene: Scene) -> Picture | None:
    """How far the reconstructions were from the truth, step by step, and who was blind; None where there are none."""
    if "error" not in scene:
        return None
    seen, error = np.asarray(scene["seen"], dtype=bool), np.asarray(scene["error"], dtype=float)
    if seen.shape != error.shape:
        shapes = f"seen {seen.shape} and error {error.shape} differ"
        raise UserError(f"results/scene.json: {shapes}; write it anew with `dvc repro -f -s evaluate`")
    blind, sighted = blinded(scene), playing(scene) & seen
    figure = canvas(height=2.9 + min(0.3 * seen.shape[1], 2.2))
    top, strip = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, min(0.3 * seen.shape[1], 2.2)))
    ends = []
    for mask, colour, name in ((sighted, MUTED, "saw"), (blind, CYCLE[1], "blind")):
        if error[mask].any():  # who saw has no error, unless the scene says otherwise
            ends.append((_draw_error(top, error, mask, colour), name, colour))
    top.set_ylim(bottom=0)
    top.set_title("error of the reconstruction, mean over blind agents")
    _strip(strip, np.where(blind, error, np.nan), seen.shape[1])
    label_ends(top, ends)
    caption = (
        "SmoothL1, summed over an observation, between the true observation and the one acted on "
        f"({scene_title(scene)}): on average {_mean_word(error, blind)} for agents that were blind, "
        f"{_mean_word(error, sighted)} for agents that saw. Below, one row per agent, coloured where it was blind: the "
        "darker, the larger the error."
    )
    rows = [(t, n + 1, int(seen[t, n]), error[t, n]) for t in range(len(seen)) for n in range(seen.shape[1])]
    alt = "Line chart of the reconstruction error of blind and seeing agents over the steps of the episode."
    data = csv_bytes(("step", "agent", "seen", "error"), rows)
    return Picture("scene_error", "Error over the episode", caption, alt, png(figure), data)


def _strip(axes: Axes, error: Values, agents: int) -> None:
    shades = LinearSegmentedColormap.from_list("error", ["#f6d5c3", "#c2410c", "#5b1a02"])
    top = max(float(np.nanmax(error)), 1e-9) if np.isfinite(error).any() else 1.0
    edges = np.arange(len(error) + 1) - 0.5, np.arange(agents + 1) + 0.5
    axes.pcolormesh(*edges, error.T, cmap=shades, norm=Normalize(0, top))
    axes.set_yticks(range(1, agents + 1))
    axes.invert_yaxis()
    axes.set_ylabel("agent")
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=False)
    axes.set_xlim(-0.5, len(error) - 0.5)


def _draw_error(axes: Axes, error: Values, mask: Mask, colour: str) -> float:
    """Mean over the agents of the mask; its last value."""
    steps = np.flatnonzero(mask.any(axis=1))
    means = (np.where(mask, error, 0).sum(axis=1) / np.maximum(mask.sum(axis=1), 1))[steps]
    return draw_mean(axes, steps, means, colour)


def draw_mean(axes: Axes, steps: npt.NDArray[np.intp], means: Values, colour: str) -> float:
    """A line through its points, or a running mean where they are too many to be told apart; its last value."""
    if len(steps) <= SERIES_STEPS:
        axes.plot(steps, means, "o-", color=colour, ms=3, lw=1.2)
        return float(means[-1])
    window = len(steps) // 30
    smooth = np.convolve(means, np.ones(window) / window, mode="valid")
    axes.plot(steps, means, color=colour, lw=0.6, alpha=0.35)
    axes.plot(steps[window // 2 : window // 2 + len(smooth)], smooth, color=colour, lw=2)
    return float(smooth[-1])


def _mean_word(error: Values, mask: Mask) -> str:
    return significant(float(error[mask].mean())) if mask.any() else "(none)"


def series_picture(scene: Scene) -> Picture | None:
    """True against reconstructed columns of one agent, its blind spans shaded; None where nothing was reconstructed."""
    if "reconstruction" not in scene["series"]:
        return None
    truth = np.asarray(scene["series"]["truth"], dtype=float)
    guess = np.asarray(scene["series"]["reconstruction"], dtype=float)
    blind = blinded(scene)
    window = stretch(len(truth))
    agent = int(np.argmax(blind[window].sum(axis=0)))
    names = scene["series"]["names"][agent][:SERIES_COLUMNS]
    if not names or not blind[window, agent].any():
        return None
    spread = np.asarray(scene["series"].get("spread", np.zeros_like(guess)), dtype=float)
    both = len(names) if len(names) < 4 else 2
    truth, guess, spread = (every[window, agent, : len(names)] for every in (truth, guess, spread))
    hidden, first = blind[window, agent], window.start
    wide, narrow = (_series(truth, guess, spread, hidden, names, first, columns) for columns in (both, 1))
    apart = np.abs(truth - guess)[hidden]
    said = "; ".join(f"{name} {significant(float(apart[:, index].mean()))}" for index, name in enumerate(names))
    where = f"steps {window.start} to {window.stop - 1}"
    caption = (
        f"Agent {agent + 1}, {where}: true values and, in the shaded steps, in which it was blind, reconstructed ones. "
        f"Mean absolute error while blind: {said}."
        + (" Bars are standard deviations over draws of the latent state." if spread.any() else "")
    )
    alt = f"Line charts of {', '.join(names)} over time, true and reconstructed."
    header = ["step", "seen", *(f"{side}_{name}" for name in names for side in ("true", "reconstructed", "deviation"))]
    columns = np.stack([truth, guess, spread], axis=-1).reshape(len(truth), -1)
    data = csv_bytes(header, ((first + t, int(not hidden[t]), *row) for t, row in enumerate(columns)))
    return Picture("scene_series", "True and reconstructed", caption, alt, wide, data, narrow)


def stretch(steps: int) -> slice:
    """Of an episode's steps the SERIES_STEPS in the middle, or all."""
    first = max(0, (steps - SERIES_STEPS) // 2)
    return slice(first, min(first + SERIES_STEPS, steps))


def _series(
    truth: Values, guess: Values, spread: Values, hidden: Mask, names: list[str], first: int, columns: int
) -> bytes:
    rows = -(-len(names) // columns)
    figure = canvas(10.6 if columns > 1 else 5.2, 1.8 * rows + 0.8)
    panels = grid(figure, len(names), columns, sharex=True)
    for index, (panel, name) in enumerate(zip(panels, names, strict=True)):
        draw_series(panel, truth[:, index], guess[:, index], hidden, first)
        _draw_spread(panel, guess[:, index], spread[:, index], hidden, first)
        panel.set_title(name)
    for panel in panels[-columns:]:
        panel.set_xlabel("step")
    series_legend(figure)
    return png(figure)


def series_legend(figure: Figure) -> None:
    """What the lines of a series mean, below all of them."""
    handles = [
        Line2D([], [], color=INK, lw=1.4, label="true"),
        Line2D([], [], color=CYCLE[1], marker="o", ms=3.2, lw=1, label="reconstructed"),
        Patch(color=FAINT, alpha=0.7, lw=0, label="blind"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, columnspacing=1.6)


def draw_series(axes: Axes, truth: Values, guess: Values, hidden: Mask, first: int) -> None:
    """One column (T,) of one agent over the steps from first on; the reconstruction only where it was needed."""
    steps = np.arange(first, first + len(truth))
    shade(axes, hidden, first)
    axes.plot(steps, truth, color=INK, lw=1.4)
    axes.plot(steps, np.where(hidden, guess, np.nan), "o-", color=CYCLE[1], ms=3.2, lw=1)
    axes.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_spread(axes: Axes, guess: Values, spread: Values, hidden: Mask, first: int) -> None:
    """How far draws of the latent state lie apart, about the reconstruction where it was needed."""
    low, high = (np.where(hidden, guess + sign * spread, np.nan) for sign in (-1, 1))
    axes.vlines(np.arange(first, first + len(guess)), low, high, color=CYCLE[1], lw=2.4, alpha=0.3)


def shade(axes: Axes, hidden: Mask, first: int) -> None:
    """Shade the steps, counted from first, where hidden (T,) is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hidden, [False]]).astype(int)))
    spans = [(first + start - 0.5, end - start) for start, end in edges.reshape(-1, 2).tolist()]
    axes.broken_barh(spans, (0, 1), transform=axes.get_xaxis_transform(), color=FAINT, alpha=0.7, lw=0)


def reward_picture(scene: Scene) -> Picture | None:
    """The reward as it was paid, its trend, and the half-width of its window (Appendix E.2); None without a trend.

    Where the scene has it, also both with the variance taken free of the reward's scale.
    """
    if "trend" not in scene["reward"]:
        return None
    trends = {"as set": scene["reward"], "normalised": scene["reward"].get("normalised")}
    kept = {name: (np.asarray(t["trend"]), np.asarray(t["half_width"])) for name, t in trends.items() if t is not None}
    raw = np.asarray(scene["reward"]["raw"], dtype=float)
    sums = ", ".join(f"{significant(float(trend.sum()))}{_of(name, kept)}" for name, (trend, _) in kept.items())
    caption = (
        f"{_windows_told(kept)} over {count(len(raw))} steps. The rewards of the episode sum to"
        f" {significant(float(raw.sum()))} as paid and to {sums} as trend."
    )
    header = [f"{what}{_column(name)}" for name in kept for what in ("trend", "half_width")]
    columns = [column for both in kept.values() for column in both]
    alt = "Bars of the raw reward with the smoothed trend as a line; below, the half-width of the smoothing window."
    data = csv_bytes(("step", "raw", *header), zip(range(len(raw)), raw, *columns, strict=True))
    image = _reward(raw, kept)
    return Picture("reward_window", "The reward window at work", caption, alt, image, data)


Trends = Mapping[str, tuple[Values, Values]]
_LOOKS = {"as set": (CYCLE[0], "-"), "normalised": (CYCLE[1], (0, (4, 1.5)))}


def _windows_told(kept: Trends) -> str:
    """How wide the window opens, and why it may not."""
    half = kept["as set"][1]
    if half.max() > 0:
        said = f"The window opens where the reward varies: half-width {half.min():g} to {half.max():g}"
    else:
        said = "The window never opens, because rewards as small as these vary too little for eq. (11): half-width 0"
    if "normalised" not in kept:
        return said
    free = kept["normalised"][1]
    return f"{said}; with the variance divided by that of the episode (dashed) {free.min():g} to {free.max():g}"


def _of(name: str, kept: Trends) -> str:
    return f" ({name})" if len(kept) > 1 else ""


def _column(name: str) -> str:
    return "" if name == "as set" else f"_{name}"


def _reward(raw: Values, kept: Trends) -> bytes:
    steps = np.arange(len(raw))
    figure = canvas(height=4.0)
    top, low = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    top.vlines(steps, 0, raw, color=MUTED, lw=float(np.clip(240 / len(raw), 0.6, 4)), alpha=0.55)
    for name, (trend, half) in kept.items():
        colour, dashes = _LOOKS[name]
        top.plot(steps, trend, color=colour, ls=dashes, lw=2 if name == "as set" else 1.5)
        low.step(steps, half, where="mid", color=colour, ls=dashes)
    top.axhline(0, color=MUTED, lw=0.7)
    top.set_title("reward per step: paid (bars) and trend (line)", fontsize=FONT)
    low.set_ylim(0, max(1.15 * max(float(half.max()) for _, half in kept.values()), 1))
    low.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    low.set_title("half-width of the window, in steps", fontsize=FONT)
    low.set_xlim(-0.5, len(raw) - 0.5)
    low.xaxis.set_major_locator(MaxNLocator(integer=True))
    low.set_xlabel("step")
    return png(figure)
