"""Trajectories on disk: append-only shards in a folder, and a manifest that says which of them count.

A shard is on disk before the manifest names it, and is dropped from the manifest before it is deleted. So whatever is
killed when, the folder can be read; a shard that the manifest does not name is a leftover, ignored and overwritten.
The oldest can be forgotten: shards keep their numbers, and the manifest counts the trajectories that are gone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from rmiov2.files import parse_spec, read_bytes, replace_file, sync_folder, write_json
from rmiov2.replay.buffer import layout, refuse_malformed
from rmiov2.types import EnvSpec, Trajectory, UserError

FORMAT = 2
MANIFEST = "manifest.json"
STEPS_PER_SHARD = 200_000

Arrays = dict[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A line of the manifest."""

    file: str
    sha256: str
    trajectories: int
    steps: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The environment, how many trajectories were there before the first shard, and the shards."""

    spec: EnvSpec
    forgotten: int
    shards: tuple[Shard, ...] = ()

    def ends(self) -> list[int]:
        """Trajectories ever appended, before the first shard and up to the end of each."""
        return np.cumsum([self.forgotten, *(shard.trajectories for shard in self.shards)]).tolist()  # type: ignore[no-any-return]


def append(folder: Path, trajectories: Sequence[Trajectory], spec: EnvSpec) -> None:
    """Add one shard; none if there are no trajectories.

    Raises UserError if a trajectory is malformed, the folder holds another environment, or it cannot be written.
    """
    if not trajectories:
        return
    for trajectory in trajectories:
        refuse_malformed(trajectory, spec)
    manifest = _read_manifest(folder, spec) if (folder / MANIFEST).exists() else Manifest(spec, 0)
    data = safetensors.numpy.save(_join(trajectories, spec))
    shard = Shard(
        file=_file_name(_number(manifest.shards[-1]) + 1 if manifest.shards else 1),
        sha256=hashlib.sha256(data).hexdigest(),
        trajectories=len(trajectories),
        steps=sum(map(len, trajectories)),
    )
    with replace_file(folder / shard.file) as handle:
        handle.write(data)
    _write_manifest(folder, dataclasses.replace(manifest, shards=(*manifest.shards, shard)))


def read(folder: Path, spec: EnvSpec | None = None) -> list[Trajectory]:
    """All trajectories in the order they were appended; none if all of them were cut off.

    Raises UserError if nothing was ever written here, if they are of another environment than spec, or if a file is
    missing, truncated, altered, or of another format.
    """
    return list(_iterate(folder, spec))


def spec_of(folder: Path) -> EnvSpec:
    """The environment the trajectories come from; raises UserError if nothing was ever written here."""
    return _read_manifest(folder, None).spec


def cut(folder: Path, trajectories: int) -> None:
    """Keep the first `trajectories` only, the forgotten ones counted; raises UserError if no shard ends there."""
    if trajectories == 0 and not (folder / MANIFEST).exists():
        return
    manifest = _read_manifest(folder, None)
    ends, shards = manifest.ends(), manifest.shards
    if trajectories not in ends[1 if manifest.forgotten else 0 :]:
        raise UserError(
            f"{folder} cannot be cut after {trajectories} trajectories: its shards end after {ends};"
            " the checkpoint is of another run, so start this one anew"
        )
    keep = ends.index(trajectories)
    if keep == len(shards):
        return
    _write_manifest(folder, dataclasses.replace(manifest, shards=shards[:keep]))
    for shard in shards[keep:]:
        (folder / shard.file).unlink(missing_ok=True)


def forget(folder: Path, steps: int) -> None:
    """Drop the oldest shards, as many as leave at least `steps` steps in the others; the last one stays."""
    manifest = _read_manifest(folder, None)
    newer = np.cumsum([shard.steps for shard in manifest.shards[::-1]])[::-1]  # from each shard to the end
    gone = int((newer[1:] >= steps).sum())
    if gone:
        kept = dataclasses.replace(manifest, forgotten=manifest.ends()[gone], shards=manifest.shards[gone:])
        _write_manifest(folder, kept)
        for shard in manifest.shards[:gone]:
            (folder / shard.file).unlink(missing_ok=True)


def replace(
    folder: Path, trajectories: Iterable[Trajectory], spec: EnvSpec, steps_per_shard: int = STEPS_PER_SHARD
) -> None:
    """Make `folder` hold these trajectories alone, in few large shards: equal trajectories give equal bytes.

    The folder is replaced as a whole at the end; if killed just then it may be missing, never mixed. Raises UserError
    if there are no trajectories, one is malformed, or the folder cannot be written.
    """
    fresh, old = (folder.with_name(f".{folder.name}.{kind}") for kind in ("partial", "old"))
    for leftover in (fresh, old):
        shutil.rmtree(leftover, ignore_errors=True)
    for group in _groups(trajectories, steps_per_shard):
        append(fresh, group, spec)
    if not fresh.exists():
        raise UserError(f"got no trajectories to replace {folder} with, expected at least one; collect first")
    try:
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise UserError(f"{folder} cannot be replaced: {error.strerror}; choose another folder") from error
    shutil.rmtree(old, ignore_errors=True)


def _groups(trajectories: Iterable[Trajectory], steps_per_shard: int) -> Iterator[list[Trajectory]]:
    """As many at a time as fit into steps_per_shard; one that is longer goes alone."""
    group: list[Trajectory] = []
    steps = 0
    for trajectory in trajectories:
        if group and steps + len(trajectory) > steps_per_shard:
            yield group
            group, steps = [], 0
        group.append(trajectory)
        steps += len(trajectory)
    yield group


def _iterate(folder: Path, spec: EnvSpec | None) -> Iterator[Trajectory]:
    manifest = _read_manifest(folder, spec)
    for shard in manifest.shards:
        yield from _read_shard(folder / shard.file, shard, manifest.spec)


def _read_shard(path: Path, shard: Shard, spec: EnvSpec) -> list[Trajectory]:
    data = read_bytes(path, f"{path} is missing though {MANIFEST} names it; restore it or collect again")
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise UserError(f"{path} is truncated or was altered: its checksum differs; restore it or collect again")
    try:
        arrays = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is no shard ({error}); restore it or collect again") from error
    return _split(arrays, shard, spec, path)


def _join(trajectories: Sequence[Trajectory], spec: EnvSpec) -> Arrays:
    """One array of each kind, all trajectories behind each other; rmiov2.types has the timeline."""
    joined: Arrays = {name: np.concatenate([getattr(t, name) for t in trajectories]) for name in layout(spec)}
    return joined | {
        "lengths": np.array([len(t) for t in trajectories], np.int64),
        "start": np.array([t.start for t in trajectories], np.bool_),
        "won": np.array([t.won for t in trajectories], np.bool_),
    }


def _split(arrays: Arrays, shard: Shard, spec: EnvSpec, path: Path) -> list[Trajectory]:
    """What _join was given; raises UserError if the borders do not fit the arrays or the manifest."""
    if set(arrays) != {*layout(spec), "lengths", "start", "won"}:
        raise UserError(f"{path} holds the arrays {sorted(arrays)}, not those of {spec.name}; collect again")
    lengths = arrays["lengths"]
    counts = {"start": len(lengths), "won": len(lengths)}
    counts |= {name: int((lengths + extra).sum()) for name, (extra, _, _) in layout(spec).items()}
    whole = all(len(arrays[name]) == count for name, count in counts.items())
    if not whole or (lengths <= 0).any() or (len(lengths), lengths.sum()) != (shard.trajectories, shard.steps):
        raise UserError(f"{path}: its arrays do not end where its {len(lengths)} trajectories end; collect again")
    borders = {extra: np.cumsum([0, *(lengths + extra)]) for extra in (0, 1)}
    trajectories = []
    for index in range(len(lengths)):
        values: dict[str, Any] = {
            name: arrays[name][borders[extra][index] : borders[extra][index + 1]].copy()
            for name, (extra, _, _) in layout(spec).items()
        }
        start, won = bool(arrays["start"][index]), bool(arrays["won"][index])
        trajectory = Trajectory(**({"avail": None} | values), start=start, won=won)
        refuse_malformed(trajectory, spec)
        trajectories.append(trajectory)
    return trajectories


def _file_name(number: int) -> str:
    return f"shard-{number:06d}.safetensors"


def _number(shard: Shard) -> int:
    return int(shard.file.removeprefix("shard-").removesuffix(".safetensors"))


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    write_json(folder / MANIFEST, {"format": FORMAT, **dataclasses.asdict(manifest)})


def _read_manifest(folder: Path, spec: EnvSpec | None) -> Manifest:
    path = folder / MANIFEST
    try:
        said = json.loads(read_bytes(path, f"no trajectories in {folder}; collect first"))
        version = said["format"]
        if version != FORMAT:
            raise UserError(f"{path} has replay format {version}, expected {FORMAT}; collect again")
        shards = tuple(Shard(**line) for line in said["shards"])
        manifest = Manifest(parse_spec(said["spec"], path), int(said["forgotten"]), shards)
        first = _number(shards[0]) if shards else 1
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} was altered and cannot be read ({error!r}); restore it or collect again") from error
    if [shard.file for shard in shards] != [_file_name(first + k) for k in range(len(shards))]:
        raise UserError(f"{path} was altered: its shards are not numbered one by one; restore it or collect again")
    if (first == 1) != (manifest.forgotten == 0):
        raise UserError(
            f"{path} was altered: its first shard is {first}, {manifest.forgotten} trajectories lie before it;"
            " restore it or collect again"
        )
    if spec is not None and spec != manifest.spec:
        raise UserError(f"{folder} holds {_difference(manifest.spec, spec)}; collect again for this environment")
    return manifest


def _difference(found: EnvSpec, expected: EnvSpec) -> str:
    pairs = zip(dataclasses.asdict(found).items(), dataclasses.asdict(expected).values(), strict=True)
    name, got, wanted = next((name, got, wanted) for (name, got), wanted in pairs if got != wanted)
    return f"trajectories of another environment: {name} is {got}, expected {wanted}"
