"""Damage done to the data of a run, each kind with the expectations that it breaks and no others.

Whoever damages a shard here writes its checksum anew, so that the reader has nothing to object.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Damage:
    """What is done to a folder of shards (or to a table of rows), to games of which kind, and what must be named."""

    name: str
    do: Callable[[Any], Any]
    breaks: frozenset[str]
    where: str = ""
    kind: str = "lights"


def shard_of(folder: Path) -> Path:
    return folder / "shard-000001.safetensors"


def rewrite(folder: Path, data: bytes, **counts: int) -> None:
    """The shard's new content, and a manifest that says so."""
    shard_of(folder).write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"][0] |= {"sha256": hashlib.sha256(data).hexdigest(), **counts}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def arrays(change: Callable[[Arrays], None]) -> Callable[[Path], None]:
    """Damage to the arrays of the first shard; the manifest counts what there is then."""

    def do(folder: Path) -> None:
        held = safetensors.numpy.load_file(shard_of(folder))
        change(held)
        counts = {"trajectories": len(held["lengths"]), "steps": int(held["lengths"].sum())}
        rewrite(folder, safetensors.numpy.save({k: np.ascontiguousarray(v) for k, v in held.items()}), **counts)

    return do


def put(name: str, at: Any, value: Any) -> Callable[[Path], None]:
    def change(held: Arrays) -> None:
        held[name][at] = value

    return arrays(change)


def illegal_action(held: Arrays) -> None:
    held["act"][13, 1] = np.flatnonzero(~held["avail"][14, 1])[0]  # step 1 of trajectory 1; rows run one ahead


def shifted_border(held: Arrays) -> None:
    held["lengths"][[2, 3]] += [-1, 1]


def doubled(held: Arrays) -> None:
    rows, steps = int(held["lengths"][0]) + 1, int(held["lengths"][0])
    for name in held:
        count = {"lengths": 1, "start": 1, "won": 1, "act": steps, "rew": steps, "con": steps}.get(name, rows)
        held[name] = np.concatenate([held[name][:count], held[name]])


def without_last_piece(held: Arrays) -> None:
    steps = int(held["lengths"][-1])
    for name in held:
        count = {"lengths": 1, "start": 1, "won": 1, "act": steps, "rew": steps, "con": steps}.get(name, steps + 1)
        held[name] = held[name][:-count]


def wider(held: Arrays) -> None:
    held["obs"] = np.concatenate([held["obs"], held["obs"][..., :1]], axis=-1)


def doubles(held: Arrays) -> None:
    held["rew"] = held["rew"].astype(np.float64)


def brain_floats(folder: Path) -> None:
    header = json.dumps({"obs": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    rewrite(folder, len(header).to_bytes(8, "little") + header + bytes(4))


def no_state(held: Arrays) -> None:
    del held["state"]


def rows_too_many(held: Arrays) -> None:
    held["rew"] = np.append(held["rew"], np.float32(0))


def altered(folder: Path) -> None:
    data = bytearray(shard_of(folder).read_bytes())
    data[-1] ^= 1  # the last of "won"
    shard_of(folder).write_bytes(data)


def truncated(folder: Path) -> None:
    shard_of(folder).write_bytes(shard_of(folder).read_bytes()[:-7])


def miscounted(folder: Path) -> None:
    rewrite(folder, shard_of(folder).read_bytes(), trajectories=3)


def manifest_cut(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-20])


def renamed(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("toy/lights", "toy/other"))


EMPTY = {"no_trajectory_is_lost_or_added", "no_step_is_lost_or_added"}
OTHER_SUM = {"summary_is_of_these_rows", "area_is_of_these_rows"}
LONG = {"length_is_within_limits", "episode_is_within_its_limit"}
FIRST = "shard shard-000001.safetensors"


def _damage(name: str, do: Callable[[Path], None], breaks: Any, where: Any = 0, kind: str = "lights") -> Damage:
    names = frozenset({breaks} if isinstance(breaks, str) else breaks)
    place = f"{FIRST}, trajectory {where}" if isinstance(where, int) else where
    return Damage(name, do, names, place, kind)


SHARDS = [
    _damage("NaN observation", put("obs", (30, 1, 2), np.nan), "observations_are_finite", 2),
    _damage("NaN state", put("state", (0, 1), np.nan), "state_is_finite"),
    _damage("infinite reward", put("rew", 5, np.inf), "rewards_are_finite"),
    _damage("NaN reward", put("rew", 5, np.nan), "rewards_are_finite"),
    _damage("huge observation", put("obs", (0, 0, 0), 1e9), "observations_are_in_range"),
    _damage("huge reward", put("rew", 12, -1e9), "rewards_are_in_range", 1),
    _damage("shifted border", arrays(shifted_border), {*LONG, "nothing_follows_an_end", "actions_were_available"}, 3),
    _damage("end in the middle", put("con", 3, 0), "nothing_follows_an_end"),
    _damage("half an end", put("con", 3, 0.5), "con_is_zero_or_one"),
    _damage("illegal action", arrays(illegal_action), "actions_were_available", 1),
    _damage("unknown action", put("act", (0, 0), 99), "actions_are_in_range"),
    _damage("negative action", put("act", (0, 0), -1), "actions_are_in_range"),
    _damage("nothing to do", put("avail", (12, 0), False), "something_is_always_available"),
    _damage("not a start", put("start", 4, False), {"pieces_continue_what_did_not_end", "sweeps_are_whole"}, 4),
    _damage("wrong width", arrays(wider), {"widths_are_the_environments", *EMPTY}, FIRST),
    _damage("wrong type", arrays(doubles), {"widths_are_the_environments", *EMPTY}, FIRST),
    _damage("array missing", arrays(no_state), {"widths_are_the_environments", *EMPTY}, FIRST),
    _damage("rows too many", arrays(rows_too_many), {"arrays_end_with_trajectories", *EMPTY}, FIRST),
    _damage("missing shard", lambda f: shard_of(f).unlink(), {"shard_is_there", *EMPTY}, FIRST),
    _damage("truncated shard", truncated, {"shard_is_unaltered", "shard_is_readable", *EMPTY}, FIRST),
    _damage("altered checksum", altered, "shard_is_unaltered", FIRST),
    _damage("type that numpy has not", brain_floats, {"shard_is_readable", *EMPTY}, FIRST),
    _damage("no shard at all", lambda f: rewrite(f, b"nonsense"), {"shard_is_readable", *EMPTY}, FIRST),
    _damage("miscounted", miscounted, "manifest_counts_the_shard", FIRST),
    _damage("manifest cut short", manifest_cut, {"manifest_is_readable", *EMPTY}, "folder collect"),
    _damage("another environment", renamed, "spec_is_the_environments", "name is toy/other, expected toy/lights"),
    _damage("doubled episode", arrays(doubled), {*EMPTY, "sweeps_are_whole"}, "folder collect"),
    _damage("action out of range", put("act", (0, 2, 1), 1.5), "actions_are_in_range", kind="dials"),
    _damage("NaN action", put("act", (40, 0, 0), np.nan), "actions_are_in_range", 3, kind="dials"),
    _damage("padding", put("obs", (14, 0, 4), 0.5), "padding_is_zero", 1, kind="dials"),
    _damage("shifted border of games that time ends", arrays(shifted_border), LONG, 3, kind="dials"),
    _damage("won without an end", put("won", 1, True), "won_only_at_an_end", 1, kind="pieces"),
    _damage("shifted border of a piece", put("obs", (48, 0, 0), 0.25), "pieces_continue_what_did_not_end", 8,
            kind="pieces"),
    _damage("lost piece", arrays(without_last_piece), EMPTY, "folder collect", kind="pieces"),
]  # fmt: skip


def where(rows: Any, mode: str, p_loss: float) -> Any:
    """The index of the rows of one cell, observations' availability lost."""
    return rows.index[(rows["mode"] == mode) & (rows.p_loss == p_loss) & (rows.availability == "lost")]


def cell(column: str, value: Any, p_loss: float = 0.4) -> Callable[[Any], Any]:
    """Write into the second episode of completion at p_loss."""

    def do(rows: Any) -> Any:
        if column != "measure":
            rows[column] = rows[column].astype(float)
        rows.loc[where(rows, "completion", p_loss)[1], column] = value
        return rows

    return do


def lost_row(rows: Any) -> Any:
    return rows.drop(where(rows, "zeros", 0.6)[3])


def lost_cell(rows: Any) -> Any:
    return rows.drop(where(rows, "last_seen", 1.0))


def doubled_episode(rows: Any) -> Any:
    index = where(rows, "zeros", 0.6)
    rows.loc[index[1], "episode"] = rows.loc[index[0], "episode"]
    return rows


def another_seed(rows: Any) -> Any:
    return rows.assign(seed=7)


def off_the_grid(rows: Any) -> Any:
    extra = rows.loc[where(rows, "zeros", 0.6)].assign(p_loss=0.5)
    return type(rows)({name: [*rows[name], *extra[name]] for name in rows})


COMPLETION = "seed 0, mode completion, availability lost, p_loss 0.4"
ZEROS = "seed 0, mode zeros, availability lost, p_loss 0.6"


def _rows(name: str, do: Callable[[Any], Any], breaks: Any, where: str) -> Damage:
    return Damage(name, do, frozenset({breaks} if isinstance(breaks, str) else breaks), where)


ROWS = [
    _rows("lost row", lost_row, {"episode_counts_are_as_set", *OTHER_SUM}, ZEROS),
    _rows("lost cell", lost_cell, {"grid_is_complete", "episode_counts_are_as_set"}, "mode last_seen"),
    _rows("doubled episode", doubled_episode, "no_episode_is_doubled", f"{ZEROS}, episode 0"),
    _rows("episode beyond", cell("episode", 8), "episode_numbers_are_in_range", COMPLETION),
    _rows("off the grid", off_the_grid, "nothing_is_beyond_the_grid", "mode zeros, availability lost, p_loss 0.5"),
    _rows("win outside 0 to 1", cell("won", 9),
          {"won_is_zero_or_one", "win_rate_is_a_rate", *OTHER_SUM}, f"{COMPLETION}, episode 1"),
    _rows("another result", cell("won", 0), OTHER_SUM, COMPLETION),
    _rows("NaN return", cell("return", np.nan), "values_are_there_and_finite", COMPLETION),
    _rows("no mode", cell("measure", None), "values_are_there_and_finite", COMPLETION),
    _rows("row of no cell", cell("p_loss", np.nan),
          {"values_are_there_and_finite", "episode_counts_are_as_set", "nothing_is_beyond_the_grid",
           *OTHER_SUM}, "p_loss nan"),
    _rows("too long", cell("length", 13), "length_is_within_the_limit", COMPLETION),
    _rows("no step", cell("length", 0), "length_is_within_the_limit", COMPLETION),
    _rows("negative messages", cell("messages", -1), "messages_are_counts", COMPLETION),
    _rows("negative bytes", cell("bytes", -1), "bytes_are_counts", COMPLETION),
    _rows("messages for nothing", cell("messages", 2, 0.0), "nothing_lost_costs_nothing", "p_loss 0"),
    _rows("another seed", another_seed,
          {"grid_is_complete", "episode_counts_are_as_set", "nothing_is_beyond_the_grid"}, "seed 7"),
    *(_rows(f"another {name}", lambda rows, name=name: rows.assign(**{name: "other"}), f"{name}_is_as_set", "other")
      for name in ("agent", "env", "pattern", "measure")),
    _rows("missing column", lambda rows: rows.drop(columns="bytes"), "columns_are_there", "bytes"),
    _rows("no rows", lambda rows: rows[:0], "file_is_readable", "no rows"),
]  # fmt: skip
