"""What the stages share: how one begins, is stopped, fails, and goes on later."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from pipelines import environment, paths
from pipelines.models import tracking
from pipelines.processes.lifeline import alone, end_with_starters
from rmiov2.config import load
from rmiov2.files import writing
from rmiov2.program import exit_code
from rmiov2.types import UserError

# What a stage computed from, beside its settings; a change of code does not throw half a training away.
DATA = ("data/", "models/")


def main(name: str, description: str, work: Callable[..., Path], argument: str = "") -> int:
    """Run one stage on params.yaml; work(config) returns where its result is.

    argument names what a stage of several cells, a matrix in dvc.yaml, is told on its command line: work(config, text).
    0, or 2 and one sentence on standard error for a UserError, or 130 when it was stopped by Ctrl-C or SIGTERM.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m pipelines.stages.{name}", description=f"{description} Settings: params.yaml; order: dvc.yaml."
    )
    if argument:
        parser.add_argument("cell", metavar=argument)
    told = list(vars(parser.parse_args()).values())
    label = "@".join([name, *told])
    environment.prepare()

    def play() -> None:
        started = time.perf_counter()
        end_with_starters()
        with alone(label), tracking.recorded(label):
            config, begun = load(paths.PARAMS), inputs(name)
            where = work(config, *told)
            refuse_changed(label, begun, inputs(name))
        print(f"{label}: {time.perf_counter() - started:.0f} s, result in {where.relative_to(paths.ROOT)}", flush=True)

    return exit_code(label, play, "`make run` goes on from what is saved in state/resume")


@contextmanager
def resumable(name: str, cell: str = "") -> Iterator[Path]:
    """A folder for the state of a stage, or one cell of it, that may be stopped; the same settings and inputs find it.

    It is deleted when the work is done, at one blow, and kept when the work raises.
    """
    label, begun = f"{name}@{cell}" if cell else name, inputs(name)
    folder = paths.STATE / "resume" / label / _short(begun)
    spent = folder.with_suffix(".spent")
    shutil.rmtree(spent, ignore_errors=True)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"{label}: goes on from {folder.relative_to(paths.ROOT)}", flush=True)
    yield folder
    refuse_changed(label, begun, inputs(name))
    folder.rename(spent)
    shutil.rmtree(spent)


def inputs(name: str) -> dict[str, Any]:
    """What the stage computes from, as dvc.yaml lists it: settings and sections by name, data as names and digests."""
    declared = yaml.safe_load(paths.DVC_YAML.read_text())["stages"][name]
    load(paths.PARAMS)  # which says what is wrong with it
    values = yaml.safe_load(paths.PARAMS.read_text())
    settings = {key: value_at(values, key) for key in declared.get("params", ())}
    data = [dependency for dependency in declared["deps"] if dependency.startswith(DATA)]
    return settings | {dependency: _files(paths.ROOT / dependency) for dependency in data}


def fingerprint(name: str) -> str:
    """Of the stage's inputs, short enough for the name of a folder."""
    return _short(inputs(name))


def _short(found: Mapping[str, Any]) -> str:
    """The same from version to version: half-done stages and studies are found again by it."""
    settings = {key: value for key, value in found.items() if not key.startswith(DATA)}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for key, value in found.items():
        if key.startswith(DATA):
            digest.update(value)
    return digest.hexdigest()[:16]


def refuse_changed(label: str, begun: Mapping[str, Any], ended: Mapping[str, Any]) -> None:
    """Raise UserError if the stage's inputs changed while it was at work: DVC would record the new ones as its own."""
    if changed := [name for key in begun for name in _changed(key, begun[key], ended.get(key))]:
        named = ", ".join(changed)
        raise UserError(
            f"{named} changed while {label} was at work, and its result would be recorded as made of what is there now;"
            " run it again"
        )


def _changed(key: str, old: Any, new: Any) -> list[str]:
    """What differs, by name; of a section, those of its settings."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [f"{key}.{part}" for part in {**old, **new} if old.get(part) != new.get(part)]
    return [key] if old != new else []


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """A section of settings, or the value at section.name."""
    return reduce(getitem, key.split("."), values)


def _files(folder: Path) -> bytes:
    """Name and digest of every file in it."""
    if not folder.exists():
        raise UserError(f"{folder.relative_to(paths.ROOT)} is missing; `dvc repro` makes it")
    found = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    digests = {path: _digest(path, told.st_size, told.st_mtime_ns) for path, told in found}
    return b"".join(str(path.relative_to(folder)).encode() + digest for path, digest in digests.items())


@cache
def _digest(path: Path, size: int, written_ns: int) -> bytes:
    """Of a file as it was last written: a stage that asks for its inputs again reads only what has changed."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()
