"""Questions whose right document is known: the sample ones, or a learner's own file."""

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from utils.errors import InputError

QUESTIONS = Path(__file__).resolve().parent / "data" / "questions.jsonl"
NO_ANSWER = "I do not know"
UNANSWERABLE = "unanswerable"
OWN = "own"
REQUIRED_COLUMNS = ("question", "gold_document", "expected_answer")


@dataclass(frozen=True)
class Question:
    """A question and where its answer stands.

    `kind` is same-words or other-words (whether the question shares a word with its gold sentence),
    unanswerable (gold_document and gold_sentence are None), or own (a learner's, where nobody said which).
    """

    id: str
    question: str
    gold_document: str | None
    gold_sentence: str | None
    expected_answer: str
    kind: str


def load_questions(path: Path | None = None) -> list[Question]:
    """Read the sample questions, or a learner's CSV or JSONL file.

    Args:
        path: file with the columns question, gold_document (empty: the documents hold no answer) and
            expected_answer; id, gold_sentence and kind are optional. None reads the packaged questions.

    Raises:
        InputError: the file is missing, unreadable, empty, or a row lacks what it needs.
    """
    path = path or QUESTIONS
    rows = list(_read_rows(path))
    if not rows:
        raise InputError(f"{path} holds no questions", "write one row for each question")
    questions = [
        _parse_question(row, f"q{number:02d}", f"{path}, line {line}")
        for number, (line, row) in enumerate(rows, start=1)
    ]
    repeated = [name for name, count in Counter(q.id for q in questions).items() if count > 1]
    if repeated:
        raise InputError(f"{path} uses the id {repeated[0]} more than once", "give every question its own id")
    return questions


def choose_questions(
    documents: Collection[str], path: Path | None, query: str | None, number: int
) -> tuple[list[Question], list[Question]]:
    """Questions to score retrieval on, and questions to answer: the learner's query, or some of each kind.

    Args:
        documents: names of the documents that there are; a question about another one is left out.
        path: the learner's questions; None takes the sample ones.
        number: how many are answered when there is no query.

    Raises:
        InputError: no question fits these documents, and no query says what to ask.
    """
    questions = load_questions(path)
    known = any(question.gold_document in documents for question in questions)
    if not known and not query:
        problem = "none of the questions has its gold document in this folder"
        raise InputError(problem, '--query "…", or --questions FILE')
    scored = [q for q in questions if known and (q.gold_document is None or q.gold_document in documents)]
    own = Question("query", query or "", None, None, "", OWN)
    return scored, [own] if query else spread(scored, number, seed=7)


class HasKind(Protocol):
    """Anything of which there are several kinds."""

    @property
    def kind(self) -> str: ...


K = TypeVar("K", bound=HasKind)


def spread(questions: Sequence[K], number: int, seed: int) -> list[K]:
    """`number` questions with every kind in turn, each kind in a seeded order; all of them when there are no more."""
    by_kind: dict[str, list[K]] = {}
    for question in questions:
        by_kind.setdefault(question.kind, []).append(question)
    for group in by_kind.values():
        random.Random(seed).shuffle(group)
    chosen: list[K] = []
    while len(chosen) < min(number, len(questions)):
        chosen += [group.pop() for group in by_kind.values() if group]
    return chosen[:number]


def _read_rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield the line number and the columns of each row."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is neither .csv nor .jsonl", "save the questions as CSV or JSONL")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    yield from reader(path, text)


def _read_csv(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _require_columns(reader.fieldnames or (), f"{path}, line 1")
        for row in reader:
            # DictReader puts what has no column under None, and None where a value is missing.
            if None in row or None in row.values():
                problem = f"{path}, line {reader.line_num}: not as many values as columns"
                raise InputError(problem, 'put texts that contain a comma between double quotes (")')
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{path}, after line {reader.line_num}: {error}", "check its quotes and commas") from error


def _read_jsonl(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    # Not splitlines(): a line separator such as U+2028 may stand inside a JSON text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{where}: {error}", "write one JSON object on each line") from error
        if not isinstance(row, dict):
            raise InputError(f"{where} is no JSON object", "write one JSON object on each line")
        _require_columns(tuple(row), where)
        yield number, row


def _require_columns(present: Sequence[str], where: str) -> None:
    missing = [column for column in REQUIRED_COLUMNS if column not in present]
    if missing:
        cure = f"give each question the columns {', '.join(REQUIRED_COLUMNS)}"
        raise InputError(f"{where} lacks {', '.join(missing)}", cure)


def _parse_question(row: Mapping[str, object], default_id: str, where: str) -> Question:
    text = _take_text(row, "question", where)
    gold_document = _take_text(row, "gold_document", where) or None
    answer = _take_text(row, "expected_answer", where)
    kind = _take_text(row, "kind", where) or (OWN if gold_document else UNANSWERABLE)
    if not text:
        raise InputError(f"{where} has an empty question", "write the question, or delete the line")
    if gold_document and not answer:
        raise InputError(f"{where} has an empty expected_answer", "write the answer that the document gives")
    if (kind == UNANSWERABLE) != (gold_document is None):
        problem = f"{where}: kind is {kind}, and gold_document is {gold_document or 'empty'}"
        raise InputError(problem, "leave gold_document empty for unanswerable questions, and only for them")
    return Question(
        id=_take_text(row, "id", where) or default_id,
        question=text,
        gold_document=gold_document,
        gold_sentence=_take_text(row, "gold_sentence", where) or None,
        expected_answer=answer or NO_ANSWER,
        kind=kind,
    )


def _take_text(row: Mapping[str, object], column: str, where: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InputError(f"{where}: {column} is no text", f'write {column} between double quotes (")')
    return str(value).strip()


def with_passages(questions: Sequence[Question], documents: Path) -> list[tuple[Question, str]]:
    """Each answerable question with the text of its gold document.

    Args:
        documents: folder of texts (.md or .txt, UTF-8).

    Raises:
        InputError: there are fewer than two such documents, or no question's gold document is among them.
    """
    texts = read_texts(documents)
    known = [(q, texts[q.gold_document]) for q in questions if q.gold_document in texts]
    if not known or len(texts) < 2:
        raise InputError(
            f"no question has its gold document among the texts of {documents}",
            "--questions FILE with a column gold_document, and --docs-path FOLDER with these files",
        )
    return known


def read_texts(documents: Path) -> dict[str, str]:
    """The texts (.md or .txt, UTF-8) of a folder by file name, in the order of their names."""
    paths = sorted(path for path in documents.glob("*") if path.suffix in {".md", ".txt"})
    return {path.name: path.read_text(encoding="utf-8") for path in paths}
