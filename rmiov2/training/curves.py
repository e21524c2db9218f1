"""The curves of a run: rows of named numbers, kept in the checkpoint and written as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rmiov2.envs.base import Env, facts_of
from rmiov2.files import replace_file

Row = Mapping[str, float | int]


def lost_in(env: Env, lost: int) -> dict[str, int]:
    """The column of episodes that got lost; none where none can."""
    return {"episodes_lost": lost} if env.breakable else {}


def facts_in(env: Env, *curves: Sequence[Row]) -> dict[str, Any]:
    """facts_of the games of a whole run, stops included: its curves have counted what got lost."""
    return facts_of(env, sum(int(row.get("episodes_lost", 0)) for curve in curves for row in curve))


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """All rows under the union of their names, in order of appearance; a name that a row lacks stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
    with replace_file(path) as handle:
        handle.write(text.getvalue().encode())
