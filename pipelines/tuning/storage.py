"""Where Optuna keeps studies: a journal that survives its writers, or PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy.exc
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from rmiov2.types import UserError


class Journal(JournalFileBackend):
    """Optuna's journal, in which what a killed writer left half written is cut off before the next line."""

    def __init__(self, path: Path) -> None:
        self._path, self._mending = path, JournalFileSymlinkLock(str(path))
        super().__init__(str(path))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._mending.acquire()
        try:
            with self._path.open("rb+") as file:
                if file.seek(0, os.SEEK_END) and not _ends_a_line(file):
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
        finally:
            self._mending.release()
        super().append_logs(logs)


def _ends_a_line(file: BinaryIO) -> bool:
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"


def _is_journal(path: Path) -> bool:
    """An empty one, and one of which only half a line was written yet, are journals, too."""
    if path.is_dir():
        return False
    with path.open("rb") as file:
        line, ended, _ = file.read(4096).partition(b"\n")
    return not line + ended or (line.startswith(b"{") and (b'"op_code"' in line or not ended))


def storage_of(where: str) -> BaseStorage:
    """A journal file, or a database; raises UserError if it is neither, or no database answers."""
    scheme, separator, _ = where.partition("://")
    if not separator:
        path = Path(where).absolute()
        if path.exists() and not _is_journal(path):
            raise UserError(
                f"storage: {path} is no journal of Optuna; name another file, which is made if it is not there"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(Journal(path))
    if scheme.partition("+")[0] != "postgresql":
        raise UserError(
            f"storage: got {scheme}://…, expected a journal file or postgresql://user:password@host/database"
        )
    try:
        return RDBStorage(where, engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        raise UserError("no driver for PostgreSQL; install it with `pip install 'rmiov2[postgres]'`") from error
    except sqlalchemy.exc.OperationalError as error:
        raise UserError(f"storage: the database does not answer: {str(error.orig).splitlines()[0]}") from error
