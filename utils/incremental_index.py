"""A vector index on disk that is brought up to date: a LanceDB table whose rows say which content they were made from.

The table itself is the checkpoint. A partition of documents is committed in one transaction, which takes the old
chunks of these documents out and puts the new ones in; a job that is killed has lost the partitions in flight and
nothing else, and whoever starts it again compares content hashes and does the rest. Workers commit by themselves, one
after the other (a lock file: two merges at once may both insert), and since rows are merged by their id, a partition
that Spark runs twice leaves one copy.

    index = DocumentIndex.open(folder, settings)
    changes = compare(found, index.hashes())          # name → content hash, on either side
    index.replace(contents, vectors)                  # in the workers
    index.remove(changes.removed)

Importing it is cheap. Source: https://docs.lancedb.com/tables/update (merge insert).
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from utils.errors import CheckFailed, InputError
from utils.mlflow_setup import STATE_DIR

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import Table

T = TypeVar("T")

DEFAULT_FOLDER = STATE_DIR / "indexes"
TABLE = "chunks"
SETTINGS, UNFINISHED, LOCK = "settings.json", "unfinished.json", "commits.lock"
NAMES_PER_DELETE = 1_000
COMMIT_PATIENCE = timedelta(minutes=5)  # with other workers that commit
OLD_VERSIONS = timedelta(hours=1)  # are kept so long for readers that opened one


@dataclass(frozen=True)
class IndexSettings:
    """What decides the vectors: an index whose settings differ cannot be brought up to date, only built again."""

    chunk_tokens: int
    overlap_tokens: int
    embed_type: str
    embed_model: str
    dimensions: int

    def __post_init__(self) -> None:
        if self.overlap_tokens >= self.chunk_tokens:
            problem = f"a chunk of {self.chunk_tokens} tokens cannot overlap the next by {self.overlap_tokens}"
            raise InputError(problem, f"--chunk-overlap {self.chunk_tokens // 10}")


@dataclass(frozen=True)
class Content:
    """A document as a worker read it: its chunks, or the reason (`error`) why it has none; and the seconds it took."""

    name: str
    content_hash: str
    texts: list[str]
    error: str | None = None
    load_s: float = 0.0
    chunk_s: float = 0.0


@dataclass(frozen=True)
class Changes:
    """Names of documents. `new` and `changed` have to be embedded."""

    new: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]

    @property
    def to_embed(self) -> list[str]:
        return sorted([*self.new, *self.changed])


def compare(found: Mapping[str, str], stored: Mapping[str, str]) -> Changes:
    """What is to be done so that the index (`stored`) holds what there is (`found`); both name → content hash."""
    return Changes(
        new=sorted(found.keys() - stored.keys()),
        changed=sorted(name for name in found.keys() & stored.keys() if found[name] != stored[name]),
        removed=sorted(stored.keys() - found.keys()),
        unchanged=sorted(name for name in found.keys() & stored.keys() if found[name] == stored[name]),
    )


@dataclass(frozen=True)
class DocumentIndex:
    """One index: its folder. Picklable; every process opens the table for itself."""

    folder: str
    settings: IndexSettings

    @classmethod
    def open(
        cls, folder: Path, settings: IndexSettings, *, resume: bool = False, rebuild: bool = False
    ) -> "DocumentIndex":
        """The index in this folder, made when there is none.

        Args:
            resume: the caller means to go on with an interrupted job.
            rebuild: what is there is thrown away.

        Raises:
            InputError: the folder holds something else, or an index (or an interrupted job) with other settings.
        """
        index = cls(str(folder.absolute()), settings)
        if rebuild and index._path(SETTINGS).exists():
            shutil.rmtree(index.folder)
        if index._path(SETTINGS).exists():
            index._require_same_settings(resume)
            return index
        _make_folder(folder)
        _write_json(index._path(SETTINGS), asdict(settings))
        return index

    @property
    def is_unfinished(self) -> bool:
        """A job began here and did not end."""
        return self._path(UNFINISHED).exists()

    def begin(self) -> None:
        """Mark a job as begun, and make the table before several workers would at once."""
        _write_json(self._path(UNFINISHED), asdict(self.settings))
        self._database.create_table(TABLE, schema=self.schema, exist_ok=True)

    def end(self) -> None:
        """Join the small files of many commits into few, bring the index of words up to date, take the mark away."""
        table = self.table
        table.optimize(cleanup_older_than=OLD_VERSIONS)
        if not table.list_indices() and table.count_rows():
            from lancedb.index import FTS

            table.create_index("text", config=FTS())
        self._path(UNFINISHED).unlink(missing_ok=True)

    @cached_property
    def schema(self) -> "pa.Schema":
        """id, document, content_hash, position: int32, text, vector: float32[dimensions]."""
        import pyarrow as pa

        text, vector = pa.string(), pa.list_(pa.float32(), self.settings.dimensions)
        return pa.schema(
            {"id": text, "document": text, "content_hash": text, "position": pa.int32(), "text": text, "vector": vector}
        )

    @property
    def table(self) -> "Table":
        """The newest version. Opening it reads its manifest, not its rows."""
        return self._database.open_table(TABLE)

    def hashes(self) -> dict[str, str]:
        """Document → hash of the content that its chunks were made from; reads these two columns only."""
        names, hashes = self._stored("document", "content_hash")
        return dict(zip(names, hashes, strict=True))

    def replace(self, contents: Sequence["Content"], vectors: "np.ndarray | None") -> None:
        """Commit all chunks of these documents at once; those they had before are gone. Any process may call it again.

        vectors: of all chunks in their order, float32 array (chunks, dimensions); None when there are none.
        """
        from filelock import FileLock

        rows = self._rows(contents, vectors)
        with FileLock(self._path(LOCK), timeout=COMMIT_PATIENCE.total_seconds()):
            merge = self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            merge = merge.when_not_matched_by_source_delete(_in([content.name for content in contents]))
            merge.execute(rows, timeout=COMMIT_PATIENCE)

    def remove(self, documents: Sequence[str]) -> None:
        """Take out all chunks of these documents."""
        for names in slices(documents, NAMES_PER_DELETE):
            self.table.delete(_in(names))

    def verify(self, expected: Collection[str]) -> int:
        """Read back what the table holds: each of these documents, no other, no chunk twice. Returns its chunks.

        Raises:
            CheckFailed: with the first document that is lost, left over or doubled.
        """
        ids, documents = self._stored("id", "document")
        there = set(documents)
        cure = "run the command again with --rebuild, and report what you did before"
        for what, names in (("lacks", set(expected) - there), ("still holds", there - set(expected))):
            if names:
                raise CheckFailed(f"the index {what} {len(names):,} documents, the first {min(names)}", cure)
        if len(set(ids)) < len(ids):
            raise CheckFailed("the index holds a chunk twice", cure)
        return len(ids)

    def megabytes(self) -> float:
        """On disk, versions that are kept included."""
        return sum(path.stat().st_size for path in Path(self.folder).rglob("*") if path.is_file()) / 1e6

    @property
    def _database(self) -> Any:
        # Said whenever this process starts another one by fork, which then runs another program, such as Spark's Java.
        warnings.filterwarnings("ignore", message="lancedb fork support is experimental")
        import lancedb

        return lancedb.connect(self.folder)

    def _path(self, name: str) -> Path:
        return Path(self.folder) / name

    def _stored(self, *columns: str) -> list[list[str]]:
        """These columns, whole: names and hashes, never vectors."""
        values: list[list[str]] = [[] for _ in columns]
        if TABLE in self._database.list_tables().tables:
            for batch in self.table.search().select(list(columns)).to_batches():
                for column, found in zip(columns, values, strict=True):
                    found.extend(batch[column].to_pylist())
        return values

    def _rows(self, contents: Sequence["Content"], vectors: "np.ndarray | None") -> "pa.Table":
        import pyarrow as pa

        rows = [
            (f"{content.name}#{position}", content.name, content.content_hash, position, text)
            for content in contents
            for position, text in enumerate(content.texts)
        ]
        if vectors is None:
            return self.schema.empty_table()
        columns = [
            pa.array(column, kind.type) for column, kind in zip(zip(*rows, strict=True), self.schema, strict=False)
        ]
        vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), self.settings.dimensions)
        return pa.Table.from_arrays([*columns, vector], schema=self.schema)

    def _require_same_settings(self, resume: bool) -> None:
        path = self._path(UNFINISHED) if self.is_unfinished else self._path(SETTINGS)
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            names = [name for name, value in asdict(self.settings).items() if before[name] != value]
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is damaged", "--rebuild, or another --index-dir") from error
        if names:
            was, now = ", ".join(f"{name} {before[name]}" for name in names), asdict(self.settings)
            said = "the interrupted job in" if self.is_unfinished else "the index in"
            problem = f"{said} {self.folder} has {was}, not {', '.join(str(now[name]) for name in names)}"
            raise InputError(
                problem, f"the same flags as before{'' if resume else ', another --index-dir'}, or --rebuild"
            )


def default_folder(documents: Path, settings: IndexSettings, *, resume: bool = False) -> Path:
    """Where the index of a folder of documents is kept: one for each folder and settings, none replaces another.

    Raises InputError: the job to be resumed had other settings.
    """
    chosen = _digest(json.dumps(asdict(settings), sort_keys=True))
    of_folder = DEFAULT_FOLDER / f"{documents.name}-{_digest(str(documents.absolute()))}"
    folder = of_folder / f"{settings.embed_type}-{settings.chunk_tokens}-{chosen}"
    interrupted = sorted(path.parent for path in of_folder.glob(f"*/{UNFINISHED}"))
    if resume and interrupted and folder not in interrupted:
        DocumentIndex(str(interrupted[0]), settings)._require_same_settings(resume)
    return folder


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Parts of at most `size` items."""
    return (items[start : start + size] for start in range(0, len(items), size))


def _in(documents: Sequence[str]) -> str:
    """A condition in SQL, where a quotation mark inside a name is written twice."""
    return "document IN ({})".format(", ".join("'{}'".format(name.replace("'", "''")) for name in documents))


def _make_folder(folder: Path) -> None:
    """Raises InputError where it cannot be made, or holds what is no index: --rebuild would throw that away."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strange = next(folder.iterdir(), None)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}", "choose another --index-dir") from error
    if strange:
        raise InputError(f"{folder} is not empty and holds no index ({strange.name})", "choose another --index-dir")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    part.replace(path)
