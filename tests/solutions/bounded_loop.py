"""Exercise 8.1b solved: give a loop a budget, and let it end honestly.

Begin with:  genai/exercises/bounded_loop.py
Run it:      uv run python tests/solutions/bounded_loop.py
"""

import click
import mlflow
from mlflow.entities import SpanType

from utils.exercise_cli import exercise_command

TICKET = "I was charged twice, and the export fails since then."
BUDGET = 6  # hand-offs


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
        while name != "done" and steps < BUDGET:
            name = hand_over(name, ticket)
            steps += 1
        answer = "The ticket is done."
        if name != "done":
            answer = f"I stopped after {steps} hand-offs without a result; the ticket is with {name}."
            with mlflow.start_span("budget", span_type=SpanType.GUARDRAIL) as span:
                span.set_inputs({"steps": steps})
                span.set_outputs(answer)
        root.set_attributes({"budget.limit": BUDGET, "budget.steps": steps})
        root.set_outputs({"answer": answer})
    return answer


@exercise_command("8.1b")
def main() -> None:
    click.echo(handle(TICKET))


if __name__ == "__main__":
    main()
