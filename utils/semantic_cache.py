"""Answers kept in a SQLite file, found again by the vector of their question; several processes may use one file.

No server and no pickle: a vector is float32 bytes, everything else text and numbers. SQLite's write-ahead log lets
readers read while one writes, and writers wait for each other. An entry too old is never returned; where there are too
many, those go that were used longest ago.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from utils.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

FORMAT = 1  # PRAGMA user_version: of another one nothing is read
APPLICATION = 0x5EC4C4E  # PRAGMA application_id: the file is such a cache
WAIT_S = 30.0  # for another process that is writing
DIGITS = 6  # of a similarity: equal texts have 1, also where float32 says 0.99999994
TABLE = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, scope TEXT NOT NULL, question TEXT NOT NULL, answer TEXT NOT NULL, vector BLOB NOT NULL,
    prompt_tokens INTEGER, completion_tokens INTEGER, latency_ms REAL NOT NULL, created REAL NOT NULL,
    used REAL NOT NULL, UNIQUE (scope, question))
"""


@dataclass(frozen=True)
class Entry:
    """A question that a model answered. Tokens: None where the server named none. `created`: seconds since 1970."""

    question: str
    answer: str
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: float
    created: float = 0.0
    id: int = 0


@dataclass(frozen=True)
class Match:
    """The nearest entry, and the cosine of the angle between both vectors, rounded to 6 digits."""

    entry: Entry
    similarity: float


class SemanticCache:
    """The entries of one scope: whatever decides an answer besides its question (model, prompt, documents, embedding).

    Entries of another scope are kept and never returned: an answer of last week's prompt is no answer of today's.

    Args:
        path: the file; made if it is not there.
        max_entries: of this scope.
        max_age_s: seconds after which an entry is too old.
        clock: seconds since 1970.

    Raises:
        InputError: the file is something else, or cannot be written.
    """

    def __init__(
        self, path: Path, scope: str, *, max_entries: int, max_age_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.path, self.scope, self.max_entries, self.max_age_s, self.clock = path, scope, max_entries, max_age_s, clock
        self._lock = RLock()
        self._version: int | None = None  # of the database when the vectors were read; None: read them again
        self._ids: list[int] = []
        self._created: list[float] = []
        self._vectors: np.ndarray | None = None
        self._connection = _open(path)

    def identical(self, question: str) -> Entry | None:
        """The entry of this very text, if there is one that is not too old: found without a vector."""
        with self._lock:
            found = self._connection.execute(
                "SELECT id FROM entries WHERE scope = ? AND question = ? AND created > ?",
                (self.scope, question, self.clock() - self.max_age_s),
            ).fetchone()
            return self._entry(found[0]) if found else None

    def nearest(self, vector: "np.ndarray") -> Match | None:
        """The entry whose question is most alike, if there is one that is not too old. vector: float array (size,)."""
        import numpy as np

        with self._lock:
            self._read_vectors()
            oldest = self.clock() - self.max_age_s
            fresh = [place for place, created in enumerate(self._created) if created > oldest]
            if not fresh or self._vectors is None:
                return None
            similarities = self._vectors[fresh] @ _unit(np.asarray(vector, dtype=np.float32))
            best = int(similarities.argmax())
            entry = self._entry(self._ids[fresh[best]])
            if entry is None:  # another process threw it out between both statements
                self._version = None
                return self.nearest(vector)
            return Match(entry, round(float(similarities[best]), DIGITS))

    def put(self, entry: Entry, vector: "np.ndarray") -> None:
        """Keep an answer, in place of one to the same text; then throw out what is too old or too much."""
        import numpy as np

        now, blob = self.clock(), _unit(np.asarray(vector, dtype=np.float32)).tobytes()
        numbers = (entry.prompt_tokens, entry.completion_tokens, entry.latency_ms, now, now)
        with self._lock, self._writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO entries (scope, question, answer, vector, prompt_tokens, completion_tokens, "
                "latency_ms, created, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (self.scope, entry.question, entry.answer, blob, *numbers),
            )
            connection.execute(
                "DELETE FROM entries WHERE scope = ? AND created <= ?", (self.scope, now - self.max_age_s)
            )
            connection.execute(
                "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE scope = ? "
                "ORDER BY used DESC, id DESC LIMIT -1 OFFSET ?)",
                (self.scope, self.max_entries),
            )
            self._version = None

    def used(self, entry: Entry) -> None:
        """An entry was given out: it is among the last to be thrown out."""
        with self._lock, self._writing() as connection:
            connection.execute("UPDATE entries SET used = ? WHERE id = ?", (self.clock(), entry.id))

    def __len__(self) -> int:
        """Entries of this scope that are not too old."""
        with self._lock:
            oldest = self.clock() - self.max_age_s
            counted = "SELECT COUNT(*) FROM entries WHERE scope = ? AND created > ?"
            return int(self._connection.execute(counted, (self.scope, oldest)).fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> "SemanticCache":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _writing(self) -> "Iterator[sqlite3.Connection]":
        """One transaction; the lock is taken at its beginning, so that no other writer comes between its statements."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _read_vectors(self) -> None:
        """Again only when this process or another has changed the file."""
        import numpy as np

        version = self._connection.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return
        rows = self._connection.execute(
            "SELECT id, created, vector FROM entries WHERE scope = ? ORDER BY id", (self.scope,)
        ).fetchall()
        self._ids, self._created = [row[0] for row in rows], [row[1] for row in rows]
        self._vectors = np.stack([np.frombuffer(row[2], dtype=np.float32) for row in rows]) if rows else None
        self._version = version

    def _entry(self, number: int) -> Entry | None:
        row = self._connection.execute(
            "SELECT question, answer, prompt_tokens, completion_tokens, latency_ms, created, id FROM entries "
            "WHERE id = ?",
            (number,),
        ).fetchone()
        return Entry(*row) if row else None


def scope_of(*decided_by: object) -> str:
    """What decides an answer besides its question, as a name: where one of it changes, so does the name."""
    return hashlib.sha256(repr(decided_by).encode()).hexdigest()[:16]


def _open(path: Path) -> sqlite3.Connection:
    """A connection to a cache, or to a new file."""
    cure = "--cache FILE, a file of its own"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # isolation_level None: transactions are written out above.
        connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"cannot open {path}: {error}", cure) from error
    try:
        connection.execute("BEGIN IMMEDIATE")  # of several that open a new file at once, one makes the table
        tables = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        marks = tuple(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if tables and marks != (APPLICATION, FORMAT):
            raise InputError(f"{path} is no cache of this format", cure)
        if not tables:
            connection.execute(TABLE)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except sqlite3.Error as error:
        connection.close()
        raise InputError(f"{path} cannot be used as a cache: {error}", cure) from error
    except InputError:
        connection.close()
        raise
    return connection


def _unit(vector: "np.ndarray") -> "np.ndarray":
    import numpy as np

    length = float(np.linalg.norm(vector))
    if not length > 0 or not np.isfinite(length):
        raise ValueError("A vector of length 0, or with a value that is no number, resembles nothing.")
    return (vector / np.float32(length)).astype(np.float32)
