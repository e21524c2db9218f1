"""One look for each agent in every figure, told apart by colour-blind readers too; a picture keeps its hues."""

from __future__ import annotations

import io
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from rmiov2.reporting.style import AGENTS, COLOURS, CYCLE, INK, MODES, canvas, flattened, looks, png, styled

# Machado, Oliveira and Fernandes 2009, table 1, severity 1: what is left of linear RGB.
SIGHT = {
    "full": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.072175], [0.0193339, 0.119192, 0.9503041]])


def linear(colours: Any) -> Any:
    shares = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in colours]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(light: Any) -> Any:
    """CIELAB of linear RGB under D65."""
    t = light @ XYZ.T / XYZ.sum(axis=1)
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t * (29 / 6) ** 2 / 3 + 4 / 29).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def test_hues_are_told_apart_with_full_sight_and_without_red_or_green_cones() -> None:
    for sight, left in SIGHT.items():
        seen = lab(np.clip(linear(CYCLE) @ np.transpose(left), 0, 1))
        near = min((float(np.linalg.norm(seen[i] - seen[j])), CYCLE[i], CYCLE[j]) for i, j in combinations(range(8), 2))
        assert near[0] >= 16, (sight, near)


def test_names_in_their_hue_can_be_read_on_white() -> None:
    assert (1.05 / (linear(CYCLE) @ XYZ[1] + 0.05)).min() >= 4.5


def test_an_agent_looks_the_same_whoever_stands_beside_it() -> None:
    every = looks(AGENTS)
    assert every["rmiov2"]["color"] == CYCLE[0] == MODES["completion"][1]
    assert len({look["color"] for look in every.values()}) == len({look["marker"] for look in every.values()}) == 8
    for names in (("facmac", "rmiov2"), ("mine", "rmio", "yours"), ("qmix", "mine", *AGENTS[:5])):
        found = looks(names)
        assert list(found) == list(names)
        assert all(found[name] == every[name] for name in names if name in every)
    assert looks(("mine", "rmio"))["mine"]["color"] == INK


def test_a_picture_keeps_the_hue_of_what_covers_little_of_it() -> None:
    """Dashed tints of seven hues over bands and a gradient: a palette of median cuts gave some another hue."""
    with styled():
        figure = canvas()
        axes = figure.add_subplot()
        for place, colour in enumerate(CYCLE):
            axes.fill_between([0, 1], [place, place + 1], [place + 1, place + 2], color=colour, alpha=0.1, lw=0)
            axes.plot([0, 1], [place + 0.5, place + 0.7], color=colour, lw=1.1, ls=(0, (4, 1.5)), alpha=0.7)
        axes.imshow(np.linspace(0, 1, 400)[None], extent=(0, 1, 9, 10), aspect="auto", cmap="Blues")
        axes.set_ylim(0, 10)
        content = png(figure)
        drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]
    kept = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert (np.asarray(flattened(drawn).convert("RGB")) == kept).all(), "the same again"
    colours, place, times = np.unique(drawn.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    assert len(colours) > COLOURS >= len(np.unique(kept.reshape(-1, 3), axis=0))
    off = np.zeros(len(colours))
    np.maximum.at(off, place.ravel(), np.abs(kept.astype(int) - drawn).max(axis=2).ravel())
    assert off.max() <= 24 and off[times >= 100].max() <= 12, "of 255"


def test_few_colours_stay_what_they_are() -> None:
    drawn = np.random.default_rng(0).integers(0, 2, (9, 7, 3), dtype=np.uint8) * np.uint8(255)
    assert (np.asarray(flattened(drawn).convert("RGB")) == drawn).all()
