"""An episode as a moving picture: the battle on its map, or the columns of the agents, with the blind agents marked."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from rmiov2.files import refuse_unwritable, write_bytes
from rmiov2.reporting.scene.battle_map import Limits, Scene, draw_moment, frame_of, map_legend, shape_of
from rmiov2.reporting.scene.figures import blinded, scene_title, shade
from rmiov2.reporting.scene.map_figure import moments
from rmiov2.reporting.style import CYCLE, FONT, INK, MUTED, canvas, styled
from rmiov2.types import UserError

LINES = 4  # agents drawn of a series
WINDOW = 60  # steps of it
PAUSE = 200  # milliseconds from frame to frame


def refuse_other_pictures(path: Path) -> None:
    """Raise UserError for a path that does not end in .gif, or that no file can be written at."""
    if path.suffix.lower() != ".gif":
        raise UserError(f"cannot write {path.name}: an animation is a GIF, give a path that ends in .gif")
    refuse_unwritable(path)


def write_animation(scene: Scene, path: Path, max_frames: int = 120) -> Path:
    """Write the scene as a looping GIF; the path.

    The scene is that of results/scene.json. An episode longer than max_frames is drawn at every k-th step. Raises
    UserError for a path that does not end in .gif and for a scene without a step.
    """
    refuse_other_pictures(path)
    steps = len(scene["seen"])
    if steps == 0:
        raise UserError("the scene has no step to draw; record it anew with `rmiov2 watch`")
    stride = -(-steps // max_frames)
    with styled():
        images = list(_images(scene, range(0, steps, stride)))
    write_bytes(path, _gif(images))
    return path


def _images(scene: Scene, times: range) -> Iterator[Image.Image]:
    """One figure, laid out for the first step only: the axes must not move, and laying out takes most of the time."""
    mapped = scene.get("map") is not None
    figure, paint = (_map_figure(scene), _paint_map) if mapped else (_series_figure(scene), _paint_series)
    for t in times:
        for axes in figure.axes:
            axes.clear()
        paint(figure, scene, t)
        figure.canvas.draw()
        if t == times.start:
            figure.canvas.draw()  # the first layout does not know yet how equal scales shape the map
            figure.set_layout_engine("none")
        yield Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")  # type: ignore[attr-defined]


def _map_figure(scene: Scene) -> Figure:
    figure = canvas(5.6, 5.5 * shape_of(_frame(scene)) + 1.2)
    figure.add_subplot()
    map_legend(figure, scene)
    return figure


def _paint_map(figure: Figure, scene: Scene, t: int) -> None:
    (axes,) = figure.axes
    limits = _frame(scene)
    axes.set(xlim=limits[0], ylim=limits[1])
    focus, _ = moments(scene)
    hidden = focus is not None and blinded(scene)[t, focus]
    draw_moment(axes, scene, t, focus if hidden else None, size=13)
    axes.set_title(_heading(scene, t))


def _frame(scene: Scene) -> Limits:
    return frame_of(scene, list(range(len(scene["seen"]))))


def _series_figure(scene: Scene) -> Figure:
    agents = min(scene["agents"], LINES)
    figure = canvas(6.4, 1.25 * agents + 1.0)
    figure.subplots(agents, 1, sharex=True)
    return figure


def _paint_series(figure: Figure, scene: Scene, t: int) -> None:
    truth = np.asarray(scene["series"]["truth"], dtype=float)[:, :, 0]
    told, seen = "reconstruction" in scene["series"], np.asarray(scene["seen"], dtype=bool)
    guess = np.asarray(scene["series"]["reconstruction"], dtype=float)[:, :, 0] if told else np.full_like(truth, np.nan)
    for agent, axes in enumerate(figure.axes):
        _running_series(axes, truth[:, agent], guess[:, agent], ~seen[:, agent], t)
        axes.set_ylabel(f"agent {agent + 1}\n{scene['series']['names'][agent][0]}", fontsize=FONT - 2)
        axes.label_outer()
    marks = "true (line), reconstructed (dots)" if told else "true, blind where shaded"
    figure.axes[0].set_title(f"{_heading(scene, t)}\n{marks}")
    figure.axes[-1].set_xlabel("step")


def _running_series(axes: Any, truth: Any, guess: Any, blind: Any, t: int) -> None:
    """The last steps up to t on axes that do not jump."""
    first = max(0, min(t - WINDOW // 2, len(truth) - WINDOW))
    steps = np.arange(first, t + 1)
    shade(axes, blind[first : t + 1], first)
    axes.plot(steps, truth[first : t + 1], color=INK, lw=1.4)
    axes.plot(steps, np.where(blind, guess, np.nan)[first : t + 1], "o", color=CYCLE[1], ms=3.2)
    axes.axvline(t, color=MUTED, lw=0.8)
    everything = np.concatenate([truth, guess[blind]])
    low, high = float(np.nanmin(everything)), float(np.nanmax(everything))
    margin = 0.08 * max(high - low, 1e-6)
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(first - 0.5, first + min(WINDOW, len(truth)) - 0.5)


def _heading(scene: Scene, t: int) -> str:
    blind = len(scene["seen"][t]) - sum(scene["seen"][t])
    talk = f", {scene['messages'][t]} messages" if "messages" in scene else ""
    return f"{scene_title(scene)}\nstep {t} of {len(scene['seen']) - 1}, {blind} blind{talk}"


def _gif(images: list[Image.Image]) -> bytes:
    """One palette for all frames, taken from a few of them, so that colours do not flicker."""
    sample = images[:: max(1, len(images) // 4)][:5]
    sheet = Image.new("RGB", (sample[0].width, sample[0].height * len(sample)))
    for row, image in enumerate(sample):
        sheet.paste(image, (0, row * image.height))
    colours = np.asarray(sheet.quantize(64).getpalette(), dtype=int).reshape(-1, 3)
    colours[colours.min(axis=1) > 247] = 255  # the paper is white, not the mean of what is nearly white
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours.ravel().tolist())
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    durations = [PAUSE] * (len(frames) - 1) + [4 * PAUSE]  # rest on the end before it begins again
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=False)
    return buffer.getvalue()
