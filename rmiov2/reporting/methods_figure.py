"""This run beside other methods on the same task: what each wins or earns over p_loss by its own answer to a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rmiov2.evaluation.modes import UNTUNED, own_mode
from rmiov2.reporting.files import Method
from rmiov2.reporting.result_figures import name_axes
from rmiov2.reporting.style import CYCLE, Picture, canvas, csv_bytes, label_ends, png, reference_line
from rmiov2.reporting.words import count, decimals_of, focus_index, measure_name, number, probability


def methods_picture(evaluate: Mapping[str, Any], pretrain: Mapping[str, Any], kept: Sequence[Method]) -> Picture | None:
    """Every method's curve over p_loss, before and after masked fine-tuning, mean over its seeds; None without others.

    kept: the methods whose seeds were kept; of this run's own agent, the run itself is drawn.
    """
    others = [method for method in kept if method.agent != evaluate["agent"]]
    if not others:
        return None
    methods = [Method(evaluate["agent"], (evaluate,), (pretrain["env_steps"],)), *others]
    at, digits = focus_index(evaluate["p_loss"]), decimals_of(evaluate)
    said = "; ".join(
        f"{method.agent} {number(float(_mean(method, _own(method))[at]), digits)}"
        f" ({count(float(np.mean(method.env_steps)))} environment steps, {_seeds(method)})"
        for method in methods
    )
    caption = (
        f"{measure_name(evaluate).capitalize()} of every method by its own answer to a lost observation, mean over"
        f" seeds, each seed thin; dashed: before masked fine-tuning. At {probability(evaluate['p_loss'][at])}: {said}."
    )
    alt = f"Line chart: {measure_name(evaluate)} against p_loss for {', '.join(m.agent for m in methods)}."
    data = csv_bytes(("agent", "mode", "seed", "p_loss", evaluate["measure"]), _rows(methods))
    return Picture("methods", "Beside other methods", caption, alt, _drawn(methods, evaluate), "methods.csv", data)


def _own(method: Method) -> str:
    """Its own answer to a lost observation, after masked fine-tuning."""
    return own_mode(method.evaluations[0]["performance"])


def _mean(method: Method, mode: str) -> Any:
    return np.mean([evaluate["performance"][mode] for evaluate in method.evaluations], axis=0)


def _seeds(method: Method) -> str:
    seeds = len(method.evaluations)
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _rows(methods: Sequence[Method]) -> list[tuple[Any, ...]]:
    return [
        (method.agent, mode, seed, p_loss, value)
        for method in methods
        for mode in (_own(method), _own(method) + UNTUNED)
        for seed, evaluate in enumerate(method.evaluations)
        for p_loss, value in zip(evaluate["p_loss"], evaluate["performance"][mode], strict=True)
    ]


def _drawn(methods: Sequence[Method], evaluate: Mapping[str, Any]) -> bytes:
    figure = canvas(height=4.2)
    axes = figure.add_subplot()
    ends = [_curves(axes, method, colour) for method, colour in zip(methods, CYCLE, strict=False)]
    name_axes(axes, evaluate["p_loss"], measure_name(evaluate))
    if evaluate["measure"] == "win_rate":
        axes.set_ylim(0, 1)
    label_ends(axes, [*ends, reference_line(axes, evaluate["random"], "random play")])
    return png(figure)


def _curves(axes: Axes, method: Method, colour: str) -> tuple[float, str, str]:
    """Draw a method; the end of its line, for label_ends."""
    own, p_loss = _own(method), method.evaluations[0]["p_loss"]
    for evaluate in method.evaluations:
        axes.plot(p_loss, evaluate["performance"][own], color=colour, lw=0.8, alpha=0.4)
    axes.plot(p_loss, _mean(method, own + UNTUNED), color=colour, lw=1.4, ls=(0, (4, 1.5)), alpha=0.8)
    mean = _mean(method, own)
    axes.plot(p_loss, mean, "o-", color=colour, lw=2.4, mec="white", mew=0.7, clip_on=False)
    return float(mean[-1]), method.agent, colour
