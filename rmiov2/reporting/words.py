"""How numbers, measures and modes are said, in figures, tables and sentences alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rmiov2.types import UserError

WHOLE = "none"  # the ablation that takes nothing away
NARROW_SPACE = "\u202f"  # between thousands, where no line may break
MEASURES = {"win_rate": "win rate", "step_return": "return per step"}
MODE_NAMES = {
    "completion": "completion",
    "completion_untuned": "completion, not fine-tuned",
    "zeros": "zeros",
    "zeros_untuned": "zeros, not fine-tuned",
    "last_seen": "last seen",
    "open_loop": "open loop",
}


def measure_name(evaluate: Mapping[str, Any]) -> str:
    """The measure in words; raises UserError for one that is not known."""
    measure = evaluate["measure"]
    if measure not in MEASURES:
        raise UserError(f"metrics/evaluate.json: measure {measure!r}, expected one of {', '.join(MEASURES)}")
    return MEASURES[measure]


def modes_of(block: Mapping[str, Any]) -> list[str]:
    """The modes of evaluate.json, or of its true_availability, in our order, in which the headline comes first.

    Raises UserError for a mode that is not known, and without a headline: completion or, where there is none, zeros.
    """
    got = block["performance"]
    strange = [mode for mode in got if mode not in MODE_NAMES]
    if strange or not {"completion", "zeros"} & set(got):
        raise UserError(
            f"metrics/evaluate.json: modes {', '.join(got)}; expected completion or zeros, and any of"
            f" {', '.join(MODE_NAMES)}"
        )
    return [mode for mode in MODE_NAMES if mode in got]


def completes(evaluate: Mapping[str, Any]) -> bool:
    """Whether the team completes what is lost, and so has reconstructions, L_rec, a reward trend and messages."""
    return modes_of(evaluate)[0] == "completion"


def decimals_of(evaluate: Mapping[str, Any]) -> int:
    """How many decimals this measure is read with: two for a rate, else three digits of the largest value."""
    if evaluate["measure"] == "win_rate":
        return 2
    largest = max(abs(value) for values in evaluate["performance"].values() for value in values)
    return min(5, max(2, 2 - math.floor(math.log10(largest)))) if largest > 0 else 2


def number(value: float, decimals: int = 2) -> str:
    """So many decimals, with a true minus sign, and no sign before a zero."""
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def significant(value: float) -> str:
    """Three significant digits and never an exponent: 1 560, 4.02, 0.0037."""
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    text = f"{round(value, decimals):,.{max(0, min(decimals, 6))}f}"
    return text.replace(",", NARROW_SPACE).replace("-", "−")


def interval(bounds: Sequence[float], decimals: int = 2) -> str:
    """[lo, hi]."""
    return f"[{number(bounds[0], decimals)}, {number(bounds[1], decimals)}]"


def with_interval(value: float, bounds: Sequence[float], decimals: int = 2) -> str:
    """value [lo, hi]."""
    return f"{number(value, decimals)} {interval(bounds, decimals)}"


def probability(value: float) -> str:
    """0.6 for 0.6, 1 for 1.0."""
    return f"{value:g}"


def duration(seconds: float) -> str:
    """Seconds in the unit that a reader would choose."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def count(value: float) -> str:
    """A whole number, thousands set apart by a narrow space."""
    return f"{int(value):,}".replace(",", NARROW_SPACE)


def listed(names: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])


def focus_index(p_loss: Sequence[float]) -> int:
    """Where on the grid the headline is read: 0.6, or the value nearest to it."""
    return min(range(len(p_loss)), key=lambda index: (abs(p_loss[index] - 0.6), index))


def headline(evaluate: Mapping[str, Any]) -> str:
    """The result in one or two sentences, every number from the evaluation."""
    modes = modes_of(evaluate)
    own, at = modes[0], focus_index(evaluate["p_loss"])
    performance, bounds = evaluate["performance"], evaluate["ci95"]
    digits = decimals_of(evaluate)
    said = {mode: with_interval(performance[mode][at], bounds[mode][at], digits) for mode in modes}
    answer, compared, place = _COMPARED[own]
    others = [f"{said[mode]} {phrase}" for mode, phrase in compared if mode in modes]
    games = "battles" if evaluate["env"].startswith(("smax/", "smac/")) else "games"
    win = evaluate["measure"] == "win_rate"
    verb, unit = ("wins", f" of its {games}") if win else ("earns", " per step")
    first = (
        f"With each agent’s observation lost with probability {probability(evaluate['p_loss'][at])} at every step, "
        f"the team {verb} {said[own]}{unit} {answer}"
    )
    tail = f", against {' and '.join(others)}{place}" if others else ""
    sight = number(performance[own][0], digits)
    chance = number(evaluate["random"], digits)
    return f"{first}{tail}. When nothing is lost, it {verb} {sight}; random play {verb} {chance}."


# By headline mode: how its number is introduced, what it is compared with, and what ends the comparison.
_COMPARED = {
    "completion": (
        "with completion",
        (("zeros", "with zeros"), ("last_seen", "with the last observations seen")),
        " in their place",
    ),
    "zeros": (
        "with zeros in their place after masked fine-tuning",
        (("zeros_untuned", "before it"), ("last_seen", "with the last observations seen")),
        "",
    ),
}


def part_name(ablation: str) -> str:
    """A file of conf/ablation in words: no observation fusion, p_mask 0.25, or the whole method."""
    if ablation == WHOLE:
        return "whole method"
    return ablation.replace("_", " ").replace("p mask", "p_mask")
