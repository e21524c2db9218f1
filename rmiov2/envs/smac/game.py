"""One row of the adapter: a game that is begun, played, and begun anew where it broke or has played long enough."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rmiov2.envs.smac.process import Gone, Process, Program
from rmiov2.seeding import derive
from rmiov2.types import UserError

RENEWED_AFTER = 500  # battles: the game keeps a little of each, and the leak of a day of training fills a machine
BREAKS, WITHIN = 5, 100  # a game that breaks more often than 5 times in 100 battles is not worth waiting for

Answer = npt.NDArray[Any]  # () of battle.row_type


class Game:
    """The processes of one row, one at a time; seeds of launches are derived from that of begin and their number."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._process: Process | None = None
        self._type: np.dtype[Any] | None = None
        self._seed, self._launches = 0, 0
        self._battles, self._since_launch = 0, 0
        self._breaks: list[int] = []  # at which battle each was

    def about(self) -> dict[str, Any]:
        """What the process says of the game, which is not launched for it; raises UserError where it cannot be had."""
        try:
            return self._there().about()
        except Gone as gone:
            raise UserError(
                f"smac/{self._program.map_name}: the process of the game ended at once: {gone}; {self._log_kept()}"
            ) from gone

    def expect(self, row_type: np.dtype[Any]) -> None:
        """Answers are of this type."""
        self._type = row_type

    def begin(self, seed: int) -> None:
        """Ask for the first battle of a game launched with this seed."""
        self._seed, self._launches = seed, 0
        self._launch()

    def next(self) -> None:
        """Ask for another battle."""
        if self._process is None:
            self._launch()
        elif self._since_launch >= RENEWED_AFTER:
            self.close()
            self._launch()
        else:
            self._battle(b"next")

    def play(self, act: npt.NDArray[np.int64]) -> None:
        """Ask for what comes of act (N,)."""
        self._begins = False
        self._there().ask(b"act " + act.astype(np.int64).tobytes())

    def answer(self) -> Answer | None:
        """The row that was asked for; None if the game broke in the middle of a battle, which is lost with it.

        Where no battle had begun, the next launch begins it. Raises UserError if the game breaks too often.
        """
        while True:
            try:
                return np.frombuffer(self._there().answer(), self._type)[0]  # type: ignore[no-any-return]
            except Gone as gone:
                self._count(str(gone))
                self.close()
            if not self._begins:
                return None
            self._launch()

    def close(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _there(self) -> Process:
        if self._process is None:
            self._process = Process(self._program)
        return self._process

    def _launch(self) -> None:
        seed = derive(self._seed, "launch", self._launches) % 2**31 if self._launches else self._seed % 2**31
        self._launches, self._since_launch = self._launches + 1, 0
        self._battle(b"begin %d" % seed)

    def _battle(self, request: bytes) -> None:
        self._begins = True
        self._battles, self._since_launch = self._battles + 1, self._since_launch + 1
        self._there().ask(request)

    def _count(self, said: str) -> None:
        self._breaks = [at for at in self._breaks if at > self._battles - WITHIN] + [self._battles]
        if len(self._breaks) > BREAKS:
            raise UserError(
                f"smac/{self._program.map_name}: a game broke {len(self._breaks)} times within {WITHIN} battles, at"
                f" last with: {said}; {self._log_kept()}"
            )

    def _log_kept(self) -> str:
        path = Path(tempfile.gettempdir(), f"rmiov2-smac-{self._program.map_name}.log")
        path.write_bytes(self._there().log())
        return f"what it and the game wrote lies in {path}, and the README's section SMAC says how to start it alone"
