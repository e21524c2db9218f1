"""How programs are told a number, and how they end."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Callable

from rmiov2.types import UserError

DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # what only the user can mend


def exit_code(name: str, work: Callable[[], int | None], stopped: str) -> int:
    """What the process exits with: what work() returns or 0, 2 with one sentence for a UserError or a disk that may not
    be written or is full, 130 after Ctrl-C.

    Those are said on standard error, behind the program's name; stopped is what became of the work after Ctrl-C.
    """
    try:
        return work() or 0
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in DISK:
            raise
        print(f"{name}: {error.filename or 'the disk'}: {error.strerror}; mend that, then try again", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; {stopped}", file=sys.stderr)
        return 130


def positive(text: str) -> int:
    """The `type` of an option that counts; raises argparse.ArgumentTypeError for what does not."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number of 1 or more")
    return int(text)


def seed(text: str) -> int:
    """The `type` of an option that begins a generator; raises argparse.ArgumentTypeError for what does not."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number of 0 or more")
    return int(text)


def port(text: str) -> int:
    """The `type` of an option that names a port; raises argparse.ArgumentTypeError for what does not."""
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise argparse.ArgumentTypeError(f"got {text}, expected a port from 1 to {2**16 - 1}")
    return int(text)
