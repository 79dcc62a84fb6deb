"""Two kinds of requests for lessons about models: reviews to label, and questions about a document."""

import random
from dataclasses import dataclass

from utils.errors import InputError
from utils.evaluation import expected_in_answer, is_declined
from utils.options import InputOptions
from utils.questions import load_questions, spread, with_passages
from utils.sample_documents import CORPUS
from utils.sentiment_job import load_job_rows, parse_label


@dataclass(frozen=True)
class Task:
    """One request. kind: label or answer; text: the review, or the document that the question is about."""

    kind: str
    text: str
    question: str
    expected: str

    @property
    def request(self) -> str:
        """What is asked for, in a line, without the document."""
        return f"{self.kind} {self.question or self.text}"

    def is_right(self, reply: str, labels: tuple[str, ...]) -> bool:
        if self.kind == "label":
            return parse_label(reply, labels) == self.expected
        return expected_in_answer(reply, self.expected) and not is_declined(reply)


def load_mixed_tasks(source: InputOptions, number: int, seed: int) -> tuple[list[Task], tuple[str, ...]]:
    """The learner's rows to label, or sample reviews and as many questions; and the labels that there are.

    In a seeded order in which the kinds take turns, so that both halves of it hold as many of each.

    Raises:
        InputError: the file cannot be used, or has no labels.
    """
    own = source.input is not None
    job = load_job_rows(source, number if own else (number + 1) // 2, seed)
    if not job.labelled:
        raise InputError("without labels no answer is right or wrong", "--label-column NAME")
    reviews = [Task("label", row.text, "", row.label) for row in job.frame.drop_duplicates("text").itertuples()]
    if own:
        random.Random(seed).shuffle(reviews)
        return reviews, job.labels
    texts = dict(with_passages(load_questions(), CORPUS))
    chosen = spread(list(texts), number // 2, seed)
    answers = [Task("answer", texts[each], each.question, each.expected_answer) for each in chosen]
    for group in (reviews, answers):
        random.Random(seed).shuffle(group)
    turns = [(place / len(group), task) for group in (reviews, answers) for place, task in enumerate(group)]
    return [task for _, task in sorted(turns, key=lambda turn: turn[0])], job.labels
