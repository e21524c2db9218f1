"""The main job: what a killed run left behind is taken away, then `dvc repro` goes on where it was stopped.

python -m pipelines.run [what `dvc repro` takes]
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from pipelines import paths
from pipelines.dvc_stage import surroundings
from pipelines.heal import heal, living
from pipelines.lifeline import WATCHED
from rmiov2.program import exit_code
from rmiov2.types import UserError


def run(arguments: Sequence[str]) -> NoReturn:
    """Become `dvc repro`; raises UserError if a DVC is at work here already."""
    for sentence in heal(paths.ROOT):
        print(sentence, flush=True)
    if others := living(paths.ROOT):
        raise UserError(f"process {others[0].pid} runs DVC here already; wait for it or end it, then run again")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Ctrl-C stops what was started in the background too
    os.chdir(paths.ROOT)
    watched = {WATCHED: str(os.getpid())}  # which will be DVC's own
    os.execve(sys.executable, [sys.executable, "-m", "dvc", "repro", *arguments], surroundings() | watched)


def main() -> int:
    """The command, see the top of this file."""
    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    return exit_code("run", lambda: run(arguments), "what was mended stays so")


if __name__ == "__main__":
    sys.exit(main())
