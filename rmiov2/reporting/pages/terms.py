"""What the words of the page mean, for those who meet them for the first time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rmiov2.reporting.words import MODE_NAMES, completes, measure_name, modes_of

MEANINGS = {
    "completion": "a blind agent acts on what the world model reconstructs, unrolled over what the others saw",
    "zeros": "a blind agent acts on zeros",
    "last_seen": "a blind agent acts on its last observation that arrived",
    "open_loop": "a control that sees nothing: what each agent plays at every step of an episode is fixed beforehand",
    "win_rate": "the share of episodes that were won",
    "step_return": "an episode’s undiscounted return divided by its length",
}
MASKED = "further updates after pre-training, with observations lost at the rate p_mask"
OF_MODEL = f"{MASKED}; they change the world model alone"


def terms(evaluate: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Terms and what they mean, those of this run."""
    modes = [(MODE_NAMES[mode], MEANINGS[mode]) for mode in modes_of(evaluate) if mode in MEANINGS]
    about = [
        ("p_loss", "the probability that an agent’s observation does not arrive in a step; the agent is then blind"),
        ("masked fine-tuning", OF_MODEL if completes(evaluate) else MASKED),
        *modes,
        ("not fine-tuned", "the same team before masked fine-tuning"),
    ]
    if evaluate.get("true_availability"):
        about.append(("availability mask", "which actions are legal now; a blind agent does not know its own"))
    about += [
        (measure_name(evaluate), MEANINGS[evaluate["measure"]]),
        ("AUC", "the area under the performance over p_loss from 0 to 1, by the trapezoid rule over the rates played"),
    ]
    if completes(evaluate):
        meaning = "mean SmoothL1 between lost observations and their reconstructions, summed over features"
        about.append(("L_rec", meaning))
    return about
