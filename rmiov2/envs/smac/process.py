"""A game's process from outside: started with what it needs, asked and answered in bytes, killed with its game."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import Any

from rmiov2.types import UserError

# pysc2's old generated code loads beside a current protobuf only so. A game's process multiplies no matrices.
ENVIRONMENT = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
STARTING = 180.0  # seconds that importing may take, on a busy machine and a cold disk
LOG_END = 65536  # bytes of what it wrote
ANSWERS = 4  # times the patience: SMAC itself waits for the game, then launches it again, before it answers


@dataclass(frozen=True)
class Program:
    """What a process is to run: source, module:Class of battle.Source, with a map; patience in seconds."""

    source: str
    map_name: str
    patience: int


class Gone(Exception):
    """The process does not answer any more; the message is its last words."""


class Process:
    """One game and its SMAC, in a session of their own."""

    def __init__(self, program: Program) -> None:
        self._deadline = ANSWERS * program.patience
        self._line, theirs = Pipe()
        lifeline, self._held = os.pipe()  # the far end sees our end close, however we end
        self._said = tempfile.TemporaryFile()
        self._folder = tempfile.mkdtemp(prefix="rmiov2-smac-")
        ends = (theirs.fileno(), lifeline)
        command = [program.source, program.map_name, str(program.patience), self._folder, *map(str, ends)]
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rmiov2.envs.smac.worker", *command], pass_fds=ends, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=self._said, stderr=self._said,
            env=os.environ | ENVIRONMENT | {"PYTHONPATH": path, "TMPDIR": self._folder},
        )  # fmt: skip
        theirs.close()
        os.close(lifeline)
        self._about: dict[str, Any] | None = None

    def about(self) -> dict[str, Any]:
        """{"info", "facts", "note"} of the game; waits until it is there. Raises UserError if it cannot be had."""
        if self._about is None:
            verb, rest = self._receive(STARTING)
            if verb == b"refused":
                raise UserError(rest.decode())
            self._about = json.loads(rest)
        return self._about

    def ask(self, request: bytes) -> None:
        """Send a request; the answer is fetched later, so that many games work at once."""
        try:
            self._line.send_bytes(request)
        except OSError:  # it is gone, which the answer will tell
            pass

    def answer(self) -> bytes:
        """The answer to the last request; raises Gone if the process ended or is silent for too long."""
        self.about()
        return self._receive(self._deadline)[1]

    def _receive(self, seconds: float) -> tuple[bytes, bytes]:
        try:
            if not self._line.poll(seconds):
                raise Gone(f"no answer for {seconds:.0f} seconds; {self.last_words()}")
            verb, _, rest = self._line.recv_bytes().partition(b" ")
        except (EOFError, OSError) as error:
            raise Gone(self.last_words()) from error
        return verb, rest

    def last_words(self) -> str:
        """The last line that the process, or the game in it, has written."""
        lines = [line.strip(" .") for line in self.log().decode(errors="replace").split("\n")]
        return next((line for line in reversed(lines) if line), "it said nothing")

    def log(self) -> bytes:
        """The end of all that the process and the game in it have written."""
        size = os.fstat(self._said.fileno()).st_size
        return os.pread(self._said.fileno(), LOG_END, max(0, size - LOG_END))  # a seek would move where it writes

    def kill(self) -> None:
        """End the process, the game and whatever they started; harmless twice."""
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self._process.wait()
            os.close(self._held)
            shutil.rmtree(self._folder, ignore_errors=True)  # its guard does too, if it lived long enough to have one
        self._line.close()
        self._said.close()
