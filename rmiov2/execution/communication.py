"""Who tells whom what when somebody is blind, counted in messages and bytes (Algorithm 2, lines 29-30)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rmiov2.types import Bools, EnvSpec, Ints

FLOAT_BYTES = 4
INDEX_BYTES = 1


@dataclass(frozen=True)
class Exchange:
    """What one step of B teams cost: messages and bytes, (B,) int64."""

    messages: Ints
    bytes: Ints


def exchange(seen: Bools, history_seen: Bools, history_rows: Ints, spec: EnvSpec) -> Exchange:
    """The cost of one synchronisation; nothing where all see, and nothing where none sees.

    seen (B, N) now · history_seen (B, l+1, N) whose observation arrived in the window, false beyond it ·
    history_rows (B,) rows of the window, the present one included. The coordinator is one of those that see. Every
    other agent sends it what it saw and did in the window, and it sends each blind agent all but that one's own part.
    Only agents' sensors fail here, not their radios: a blind agent too reports what it saw before it went blind.
    """
    blind = (~seen).sum(1)
    needed = (blind > 0) & (blind < spec.num_agents)
    act_bytes = bytes_of_actions(spec)
    obs_bytes = FLOAT_BYTES * np.asarray(spec.obs_widths)
    share = history_seen.sum(1) * obs_bytes + (history_rows[:, None] - 1) * act_bytes  # (B, N)
    coordinator = seen.argmax(1)
    total, rows = share.sum(1), np.arange(len(seen))
    up = total - share[rows, coordinator]
    down = blind * total - (share * ~seen).sum(1)
    messages = (spec.num_agents - 1) + blind
    return Exchange(np.where(needed, messages, 0).astype(np.int64), np.where(needed, up + down, 0).astype(np.int64))


def everybody_to_everybody(spec: EnvSpec, indices: int) -> tuple[int, int]:
    """Messages and bytes of one step in which every agent tells every other its action and `indices` class indices."""
    others = spec.num_agents - 1
    return spec.num_agents * others, others * int((INDEX_BYTES * indices + bytes_of_actions(spec)).sum())


def bytes_of_actions(spec: EnvSpec) -> Ints:
    """(N,) of each agent's action."""
    return np.asarray([INDEX_BYTES if spec.discrete else FLOAT_BYTES * width for width in spec.act_widths])
