"""8.2a Go on after a kill, and pay for nothing twice.

A job is killed in the middle and started again. Write the loop that asks each distinct text once and keeps each answer
the moment it is there, so that the second run asks the rest.

Run it:   uv run python spark/exercises/paid_once.py
Check:    uv run mlflow-learn check 8.2a
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  paid-once: calls, and distinct_texts
Docs:     https://mlflow.org/docs/latest/ml/tracking/
"""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import mlflow

from utils.cli import show_table
from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.llm_calls import Chat
from utils.options import BackendOptions
from utils.reviews import load_reviews

PROMPT = "Answer with one word, one of: positive, negative, neutral.\n\nReview: {text}"
DISTINCT, ROWS = 30, 45
KILLED_AFTER = 20  # calls of the first run


class Killed(BaseException):
    """Nothing of the loop runs after it, as after kill -9."""


def answer_all(texts: list[str], ask: Callable[[str], str], file: Path) -> list[str]:
    """The answer of every text, in their order. What `file` holds has been paid for; it is there in the next run."""
    # Your turn: ask each distinct text once, write each answer down when it comes, and begin with what is written.
    answers = [ask(text) for text in texts]
    file.write_text(json.dumps(answers), encoding="utf-8")
    return answers


class Meter:
    """Asks the model and counts; kills the job that comes to its limit, while its call is in flight."""

    def __init__(self, llm: Backend, limit: int | None) -> None:
        self.chat, self.limit, self.calls = Chat(llm), limit, 0

    def ask(self, text: str) -> str:
        self.calls += 1
        if self.calls == self.limit:
            raise Killed
        return self.chat.complete(PROMPT.format(text=text)).text


@exercise_command("8.2a", llm="mock")
def main(backend: BackendOptions) -> None:
    reviews = load_reviews()["text"].tolist()[:DISTINCT]
    texts = [reviews[row * 7 % DISTINCT] for row in range(ROWS)]
    calls: list[int] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        open_backend(backend) as llm,
        mlflow.start_run(run_name="paid-once"),
    ):
        answers: list[str] = []
        for turn, limit in (("first", KILLED_AFTER), ("second", None)):
            meter = Meter(llm, limit)
            with mlflow.start_run(run_name=turn, nested=True), suppress(Killed), meter.chat:
                answers = answer_all(list(texts), meter.ask, Path(folder) / "answers.jsonl")
            calls.append(meter.calls)
        with Chat(llm) as chat:
            right = {text: chat.complete(PROMPT.format(text=text)).text for text in reviews}
        mlflow.log_metrics(
            {
                "rows": ROWS, "distinct_texts": DISTINCT, "killed_after": KILLED_AFTER, "answered_rows": len(answers),
                "wrong_rows": sum(right[text] != answer for text, answer in zip(texts, answers, strict=False)),
                "first_calls": calls[0], "calls": sum(calls),
            }
        )  # fmt: skip
    show_table([{"run": turn, "calls": made} for turn, made in zip(("first", "second"), calls, strict=True)])


if __name__ == "__main__":
    main()
