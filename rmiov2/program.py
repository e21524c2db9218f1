"""How programs are told a number, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from rmiov2.types import UserError


def exit_code(name: str, work: Callable[[], int | None], stopped: str) -> int:
    """What the process exits with: what work() returns or 0, 2 with one sentence for a UserError, 130 after Ctrl-C.

    Those two are said on standard error, behind the program's name; stopped is what became of the work after Ctrl-C.
    """
    try:
        return work() or 0
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; {stopped}", file=sys.stderr)
        return 130


def positive(text: str) -> int:
    """The `type` of an option that counts; raises argparse.ArgumentTypeError for what does not."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number of 1 or more")
    return int(text)
