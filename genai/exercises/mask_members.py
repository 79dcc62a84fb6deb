"""7.4a Keep your members' numbers out of the store.

Members are named by numbers such as M-4821-77, and every question is stored with them. Write the span processor hide,
which puts [member] in their place, and see that a look-up that fails leaves none either.

Run it:   uv run python genai/exercises/mask_members.py
Check:    uv run mlflow-learn check 7.4a
Look at:  uv run mlflow ui  ->  7-production  ->  Traces  ->  member-question, and the events of find_member
Docs:     https://mlflow.org/docs/latest/genai/tracing/observe-with-traces/masking/
"""

import re

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


def hide(span: LiveSpan) -> None:
    """MLflow calls this for each span before it is stored."""
    # Your turn (1): set inputs and outputs again, with [member] in the place of each number. They may be texts or
    #                dictionaries; a span without outputs must be left without.


@mlflow.trace(name="find_member", span_type=SpanType.TOOL)
def find_member(number: str) -> str:
    # Your turn (2): an exception is stored with its message and its stack trace, which no processor can set. Raise a
    #                LookupError here that does not name the member, and that brings no other exception along.
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
