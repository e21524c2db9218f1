"""What a killed DVC leaves behind, taken away before it stands in the way of the next run.

DVC rewrites .dvc/tmp/rwlock and dvc.lock in place, so that a kill or a power cut can leave half of one; a half-written
rwlock refuses every later run. Nothing is touched while a DVC of this folder is alive.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import yaml

from rmiov2.files import write_bytes
from rmiov2.types import UserError

MERGING = b"<<<<<<< "  # git writes it before our side of what it could not merge
UNSYNCED = 3600.0  # seconds before a power cut from which a written file may not have reached the disk


def heal(root: Path) -> list[str]:
    """Take away what is left of killed processes, and say each in a sentence; nothing while a DVC of root is alive.

    Raises UserError where dvc.lock waits for a merge to be settled.
    """
    from dvc.lock import LockError, make_lock

    if not (root / ".dvc").is_dir():
        return []
    tmp = root / ".dvc" / "tmp"
    tmp.mkdir(exist_ok=True)
    try:  # a DVC that starts now waits for these two, and is seen alive
        with make_lock(str(tmp / "lock")), make_lock(str(tmp / "rwlock.lock")):
            return [] if living(root) else _heal(root)
    except LockError:
        return []


def _heal(root: Path) -> list[str]:
    lockfile = root / "dvc.lock"
    if lockfile.exists() and MERGING in lockfile.read_bytes():
        raise UserError(
            "dvc.lock holds both sides of a merge; take one, `git checkout --ours dvc.lock`, and repeat what it lacks"
        )
    found = [_heal_rwlock(root / ".dvc" / "tmp" / "rwlock"), _heal_lockfile(lockfile)]
    if not any(folder.is_relative_to(root.resolve()) for _, folder in _dvcs()):  # clones inside it may share its cache
        boot = psutil.boot_time()
        # Copies under way into the cache: DVC gives them their place only when they are whole.
        found += [_remove(path, "was half copied") for path in sorted((root / ".dvc" / "cache").rglob(".*.tmp"))]
        found += [_remove(path, "is not what its name says") for path in damaged(root, boot - UNSYNCED, boot)]
    return [sentence for sentence in found if sentence]


def living(root: Path) -> list[psutil.Process]:
    """The DVC processes that work in root, not those of other clones inside it."""
    return [process for process, folder in _dvcs() if _project(folder) == root.resolve()]


def _dvcs() -> Iterator[tuple[psutil.Process, Path]]:
    """Every DVC process and the folder that it is in."""
    for process in psutil.process_iter():
        try:
            if is_dvc(process):
                yield process, Path(process.cwd())
        except psutil.Error:  # it ended while it was looked at, or belongs to somebody else
            continue


def _project(folder: Path) -> Path | None:
    return next((above for above in [folder, *folder.parents] if (above / ".dvc").is_dir()), None)


def is_dvc(process: psutil.Process) -> bool:
    """Whether a process is the dvc command; raises psutil.Error if it has ended."""
    words = [Path(word).name for word in process.cmdline()[:3]]
    return words[:1] == ["dvc"] or "dvc" in words and words[0].startswith("python")


def _heal_rwlock(path: Path) -> str | None:
    """DVC forgets dead holders by itself, but not half a file, nor one whose number another process has got since."""
    if not path.exists():
        return None
    try:
        held = json.loads(path.read_text())
    except ValueError:
        return _remove(path, "was cut short by a kill")
    return _remove(path, "named processes that are gone") if any(held.values()) else None


def _heal_lockfile(path: Path) -> str | None:
    """Without dvc.lock DVC finds every result in its run cache; the committed one spares it the search."""
    if not path.exists() or _is_lockfile(path):
        return None
    committed = subprocess.run(["git", "show", "HEAD:./dvc.lock"], cwd=path.parent, capture_output=True, check=False)
    if committed.returncode:
        return _remove(path, "was cut short by a kill")
    write_bytes(path, committed.stdout)
    return "dvc.lock was cut short by a kill; the committed one is back"


def _is_lockfile(path: Path) -> bool:
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        COMPILED_LOCKFILE_SCHEMA(yaml.safe_load(path.read_text()))
    except (yaml.YAMLError, UnicodeDecodeError, Invalid):
        return False
    return True


def damaged(root: Path, since: float, until: float) -> Iterator[Path]:
    """The objects of the cache, last written between the two times, whose content is not what their name says."""
    for path in sorted((root / ".dvc" / "cache" / "files" / "md5").glob("??/*")):
        if since <= path.stat().st_mtime < until and path.name[0] != ".":
            with path.open("rb") as handle:
                digest = hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if digest != path.parent.name + path.name.removesuffix(".dir"):
                yield path


def _remove(path: Path, why: str) -> str:
    path.unlink()
    return f"{path.name} {why}; removed"
