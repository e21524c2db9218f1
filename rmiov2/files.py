"""Whole files or none: everything is written beside its place and then moved there; and EnvSpec as JSON."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from rmiov2.types import EnvSpec, UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise UserError, one sentence that names `path`, if the block fails to write it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; free space or choose another place") from error


@contextmanager
def replace_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends well; raises UserError if it cannot be written.

    Killed at any moment, `path` holds its old content or its new one. The half-written file has a fixed name, so the
    next attempt takes it over; whoever else writes `path` meanwhile waits.
    """
    partial = path.with_name(f".{path.name}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _held(partial) as handle:
            try:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
                os.replace(partial, path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
        sync_folder(path.parent)


@contextmanager
def _held(path: Path) -> Iterator[BinaryIO]:
    """The file, empty, for this process alone: not one that another has moved away while this one waited for it."""
    while True:
        with open(path, "wb", opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC, 0o666)) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if _is_still(path, handle):
                handle.truncate()
                yield handle
                return


def _is_still(path: Path, handle: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def refuse_unwritable(path: Path) -> None:
    """Raise UserError where no file can take the place of `path`: before the work, not after it."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise UserError(f"{path} is a folder, expected a file to write; give --out the name of one")
        if path.is_symlink() or path.exists() and not path.is_file():
            raise UserError(f"{path} is a link or a device, which would be replaced; give --out the name of a file")
        trial = path.with_name(f".{path.name}.probing")  # as long as the name that it will be written under
        trial.touch()
        trial.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Any) -> None:
    """Write value as JSON, keys in the order given; raises UserError for a NaN, an infinity, or a full disk."""
    try:
        text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise UserError(f"{path}: {error}; expected finite numbers, so find what produced the other") from error
    write_bytes(path, text.encode(errors="backslashreplace") + b"\n")  # JSON's own escape, where a path is no UTF-8


def write_bytes(path: Path, content: bytes) -> None:
    """Write content whole or not at all; raises UserError if it cannot be written."""
    with replace_file(path) as handle:
        handle.write(content)


def read_bytes(path: Path, missing: str) -> bytes:
    """The content of a file; raises UserError with the sentence `missing` if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(missing) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; expected a readable file") from error


def parse_spec(values: Mapping[str, Any], source: Path) -> EnvSpec:
    """The EnvSpec whose `dataclasses.asdict` went through JSON; raises UserError if a field is missing or unknown."""
    names = {field.name for field in dataclasses.fields(EnvSpec)}
    if set(values) != names:
        raise UserError(f"{source}: an environment of {sorted(values)}, expected {sorted(names)}; make the file again")
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return EnvSpec(**fields)
