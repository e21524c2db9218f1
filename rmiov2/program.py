"""How programs are told what to do, and how they end."""

from __future__ import annotations

import argparse
import errno
import io
import math
import os
import select
import signal
import sys
from collections.abc import Callable

from rmiov2.types import UserError

# What only the user can mend: a disk that may not be written or is full, a path that cannot be what it is taken for.
DISK = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
PATHS = (errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)
UNREAD = 128 + signal.SIGPIPE  # as a shell has it


def exit_code(name: str, work: Callable[[], int | None], stopped: str) -> int:
    """What the process exits with: what work() returns or 0, 2 with one sentence for a UserError or what is of DISK or
    PATHS, 130 after Ctrl-C, UNREAD where nobody reads what it prints any more.

    Those are said on standard error, behind the program's name; stopped is what became of the work after Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may have letters that the terminal has not
    os.environ["MPLBACKEND"] = "agg"  # no program opens a window, and a wrong name would end matplotlib's import
    try:
        status = work() or 0
        sys.stdout.flush()
        return status
    except UserError as error:
        _say(f"{name}: {error}")
        return 2
    except OSError as error:
        if _unread(error):
            return UNREAD
        if error.errno not in DISK + PATHS:
            raise
        _say(f"{name}: {error.filename or 'the disk'}: {error.strerror}; mend that, then try again")
        return 2
    except KeyboardInterrupt:
        _say(f"\n{name}: stopped; {stopped}")
        return 130


def _say(sentence: str) -> None:
    """On standard error, on a line of its own."""
    from rmiov2.progress import end_lines

    end_lines()
    print(sentence, file=sys.stderr)


def _unread(error: OSError) -> bool:
    """Whether it is that nobody reads standard output any more; what is left to be printed is then dropped."""
    if error.errno != errno.EPIPE:
        return False
    output = select.poll()
    output.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in output.poll(0)):
        return False
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return True


def parser_of(program: str, words: str | None) -> argparse.ArgumentParser:
    """A parser whose --help shows what a module says of itself as it stands there."""
    return argparse.ArgumentParser(program, description=words, formatter_class=argparse.RawDescriptionHelpFormatter)


def _whole(least: int, most: float, expected: str) -> Callable[[str], int]:
    """The `type` of an option that takes a whole number; it raises argparse.ArgumentTypeError for what is none."""

    def number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"got {text}, expected {expected}")
        return int(text)

    return number


positive = _whole(1, math.inf, "a whole number of 1 or more")
seed = _whole(0, math.inf, "a whole number of 0 or more")
port = _whole(1, 2**16 - 1, f"a port from 1 to {2**16 - 1}")
