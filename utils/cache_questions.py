"""Questions to judge a cache by: for each one ways to ask the same, and a look-alike that asks something else.

A cache may answer the rewording (nearly the same words) and the paraphrase (other words) from the question's entry. It
must not answer the look-alike from it, which has the same words and another meaning.
"""

import csv
import io
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from utils.errors import InputError

QUESTIONS = Path(__file__).resolve().parent / "data" / "cache_questions.jsonl"
WORDINGS = ("question", "rewording", "paraphrase", "look_alike")
REQUIRED = ("question", "paraphrase", "look_alike")
LEAST = 10  # in each half at least five
# What the made-up traffic asks: half the question as it stands, which any cache answers from the second time on.
MIX = {"question": 0.5, "rewording": 0.2, "paraphrase": 0.15, "look_alike": 0.15}


@dataclass(frozen=True)
class CacheQuestion:
    """`rewording` and `facts` may be empty. `difference`: by what the look-alike differs, in a word."""

    id: str
    question: str
    rewording: str
    paraphrase: str
    look_alike: str
    topic: str = "own"
    difference: str = "own"
    facts: str = ""

    def wordings(self) -> dict[str, str]:
        """The text of each wording that there is."""
        return {kind: text for kind in WORDINGS if (text := getattr(self, kind))}


@dataclass(frozen=True)
class Request:
    """What somebody asks. Two requests ask the same if, and only if, their `meaning` is equal."""

    text: str
    kind: str  # one of WORDINGS
    meaning: str
    facts: str


def load_cache_questions(path: Path | None = None) -> list[CacheQuestion]:
    """The learner's questions (.csv or .jsonl, UTF-8, the columns REQUIRED), or the sample ones.

    Raises:
        InputError: the file cannot be read, lacks a column or a text, says the same twice, or is too short.
    """
    path = path or QUESTIONS
    found: list[CacheQuestion] = []
    seen: dict[str, str] = {}
    for where, row in _rows(path):
        for column in REQUIRED:
            if not str(row.get(column) or "").strip():
                raise InputError(f"{where} has no {column}", f"give each row the columns {', '.join(REQUIRED)}")
        given = {
            name: str(row[name]).strip()
            for name in CacheQuestion.__dataclass_fields__
            if name != "id" and row.get(name)
        }
        each = CacheQuestion(f"s{len(found) + 1:03d}", **{"rewording": "", **given})
        for text in each.wordings().values():
            if before := seen.get(text):
                raise InputError(f'{where} says "{text}", which stands in {before}', "write each text once")
            seen[text] = where
        found.append(each)
    if len(found) < LEAST:
        raise InputError(f"{path} has {len(found)} questions", f"give at least {LEAST}: one half chooses, one reports")
    return found


def halves(questions: Sequence[CacheQuestion], seed: int) -> tuple[list[CacheQuestion], list[CacheQuestion]]:
    """Two halves, each with half of every topic and kind of difference as far as they divide."""
    shuffled = random.Random(seed).sample(list(questions), len(questions))
    ordered = sorted(shuffled, key=lambda each: (each.topic, each.difference))  # stable: seeded within a group
    return ordered[::2], ordered[1::2]


def made_up_traffic(questions: Sequence[CacheQuestion], number: int, seed: int) -> list[Request]:
    """`number` requests: a few questions are asked often, most seldom (weight 1/rank), worded as MIX says."""
    rng = random.Random(seed)
    ranked = rng.sample(list(questions), len(questions))
    weights = [1 / rank for rank in range(1, len(ranked) + 1)]
    requests = []
    for each in rng.choices(ranked, weights, k=number):
        wordings = each.wordings()
        kind = rng.choices(list(wordings), [MIX[kind] for kind in wordings])[0]
        requests.append(Request(wordings[kind], kind, meaning(each, kind), each.facts))
    return requests


def meaning(question: CacheQuestion, kind: str) -> str:
    """What a wording asks: the look-alike something else than the three others."""
    return f"{question.id} look-alike" if kind == "look_alike" else question.id


def meanings(questions: Sequence[CacheQuestion]) -> dict[str, str]:
    """What each text of these questions asks."""
    return {text: meaning(each, kind) for each in questions for kind, text in each.wordings().items()}


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each row and where it stands."""
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"{path} is neither .csv nor .jsonl", "save the questions as CSV or JSONL")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(io.StringIO(text, newline=""))
        yield from ((f"{path}, line {reader.line_num}", row) for row in reader)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", _object(line, f"{path}, line {number}")


def _object(line: str, where: str) -> Mapping[str, object]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: {error}", "write one JSON object on each line") from error
    if not isinstance(row, dict):
        raise InputError(f"{where} is no JSON object", "write one JSON object on each line")
    return row
