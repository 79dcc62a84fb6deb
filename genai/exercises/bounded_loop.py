"""8.1b Give a loop a budget, and let it end honestly.

Two agents hand a ticket back and forth, each sure that it is the other's, until a counter far away stops them;
then the answer claims that the ticket is done. Give the two agents a budget of six hand-offs. When it is used up,
show it in the trace (a GUARDRAIL span, budget.limit and budget.steps on the root), and answer that the work was
stopped.

Run it:   uv run python genai/exercises/bounded_loop.py
Check:    uv run mlflow-learn check 8.1b
Look at:  uv run mlflow ui  ->  8-advanced  ->  Traces  ->  handle-ticket
Docs:     https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/manual-tracing/
"""

import click
import mlflow
from mlflow.entities import SpanType

from utils.exercise_cli import exercise_command

TICKET = "I was charged twice, and the export fails since then."
BUDGET = 6  # hand-offs
FAR_AWAY = 40


def billing(ticket: str) -> str:
    return "support" if "export" in ticket else "done"


def support(ticket: str) -> str:
    return "billing" if "charged" in ticket else "done"


AGENTS = {"billing": billing, "support": support}


def hand_over(name: str, ticket: str) -> str:
    """One hand-off: who is to have the ticket next, or that it is done."""
    with mlflow.start_span(name, span_type=SpanType.AGENT) as span:
        span.set_inputs({"ticket": ticket})
        following = AGENTS[name](ticket)
        span.set_outputs({"next": following})
    return following


def handle(ticket: str) -> str:
    with mlflow.start_span("handle-ticket", span_type=SpanType.AGENT) as root:
        root.set_inputs({"ticket": ticket})
        name, steps = "billing", 0
        # Your turn (1): no more than BUDGET hand-offs; look before each of them.
        while name != "done" and steps < FAR_AWAY:
            name = hand_over(name, ticket)
            steps += 1
        # Your turn (2): when the budget ended it, open a span "budget" of type GUARDRAIL that holds the steps,
        # and set the root's attributes budget.limit and budget.steps.
        # Your turn (3): an answer that says that the work was stopped, and who had the ticket last.
        answer = "The ticket is done."
        root.set_outputs({"answer": answer})
    return answer


@exercise_command("8.1b")
def main() -> None:
    click.echo(handle(TICKET))


if __name__ == "__main__":
    main()
