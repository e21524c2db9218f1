"""What stands in for lost observations, by name: which modes are played, and which of them is the headline."""

from __future__ import annotations

from collections.abc import Iterable

from rmiov2.types import UserError

UNTUNED = "_untuned"  # ending of the mode that the agent plays as it was before masked fine-tuning
OPEN_LOOP = "open_loop"
CONTROLS = ("zeros", "last_seen", OPEN_LOOP)


def modes_played(own: str) -> tuple[str, ...]:
    """All that an evaluation plays, the headline first: an agent's own answer, the same untuned, and the controls."""
    return own, own + UNTUNED, *(mode for mode in CONTROLS if mode != own)


def own_mode(played: Iterable[str]) -> str:
    """The headline of an evaluation: the one mode that was played untuned as well; raises UserError without one."""
    found = set(played)
    own = [mode for mode in found if mode + UNTUNED in found]
    if len(own) != 1:
        raise UserError(
            f"modes: got {', '.join(sorted(found))}, expected one of them with and without {UNTUNED};"
            " write them anew with the evaluate stage"
        )
    return own[0]
