"""Rows of an evaluation dataset: read from a file, checked before MLflow sees them, and known by what they say."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from utils.errors import InputError

Row = dict[str, Any]

FIELDS = ("inputs", "expectations", "tags")
INPUTS, EXPECTATIONS = ("question",), ("expected_response",)
COLUMNS = ("question", "expected_response", "kind")  # of a flat file
MOST_BYTES = 1_000_000  # of a row as JSON; what is longer is a document, and belongs into one
SHAPE = '{"inputs": {"question": "…"}, "expectations": {"expected_response": "…"}, "tags": {"kind": "…"}}'


def read_evaluation_rows(path: Path) -> list[Row]:
    """Rows of a learner's file, checked as in check_rows.

    Args:
        path: JSONL with one row of SHAPE on each line, or CSV or Parquet with the columns question, expected_response
            and, if wanted, kind.

    Raises:
        InputError: the file or one of its rows cannot be used; the row's number is named, and nothing was written.
    """
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is neither .jsonl nor .csv nor .parquet", "save the rows as one of these")
    try:
        numbered = list(reader(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    return check_rows(numbered, str(path))


def check_rows(numbered: Iterable[tuple[int, object]], where: str) -> list[Row]:
    """The rows as they are, all of them fit to be merged. MLflow itself takes a row of any size with any fields, and
    turns two rows with the same inputs into one.

    Args:
        numbered: each row with its number in the file.
        where: what the errors call the file.

    Raises:
        InputError: there is no row, or one has no inputs, an unknown field, no expectation, too many bytes, or the
            inputs of a row before it.
    """
    rows: list[Row] = []
    first: dict[str, int] = {}
    for number, row in numbered:
        place = f"{where}, row {number}"
        checked = _check_row(row, place)
        before = first.setdefault(row_key(checked["inputs"]), number)
        if before != number:
            raise InputError(f"{place} has the inputs of row {before}", "keep one of the two")
        rows.append(checked)
    if not rows:
        raise InputError(f"{where} holds no rows", f"one row a line: {SHAPE}")
    return rows


def row_key(inputs: Mapping[str, Any]) -> str:
    """What makes two rows the same row: their inputs, in whatever order they were written."""
    return hashlib.sha256(_canonical(dict(inputs)).encode()).hexdigest()[:16]


def plain_row(row: Mapping[str, Any]) -> Row:
    """What a row says: without its id, its source, its outputs, and the tags that MLflow adds."""
    tags = {name: value for name, value in (row.get("tags") or {}).items() if not name.startswith("mlflow.")}
    return {"inputs": dict(row["inputs"]), "expectations": dict(row.get("expectations") or {}), "tags": tags}


def content_digest(rows: Iterable[Mapping[str, Any]]) -> str:
    """Eight hexadecimal digits of what the rows say, whatever their order. MLflow's own digest of a dataset is made
    from its name and the time of the last merge: it changes when the same rows are merged again."""
    said = sorted(_canonical(plain_row(row)) for row in rows)
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True)


def _check_row(row: object, place: str) -> Row:
    if not isinstance(row, dict):
        raise InputError(f"{place} is no JSON object", f"one row a line: {SHAPE}")
    try:
        size = len(json.dumps(row, ensure_ascii=False, allow_nan=False).encode("utf-8"))
    except ValueError as error:  # NaN, or half a character
        raise InputError(f"{place} cannot be written as JSON: {error}", "correct the row") from error
    if size > MOST_BYTES:
        raise InputError(
            f"{place} has {size / 1e6:.1f} MB, and the most is {MOST_BYTES / 1e6:.0f} MB",
            "put the long text into a document (--docs-path) and ask about it",
        )
    _check_fields(row, FIELDS, place, "field")
    inputs, expectations, tags = (row.get(name) or {} for name in FIELDS)
    if not isinstance(inputs, dict) or not inputs:
        raise InputError(f"{place} has no inputs", f"one row a line: {SHAPE}")
    if not isinstance(expectations, dict) or not isinstance(tags, dict):
        raise InputError(f"{place}: expectations and tags are objects", f"one row a line: {SHAPE}")
    _check_fields(inputs, INPUTS, place, "input")
    _check_fields(expectations, EXPECTATIONS, place, "expectation")
    for name, texts in (("question", inputs), ("expected_response", expectations)):
        if not isinstance(texts.get(name), str) or not texts[name].strip():
            raise InputError(f"{place} has no text {name}", f"one row a line: {SHAPE}")
    if not all(isinstance(value, str) for value in tags.values()):
        raise InputError(f"{place} has a tag that is no text", 'write it between double quotes (")')
    return plain_row(row)


def _check_fields(found: Mapping[str, Any], known: tuple[str, ...], place: str, kind: str) -> None:
    if unknown := [name for name in found if name not in known]:
        raise InputError(f"{place} has the unknown {kind} {unknown[0]!r}", f"the {kind}s are: {', '.join(known)}")


def _read_jsonl(path: Path) -> Iterator[tuple[int, object]]:
    # Not splitlines(): a line separator such as U+2028 may stand inside a JSON text.
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError(f"{path}, row {number} is no JSON: {error}", f"one row a line: {SHAPE}") from error


def _read_csv(path: Path) -> Iterator[tuple[int, object]]:
    """A row's number is that of its line; a text in quotes may go over several."""
    reader = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""), strict=True)
    try:
        _check_columns(reader.fieldnames or (), path)
        for record in reader:
            if None in record or None in record.values():
                problem = f"{path}, row {reader.line_num} has not as many values as columns"
                raise InputError(problem, 'put texts that contain a comma between double quotes (")')
            yield reader.line_num, _nested(record)
    except csv.Error as error:
        raise InputError(f"{path}, after row {reader.line_num}: {error}", "check its quotes and commas") from error


def _read_parquet(path: Path) -> Iterator[tuple[int, object]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, FileNotFoundError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path} is no readable Parquet: {reason}", "check the path, or write the file again"
        ) from error
    _check_columns(table.column_names, path)
    for number, record in enumerate(table.to_pylist(), start=1):
        yield number, _nested(record)


def _check_columns(found: Iterable[str], path: Path) -> None:
    names = list(found)
    if missing := [name for name in COLUMNS[:2] if name not in names]:
        raise InputError(
            f"{path} has no column {missing[0]}", f"its columns are: {', '.join(COLUMNS)} (the last if wanted)"
        )
    _check_fields(dict.fromkeys(names), COLUMNS, str(path), "column")


def _nested(record: Mapping[str, Any]) -> Row:
    tags = {"kind": record["kind"]} if record.get("kind") else {}
    return {
        "inputs": {"question": record["question"]},
        "expectations": {"expected_response": record["expected_response"]},
        "tags": tags,
    }
