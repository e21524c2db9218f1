"""What the stages share: how one begins, is stopped, fails, and goes on later."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipelines import environment, paths, tracking
from pipelines.lifeline import alone, end_with_starters
from rmiov2.config import load
from rmiov2.files import writing
from rmiov2.program import exit_code
from rmiov2.types import UserError

# Threads that spin while they wait take the core from the one that works: a small product then costs a hundredfold.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0", "OMP_NUM_THREADS": "1"}

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
    for variable, value in PASSIVE.items():
        os.environ.setdefault(variable, value)
    environment.prepare()

    def play() -> None:
        started = time.perf_counter()
        end_with_starters()
        with alone(label), tracking.StageRun(label):
            where = work(load(paths.PARAMS), *told)
        print(f"{label}: {time.perf_counter() - started:.0f} s, result in {where.relative_to(paths.ROOT)}", flush=True)

    return exit_code(label, play, "`make run` goes on from what is saved in state/resume")


@contextmanager
def resumable(name: str, cell: str = "") -> Iterator[Path]:
    """A folder for the state of a stage, or one cell of it, that may be stopped; the same settings and inputs find it.

    It is deleted when the work is done, at one blow, and kept when the work raises.
    """
    label = f"{name}@{cell}" if cell else name
    folder = paths.STATE / "resume" / label / fingerprint(name)
    spent = folder.with_suffix(".spent")
    shutil.rmtree(spent, ignore_errors=True)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        print(f"{label}: goes on from {folder.relative_to(paths.ROOT)}", flush=True)
    yield folder
    folder.rename(spent)
    shutil.rmtree(spent)


def fingerprint(name: str) -> str:
    """The settings and the data, as dvc.yaml lists them, that the stage computes from."""
    declared = yaml.safe_load(paths.DVC_YAML.read_text())["stages"][name]
    values = yaml.safe_load(paths.PARAMS.read_text())
    settings = {key: _value(values, key) for key in declared["params"]}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for dependency in declared["deps"]:
        if dependency.startswith(DATA):
            _add_files(digest, paths.ROOT / dependency)
    return digest.hexdigest()[:16]


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _add_files(digest: Any, folder: Path) -> None:
    if not folder.exists():
        raise UserError(f"{folder.relative_to(paths.ROOT)} is missing; `dvc repro` makes it")
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
