"""What goes wrong with the stand-in: JSON in the environment variable STAND_IN_GAME, read when a game starts.

    STAND_IN_GAME='{"crash_at": 37, "launches": [1]}'
    STAND_IN_GAME='[{"crash_at": 37, "launches": [1]}, {"port_taken": true, "launches": [2]}]'

Of a list the first that is for the launch counts. A launch is one of the installation's, whoever started it.
A moment is the ordinal of a step request since the launch (SMAC sends one for each of its steps and one more for each
reset but the first), or a request's name in the protocol and its ordinal: `["observation", 1]`, `["create_game", 1]`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields

VARIABLE = "STAND_IN_GAME"

Moment = int | list  # 37, or ["observation", 1]


@dataclass(frozen=True)
class Modes:
    """All well by default."""

    launches: list[int] | None = None  # those that the rest is for, from 1; None: all
    crash_at: Moment | None = None  # the process ends without an answer
    hang_at: Moment | None = None  # no answer ever comes
    malformed_at: Moment | None = None  # the answer is no message of the protocol
    empty_at: Moment | None = None  # the answer has no bytes
    error_at: Moment | None = None  # the answer says that the request failed
    refuse_join: bool = False  # join_game is answered with an error of its own
    port_taken: bool = False  # ends at start, as if somebody else had the port
    slow_start_s: float = 0.0  # listens so much later
    step_ms: float = 0.0  # a step takes at least so long
    late_spawn: int = 0  # so many units of each battle come one loop after another
    leak_mb: float = 0.0  # memory kept for good with each battle
    ignore_sigterm: bool = False
    linger_s: float = 0.0  # outlives its parent by so much

    def failure(self, request: str, ordinal: int) -> str | None:
        """What is to go wrong with the ordinal-th request of a kind: crash, hang, malformed, empty, error or None."""
        for name in ("crash", "hang", "malformed", "empty", "error"):
            moment = getattr(self, f"{name}_at")
            if moment is not None and (["step", moment] if isinstance(moment, int) else moment) == [request, ordinal]:
                return name
        return None


def read(launch: int, environment: Mapping[str, str] = os.environ) -> Modes:
    """The modes of the launch-th game of an installation; ValueError names what is not known."""
    given = json.loads(environment.get(VARIABLE, "{}"))
    for each in given if isinstance(given, list) else [given]:
        unknown = set(each) - {field.name for field in fields(Modes)}
        if unknown:
            raise ValueError(f"{VARIABLE} names {sorted(unknown)}, which {__name__} does not know")
        modes = Modes(**each)
        if modes.launches is None or launch in modes.launches:
            return modes
    return Modes()


class Moments:
    """Counts requests by kind."""

    def __init__(self, modes: Modes) -> None:
        self.modes = modes
        self.seen: Counter[str] = Counter()

    def failure(self, request: str) -> str | None:
        self.seen[request] += 1
        return self.modes.failure(request, self.seen[request])
