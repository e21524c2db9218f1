"""Which trajectory goes on where another stopped: episodes that were cut into pieces, put together again.

A sweep stores the pieces of all its games, then the next pieces of those that still play. A piece goes on where an
earlier one of its sweep stopped when it begins with that one's last row.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

ROWS = ("obs", "state", "avail")  # what a row is told by; the last one of a piece is the first one of the next


@dataclass(frozen=True)
class Piece:
    """One trajectory as it lies in a shard, right or wrong."""

    shard: str
    index: int
    arrays: dict[str, npt.NDArray[Any]]
    start: bool
    won: bool

    def __len__(self) -> int:
        return len(self.arrays["rew"])

    @property
    def ended(self) -> bool:
        """The game was over with its last step; time running out leaves it open."""
        return bool(self.arrays["con"][-1] == 0)


@dataclass
class Chain:
    """What a piece is in its episode: the sweep it lies in, the steps of the episode so far, and whose they are.

    known: its episode begins in this folder · continued: another piece goes on where it stopped.
    """

    sweep: int
    steps: int
    known: bool
    continued: bool = False


@dataclass
class _Sweep:
    """The chains of the pieces so far, and by their last row those of this sweep that may go on."""

    number: int = 0
    waiting: dict[bytes, list[Chain]] = field(default_factory=lambda: defaultdict(list))


def chains_of(pieces: list[Piece]) -> list[Chain]:
    """One for each piece, in their order."""
    chains: list[Chain] = []
    sweep, beginning = _Sweep(), True
    for piece in pieces:
        if piece.start and not beginning:
            sweep = _Sweep(sweep.number + 1)
        beginning = piece.start
        chains.append(_link(piece, sweep))
    return chains


def _link(piece: Piece, sweep: _Sweep) -> Chain:
    before = [] if piece.start else sweep.waiting[_row(piece, 0)]
    if before:
        earlier = before.pop(0)
        earlier.continued = True
        chain = Chain(sweep.number, earlier.steps + len(piece), earlier.known)
    else:
        chain = Chain(sweep.number, len(piece), piece.start)
    if not piece.ended:
        sweep.waiting[_row(piece, -1)].append(chain)
    return chain


def chain_facts(pieces: list[Piece], chains: list[Chain], limit: int, forgetful: bool) -> list[dict[str, int]]:
    """The columns of the trajectories' table that need more than one trajectory.

    forgetful: the oldest pieces are gone, so one of the first sweep may go on where nothing is.
    """
    facts, seen = [], set()
    for piece, chain in zip(pieces, chains, strict=True):
        content = _digest(*(piece.arrays[name] for name in sorted(piece.arrays)))
        timed_out = chain.steps >= limit or not chain.known
        stops_short = not piece.ended and not timed_out
        facts.append(
            {
                "episode_steps": chain.steps,
                "orphaned": int(not chain.known and not (forgetful and chain.sweep == 0)),
                "won_without_end": int(piece.won and (chain.continued or stops_short)),
                "open_end": int(stops_short and not chain.continued),
                "doubled": int(content in seen),
            }
        )
        seen.add(content)
    return facts


def episodes_begun(pieces: list[Piece], chains: list[Chain], forgetful: bool) -> int:
    """Episodes that began in sweeps of which nothing was forgotten."""
    return sum(p.start and not (forgetful and c.sweep == 0) for p, c in zip(pieces, chains, strict=True))


def _row(piece: Piece, at: int) -> bytes:
    return _digest(*(piece.arrays[name][at] for name in ROWS if name in piece.arrays))


def _digest(*arrays: npt.NDArray[Any]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
