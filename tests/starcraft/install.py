"""Puts the stand-in into a folder that looks like StarCraft II's, for SC2PATH; and knows the processes it started."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import sys
from pathlib import Path

import psutil

from .units import TEAMS

BUILD = 75689  # 4.10
LAUNCHES = "launches.jsonl"
PROGRAM = """#!/bin/sh
# A test double of StarCraft II's protocol, not the game.
export PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=python
export PYTHONPATH="{tests}" STAND_IN_PATH="{path}"
exec "{python}" -m starcraft -build {build} -parent "$PPID" "$@"
"""


def install(folder: Path, maps: bool = True, build: int = BUILD) -> Path:
    """Write the program and SMAC's maps (empty files) below `folder` and return it, to be named by SC2PATH.

    maps=False leaves the maps out; `build` is the game's build to look like. ModuleNotFoundError where the interpreter
    that calls lacks s2clientprotocol or websockets, which the program needs.
    """
    path = [_site(name) for name in ("websockets", "s2clientprotocol", "psutil")]
    program = folder / f"Versions/Base{build}/SC2_x64"
    program.parent.mkdir(parents=True)
    program.write_text(
        PROGRAM.format(
            tests=Path(__file__).parents[1], path=":".join(map(str, path)), python=sys.executable, build=build
        )
    )
    program.chmod(0o755)
    if maps:
        (folder / "Maps/SMAC_Maps").mkdir(parents=True)
        for name in TEAMS:
            (folder / f"Maps/SMAC_Maps/{name}.SC2Map").touch()
    return folder


def _site(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"the stand-in for StarCraft II needs {package}", name=package)
    return Path(spec.origin).parents[1]


def record(folder: Path, port: int) -> int:
    """Write down that this process starts here; its ordinal among all that did, from 1."""
    with (folder / LAUNCHES).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        launch = len(file.readlines()) + 1
        file.write(json.dumps({"launch": launch, "pid": os.getpid(), "port": port}) + "\n")
    return launch


def launched(folder: Path) -> list[int]:
    """Process ids of all games started from an installation, in order."""
    file = folder / LAUNCHES
    return [json.loads(line)["pid"] for line in file.read_text().splitlines()] if file.exists() else []


def running(folder: Path) -> list[int]:
    """Those that have not ended; one that ended and was not waited for has ended."""
    return [pid for pid in launched(folder) if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
