"""Facts of a folder of shards, read so that damage is counted and not raised: what a gate looks at.

rmiov2.replay.shards.read refuses most damage before it could be named, and whoever rewrites a shard with its checksum
gets some past it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from pipelines.gates.episode_chains import Piece, chain_facts, chains_of, episodes_begun
from pipelines.gates.suites import Table, agent_rules, folder_rules, shard_rules, trajectory_rules
from rmiov2.envs.base import BOX_TOLERANCE
from rmiov2.replay import shards
from rmiov2.replay.buffer import layout
from rmiov2.types import EnvSpec, UserError

Arrays = dict[str, npt.NDArray[Any]]
Facts = dict[str, Any]

FLAGS = {"lengths": np.dtype(np.int64), "start": np.dtype(np.bool_), "won": np.dtype(np.bool_)}
UNLIMITED = 10**9  # steps of an episode where the environment names no limit


@dataclasses.dataclass(frozen=True)
class Expected:
    """What is known of a folder before it is opened: the spec, and the least and the most of its numbers.

    segment: steps of a piece at most · num_envs: games of a sweep · forgetful: the oldest pieces were forgotten.
    """

    spec: EnvSpec
    segment: int
    num_envs: int
    trajectories: tuple[int, int]
    steps: tuple[int, int]
    forgetful: bool = False

    @property
    def limit(self) -> int:
        """Steps of an episode at most."""
        return self.spec.episode_limit or UNLIMITED


def shard_tables(folder: Path, expected: Expected) -> list[Table]:
    """The tables folder, shards, trajectories and agents; no damage to a file makes this raise."""
    import pandas as pd

    whole, listed = _folder_facts(folder, expected.spec)
    rows, pieces = [], []
    for shard in listed:
        facts, arrays = _shard_facts(folder / shard.file, shard, expected.spec)
        rows.append(facts)
        pieces += list(_pieces(shard.file, arrays, expected.spec))
    chains = chains_of(pieces)
    whole |= {"trajectories": len(pieces), "steps": sum(map(len, pieces))}
    whole |= {"episodes_missing": -episodes_begun(pieces, chains, expected.forgetful) % expected.num_envs}
    together = chain_facts(pieces, chains, expected.limit, expected.forgetful)
    played = [piece_facts(piece, expected.spec) | facts for piece, facts in zip(pieces, together, strict=True)]
    rules = trajectory_rules(expected.spec, min(expected.segment, expected.limit), expected.limit)
    return [
        Table("folder", pd.DataFrame([whole]), ("folder",), folder_rules(expected.trajectories, expected.steps)),
        Table("shards", _frame(rows, ("shard",), shard_rules()), ("shard",), shard_rules()),
        Table("trajectories", _frame(played, ("shard", "trajectory"), rules), ("shard", "trajectory"), rules),
        Table("agents", pd.DataFrame(agent_facts(pieces, expected.spec)), ("agent",), agent_rules()),
    ]


def _frame(rows: list[Facts], where: tuple[str, ...], rules: Any) -> Any:
    """The columns are there even where there is no row."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(dict.fromkeys([*where, *(rule.column for rule in rules)])))


def _folder_facts(folder: Path, spec: EnvSpec) -> tuple[Facts, list[shards.Shard]]:
    """What is wrong with the manifest, in words, and the shards that it names."""
    facts = {"folder": folder.name, "manifest_mistakes": "", "spec_differences": ""}
    try:
        found = shards.spec_of(folder)
        lines = json.loads((folder / shards.MANIFEST).read_bytes())["shards"]
    except UserError as error:
        return facts | {"manifest_mistakes": str(error).replace(str(folder), folder.name)}, []
    pairs = zip(dataclasses.asdict(found).items(), dataclasses.asdict(spec).values(), strict=True)
    differences = [f"{name} is {got}, expected {wanted}" for (name, got), wanted in pairs if got != wanted]
    return facts | {"spec_differences": "; ".join(differences)}, [shards.Shard(**line) for line in lines]


def _shard_facts(path: Path, shard: shards.Shard, spec: EnvSpec) -> tuple[Facts, Arrays]:
    """What is wrong with a shard, and its arrays if they can be cut into trajectories, else none."""
    facts: Facts = {"shard": shard.file, "missing": 0, "altered": 0, "unreadable": ""}
    facts |= {"wrong_arrays": "", "rows_off": 0, "counts_differ": ""}
    if not path.is_file():
        return facts | {"missing": 1}, {}
    data = path.read_bytes()
    facts["altered"] = int(hashlib.sha256(data).hexdigest() != shard.sha256)
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError) as error:  # KeyError: a type that numpy has not
        return facts | {"unreadable": repr(error)}, {}
    facts["wrong_arrays"] = "; ".join(_wrong_arrays(arrays, spec))
    if facts["wrong_arrays"]:
        return facts, {}
    lengths = arrays["lengths"]
    counted, listed = (len(lengths), int(lengths.sum())), (shard.trajectories, shard.steps)
    facts["counts_differ"] = "" if counted == listed else f"{counted} there, {listed} in the manifest"
    facts["rows_off"] = _rows_off(arrays, spec)
    return facts, {} if facts["rows_off"] else arrays


def _wrong_arrays(arrays: Arrays, spec: EnvSpec) -> Iterator[str]:
    wanted = {name: (shape, dtype) for name, (_, shape, dtype) in layout(spec).items()}
    wanted |= {name: ((), dtype) for name, dtype in FLAGS.items()}
    for name in sorted(set(arrays) | set(wanted)):
        if name not in arrays or name not in wanted:
            yield f"{name} is {'missing' if name in wanted else 'not expected'}"
        elif (got := (arrays[name].shape[1:], arrays[name].dtype)) != wanted[name] or arrays[name].ndim == 0:
            yield f"rows of {name} are {got[1]} {got[0]}, expected {wanted[name][1]} {wanted[name][0]}"


def _rows_off(arrays: Arrays, spec: EnvSpec) -> int:
    """By how many rows the arrays are longer or shorter than the lengths say; a length below 1 counts as one."""
    lengths = arrays["lengths"]
    counts = {"start": len(lengths), "won": len(lengths)}
    counts |= {name: int((lengths + extra).sum()) for name, (extra, _, _) in layout(spec).items()}
    return int((lengths < 1).sum()) + sum(abs(len(arrays[name]) - count) for name, count in counts.items())


def _pieces(file: str, arrays: Arrays, spec: EnvSpec) -> Iterator[Piece]:
    """The trajectories of arrays whose rows are as many as the lengths say; none of no arrays."""
    if not arrays:
        return
    borders = {extra: np.cumsum([0, *(arrays["lengths"] + extra)]) for extra in (0, 1)}
    for index, (start, won) in enumerate(zip(arrays["start"].tolist(), arrays["won"].tolist(), strict=True)):
        parts = {
            name: arrays[name][borders[extra][index] : borders[extra][index + 1]]
            for name, (extra, _, _) in layout(spec).items()
        }
        yield Piece(file, index, parts, start, won)


def piece_facts(piece: Piece, spec: EnvSpec) -> Facts:
    """What one trajectory says of itself."""
    obs, rew, con = piece.arrays["obs"], piece.arrays["rew"], piece.arrays["con"]
    act = _discrete_facts if spec.discrete else _continuous_facts
    return {
        "shard": piece.shard,
        "trajectory": piece.index,
        "length": len(piece),
        "obs_not_finite": _not_finite(obs),
        "state_not_finite": _not_finite(piece.arrays["state"]),
        "rew_not_finite": _not_finite(rew),
        "obs_largest": _largest(obs),
        "rew_largest": _largest(rew),
        "padding_not_zero": np.count_nonzero(obs[:, ~spec.obs_mask]),
        "con_not_binary": len(con) - int(np.isin(con, (0, 1)).sum()),
        "con_zero_inside": int((con[:-1] == 0).sum()),
        **act(piece.arrays, spec),
    }


def agent_facts(pieces: Sequence[Piece], spec: EnvSpec) -> list[Facts]:
    """What each agent saw in all of the pieces; stuck: the same in every step, as from a sensor that is broken."""
    seen = [piece.arrays["obs"] for piece in pieces]
    stuck = np.all([(obs == seen[0][0]).all(axis=(0, 2)) for obs in seen], axis=0) & bool(seen)
    return [{"agent": agent, "stuck": int(one)} for agent, one in enumerate(np.broadcast_to(stuck, spec.num_agents))]


def _discrete_facts(arrays: Arrays, spec: EnvSpec) -> Facts:
    act, avail = arrays["act"], arrays["avail"]
    outside = (act < 0) | (act >= np.asarray(spec.act_widths))
    inside = np.where(outside, 0, act)[..., None]
    allowed = np.take_along_axis(avail[:-1], inside, axis=-1)[..., 0]
    return {
        "act_out_of_range": int(outside.sum()),
        "act_unavailable": int((~outside & ~allowed).sum()),
        "nothing_available": int((~avail.any(-1)).sum()),
        "avail_beyond_width": int(avail[:, ~spec.act_mask].sum()),
    }


def _continuous_facts(arrays: Arrays, spec: EnvSpec) -> Facts:
    return {"act_out_of_range": int((~(np.abs(arrays["act"]) <= 1 + BOX_TOLERANCE)).sum())}


def _not_finite(values: npt.NDArray[Any]) -> int:
    return int((~np.isfinite(values)).sum())


def _largest(values: npt.NDArray[Any]) -> float:
    """The largest absolute value of those that are finite."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
