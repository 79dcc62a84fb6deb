"""The learner's own rows: CSV, JSONL or Parquet, read strictly, so that no text is changed or lost unseen."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from utils.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LONGEST_CELL = 2**31 - 1  # characters; the csv module's own limit would refuse a text of 131,073
NO_ROWS_CURE = "give a file with at least one row"


@dataclass(frozen=True)
class Rows:
    """`frame`: DataFrame[id: str, text: str, label: str (if asked for)]. `dropped`: rows without a text."""

    frame: "pd.DataFrame"
    dropped: int


@dataclass(frozen=True)
class _Table:
    """A file's column names, and for each row its number in the file and its values in the wanted columns."""

    columns: list[str]
    unit: str  # what the numbers count: line or row
    records: Sequence[tuple[int, tuple[object, ...]]]


def read_rows(path: Path | str, text_column: str, label_column: str | None = None) -> Rows:
    """Read .csv (UTF-8, with a byte order mark or without), .jsonl or .parquet, in the file's order.

    Texts are stripped and otherwise kept as they are; labels are stripped and in lower case. `id` is the
    file's own, else (or where that is empty) the row's number from 1, counted before any row is dropped.

    Raises:
        InputError: the file or one of its rows cannot be used, or a row with a text has no label.
    """
    path = Path(path)
    wanted = (text_column, label_column or text_column, "id")
    try:
        table = _choose_reader(path)(path, wanted)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "check its permissions") from error
    if not table.records:
        raise InputError(f"{path} has no rows", NO_ROWS_CURE)
    _check_column(path, table.columns, text_column, "--text-column")
    if label_column is not None:
        _check_column(path, table.columns, label_column, "--label-column")
    return _to_rows(path, table, labelled=label_column is not None)


def _choose_reader(path: Path) -> Callable[[Path, Sequence[str]], _Table]:
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.is_dir():
        raise InputError(f"{path} is a directory", "name one file in it: .csv, .jsonl or .parquet")
    if not path.exists():
        raise InputError(f"there is no file {path}", "check the path")
    if path.suffix.lower() not in readers:
        problem = f"{path} has the unknown suffix '{path.suffix}'" if path.suffix else f"{path} has no suffix"
        raise InputError(problem, "save it as .csv, .jsonl or .parquet")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty", NO_ROWS_CURE)
    return readers[path.suffix.lower()]


def _read_csv(path: Path, wanted: Sequence[str]) -> _Table:
    _check_utf8(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = _csv_lines(path, file)
        columns = [name.strip() for name in next(lines, (1, []))[1]]
        if len(columns) == 1 and any(mark in columns[0] for mark in ";\t|"):
            raise InputError(f"{path} does not separate its columns with commas", "save it with commas")
        places = [columns.index(name) if name in columns else None for name in wanted]
        records = []
        for number, cells in lines:
            if len(cells) != len(columns):
                problem = f"{path} line {number} has {len(cells)} of {len(columns)} values"
                raise InputError(problem, 'put texts that contain a comma between double quotes (")')
            records.append((number, tuple(None if place is None else cells[place] for place in places)))
    return _Table(columns, "line", records)


def _csv_lines(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not blank, with the line it begins on (a quoted text may go over several)."""
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(file, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cure = 'put the text between double quotes ("), and write a quote in it twice ("")'
            raise InputError(f"{path} line {number} is no CSV: {error}", cure) from error
        if cells:
            yield number, cells


def _read_jsonl(path: Path, wanted: Sequence[str]) -> _Table:
    _check_utf8(path)
    columns: dict[str, None] = {}  # in the order of their first use
    records = []
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                record = _parse_object(path, number, line)
                columns |= dict.fromkeys(record)
                records.append((number, tuple(record.get(name) for name in wanted)))
    return _Table(list(columns), "line", records)


def _parse_object(path: Path, number: int, line: str) -> dict[str, object]:
    cure = 'write one JSON object on each line, such as {"text": "…"}'
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} line {number} is no JSON: {error}", cure) from error
    if not isinstance(record, dict):
        raise InputError(f"{path} line {number} is no JSON object", cure)
    return record


def _read_parquet(path: Path, wanted: Sequence[str]) -> _Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with path.open("rb") as file:
        try:
            parquet = pq.ParquetFile(file)
            columns = parquet.schema_arrow.names
            table = parquet.read(columns=[name for name in columns if name in wanted])
            empty = [None] * len(table)  # a name that comes twice is refused later, with its cure
            values = [table[name].to_pylist() if columns.count(name) == 1 else empty for name in wanted]
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path} is no readable Parquet: {reason}", "write the file again") from error
    return _Table(columns, "row", list(enumerate(zip(*values, strict=True), start=1)))


def _check_utf8(path: Path) -> None:
    cure = "save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                problem = f"{path} is not UTF-8 text (byte {offset + error.start}, line {number})"
                raise InputError(problem, cure) from error
            offset += len(line)


def _check_column(path: Path, columns: Sequence[str], name: str, flag: str) -> None:
    if name not in columns:
        raise InputError(f"{path} has no column '{name}'", f"{flag} NAME, one of: {', '.join(columns)}")
    if columns.count(name) > 1:
        raise InputError(f"{path} has {columns.count(name)} columns named '{name}'", "give each its own name")


def _to_rows(path: Path, table: _Table, labelled: bool) -> Rows:
    import pandas as pd

    kept = []
    for row, (number, values) in enumerate(table.records, start=1):
        where = f"{path} {table.unit} {number}"
        text, label, row_id = (_as_text(where, value) for value in values)
        if text and not label:
            raise InputError(f"{where} has a text and no label", "write one, or leave out --label-column")
        if text:
            kept.append((row_id or str(row), text, label.lower()))
    if not kept:
        cure = f"--text-column NAME, one of: {', '.join(table.columns)}"
        raise InputError(f"{path} has no text in any of its rows", cure)
    frame = pd.DataFrame(kept, columns=["id", "text", "label"])
    return Rows(frame if labelled else frame.drop(columns="label"), dropped=len(table.records) - len(kept))


def _as_text(where: str, value: object) -> str:
    """Stripped; the empty string for a missing value (None, or NaN, which is the one value unlike itself)."""
    if value is None or value != value:
        return ""
    if isinstance(value, list | dict | bytes):
        raise InputError(f"{where} has a {type(value).__name__} where a text belongs", "write it as text")
    text = str(value).strip()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        problem = f"{where} has half a character (U+{ord(text[error.start]):04X})"
        raise InputError(problem, "write the whole character") from error
    return text
