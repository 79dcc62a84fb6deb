"""Scores of a RAG: retrieval against gold documents, answers against expected ones, each by kind of question."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import shorten

from utils.errors import JobFailed
from utils.evaluation import (
    expected_in_answer,
    hit_at_k,
    is_declined,
    mrr,
    ndcg_at_k,
    source_retrieval_rate,
    token_f1,
)
from utils.questions import UNANSWERABLE, Question


@dataclass(frozen=True)
class Answer:
    """What the model said to a question, and the documents of the passages it was given (best first)."""

    question: Question
    text: str
    sources: list[str]
    trace_id: str
    error: str | None = None  # why there is no answer; the text is empty then

    @property
    def right(self) -> bool | None:
        """The expected answer stands in it; for a question without an answer: it was declined. None: nobody knows."""
        if self.error:
            return False
        if not self.question.expected_answer:
            return None
        if self.question.gold_document is None:
            return is_declined(self.text)
        return expected_in_answer(self.text, self.question.expected_answer)

    def summary(self) -> dict[str, object]:
        """As a row for the terminal; the whole texts stand in the run's table."""
        text = f"failed: {self.error}" if self.error else " ".join(self.text.split())
        answer = shorten(text, 110, placeholder=" …")
        return {
            "question": self.question.question,
            "answer": answer,
            "right": self.right,
            "first source": next(iter(self.sources), None),
        }

    def row(self) -> dict[str, object]:
        """As a row of a table."""
        question = self.question
        return {
            "id": question.id, "kind": question.kind, "question": question.question, "answer": self.text,
            "error": self.error, "expected": question.expected_answer, "right": self.right,
            "sources": ", ".join(self.sources), "gold_document": question.gold_document, "trace_id": self.trace_id,
        }  # fmt: skip


def score_retrieval(questions: Sequence[Question], retrieved: Sequence[Sequence[str]], k: int) -> dict[str, float]:
    """hit@k, MRR, nDCG@k and source_retrieval_rate over questions with a gold document, and hit@k and MRR by kind.

    Args:
        questions: with their gold documents; those without one are left out.
        retrieved: for each question the documents of its top k chunks, best first.

    Returns:
        Nothing at all when no question has a gold document: an absent number is no zero.
    """
    pairs = [(q, list(found)) for q, found in zip(questions, retrieved, strict=True) if q.gold_document]
    scores: dict[str, float] = {}
    for kind in ("", *sorted({q.kind for q, _ in pairs})):
        gold = [q.gold_document or "" for q, _ in pairs if kind in ("", q.kind)]
        found = [documents for q, documents in pairs if kind in ("", q.kind)]
        if not gold:
            continue
        suffix = f"_{kind.replace('-', '_')}" if kind else ""
        scores[f"hit_at_k{suffix}"] = _mean([hit_at_k(f, g, k) for f, g in zip(found, gold, strict=True)])
        scores[f"mrr{suffix}"] = mrr(found, gold)
        if not kind:
            scores["ndcg_at_k"] = _mean([ndcg_at_k(f, g, k) for f, g in zip(found, gold, strict=True)])
            scores["source_retrieval_rate"] = source_retrieval_rate(found, gold)
    return scores


def require_answers(answers: Sequence[Answer]) -> None:
    """Stop before a job without a single answer is logged as a result.

    Raises:
        JobFailed: with the first question's error.
    """
    if answers and all(answer.error for answer in answers):
        raise JobFailed(f"all {len(answers)} questions failed, the first with: {answers[0].error}", JobFailed.CURE)


def score_answers(answers: Sequence[Answer]) -> dict[str, float]:
    """Shares of right answers and token F1 on answerable questions, and of declined ones among the unanswerable.

    A question whose call failed counts as wrong, and is counted apart.
    """
    failed = sum(answer.error is not None for answer in answers)
    scores: dict[str, float] = {"questions_asked": len(answers), "failed_questions": failed}
    answerable = [answer for answer in answers if answer.question.gold_document and answer.question.expected_answer]
    if answerable:
        scores["answer_right"] = _mean([bool(answer.right) for answer in answerable])
        scores["answer_f1"] = _mean([token_f1(answer.text, answer.question.expected_answer) for answer in answerable])
        scores["answer_declined"] = _mean([is_declined(answer.text) for answer in answerable])
    unanswerable = [answer for answer in answers if answer.question.kind == UNANSWERABLE]
    if unanswerable:
        scores["unanswerable_declined"] = _mean([is_declined(answer.text) for answer in unanswerable])
    return scores


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
