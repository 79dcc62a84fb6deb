"""Exercise 7.4a solved: members' numbers reach neither the inputs, nor the outputs, nor the exception of a trace.

Begin with:  genai/exercises/mask_members.py
Run it:      uv run python tests/solutions/mask_members.py
"""

import re
from typing import Any

import click
import mlflow
from mlflow.entities import LiveSpan, SpanType

from utils.exercise_cli import exercise_command

MEMBER = re.compile(r"\bM-\d{4}-\d{2}\b")
BOOKS = {"M-4821-77": "two books, due on Friday", "M-1093-05": "no book"}
QUESTIONS = (
    "What has M-4821-77 borrowed?",
    "Has M-1093-05 brought everything back?",
    "What has M-7777-13 borrowed?",
)


def without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_numbers(part) for key, part in value.items()}
    return MEMBER.sub("[member]", value) if isinstance(value, str) else value


def hide(span: LiveSpan) -> None:
    """MLflow calls this for each span before it is stored."""
    span.set_inputs(without_numbers(span.inputs))
    if span.outputs is not None:
        span.set_outputs(without_numbers(span.outputs))


@mlflow.trace(name="find_member", span_type=SpanType.TOOL)
def find_member(number: str) -> str:
    if number not in BOOKS:
        raise LookupError("there is no such member")
    return BOOKS[number]


@mlflow.trace(name="member-question", span_type=SpanType.AGENT)
def answer(question: str) -> str:
    found = MEMBER.search(question)
    assert found, "each question names a member"
    try:
        return f"{found[0]}: {find_member(found[0])}"
    except LookupError:
        return f"{found[0]} is no member."


@exercise_command("7.4a")
def main() -> None:
    mlflow.tracing.configure(span_processors=[hide])
    try:
        with mlflow.start_run(run_name="mask-members"):
            for question in QUESTIONS:
                click.echo(answer(question))
    finally:
        mlflow.flush_trace_async_logging()
        mlflow.tracing.configure(span_processors=[])


if __name__ == "__main__":
    main()
