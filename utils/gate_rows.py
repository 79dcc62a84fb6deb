"""The rows that a gate asks, and their scores as an evaluation run in the store has them."""

import hashlib
from collections.abc import Sequence
from typing import Any

from utils.errors import InputError
from utils.gate_decision import Scores
from utils.genai_evaluation import read_rows
from utils.questions import Question


def build_rows(questions: Sequence[Question], number: int | None) -> list[dict[str, Any]]:
    """A row is known by what it asks and expects: with another expectation it is another row.

    Raises:
        InputError: a question comes twice.
    """
    rows = {}
    for question in questions[:number]:
        expected = {"expected_response": question.expected_answer, "gold_document": question.gold_document or ""}
        written = "\n".join([question.question, *expected.values()])
        row = int(hashlib.sha256(written.encode()).hexdigest()[:12], 16)
        if row in rows:
            raise InputError(f"the question {question.question!r} comes twice", "leave one of them out")
        rows[row] = {"inputs": {"row": row, "question": question.question}, "expectations": expected}
    return list(rows.values())


def read_scores(run_id: str) -> tuple[Scores, dict[int, str]]:
    """The scores of an evaluation run as the store has them, and the question of each row.

    Raises:
        CheckFailed: a row or a score is missing.
    """
    import mlflow

    params = mlflow.get_run(run_id).data.params
    scorers = params["scorers"].split(", ")
    stored = read_rows(run_id, scorers, int(params["rows"]))
    scores = {scorer: {row: float(given[scorer]) for row, (_, given) in stored.items()} for scorer in scorers}
    questions = {
        row: next(span.inputs["question"] for span in trace.data.spans if span.parent_id is None)
        for row, (trace, _) in stored.items()
    }
    return scores, questions
