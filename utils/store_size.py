"""A SQLite store as a file: its size, a copy of it to try things on, what it holds as bytes, and making it smaller."""

import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from utils.errors import InputError
from utils.mlflow_setup import sqlite_path

BESIDE = ("", "-wal", "-journal", "-shm")  # SQLite keeps what is not yet in the file in files of these endings
COPY_ROOM = 2  # times its size must be free on the disk
LOCK_SECONDS = 5


def store_file(uri: str) -> Path | None:
    """The file of a `sqlite:///` store; None for a store that is no file of this machine."""
    return sqlite_path(uri) if uri.startswith("sqlite:") else None


def store_bytes(path: Path) -> int:
    """Bytes of the file and of those beside it."""
    return sum(part.stat().st_size for part in _parts(path))


def copy_store(source: Path, target: Path) -> Path:
    """A consistent copy, also while others write to the store.

    Raises:
        InputError: the disk has no room for it.
    """
    free = shutil.disk_usage(target.parent).free
    if free < COPY_ROOM * store_bytes(source):
        needed = COPY_ROOM * store_bytes(source) / 1e6
        raise InputError(
            f"a copy of {source.name} needs {needed:,.0f} MB in {target.parent}, and {free / 1e6:,.0f} MB are free",
            "set TMPDIR to a folder on a larger disk",
        )
    with closing(sqlite3.connect(source, timeout=LOCK_SECONDS)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
    return target


def vacuum(path: Path) -> None:
    """Write the store anew without the space of deleted rows; nobody else may use it meanwhile.

    Raises:
        InputError: another program has it open for writing.
    """
    try:
        with closing(sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
            connection.execute("VACUUM")
    except sqlite3.OperationalError as error:
        raise InputError(
            f"the store {path.name} cannot be made smaller now ({error})",
            "stop mlflow ui and every other program that writes to it, then run the command again",
        ) from error


def find_in_store(uri: str, texts: Iterable[str], trace_ids: Sequence[str]) -> list[str]:
    """Those of the texts that a store holds.

    A SQLite store is read as bytes, its file and those beside it: no table and no column is left out. Of any other
    store the traces are read back.
    """
    if path := store_file(uri):
        content = b"\n".join(part.read_bytes() for part in _parts(path))
    else:
        import mlflow

        content = "\n".join(mlflow.get_trace(trace_id).to_json() for trace_id in trace_ids).encode()
    return [text for text in texts if text.encode() in content]


def _parts(path: Path) -> list[Path]:
    return [part for ending in BESIDE if (part := path.with_name(path.name + ending)).exists()]
