"""3.1a Register a chat prompt with a schema, and let its answers be read by a program.

Register a chat prompt with a system and a user message and the variable ticket, and with Triage as its response_format.
Load it inside the run, ask the model for every ticket in that schema, and log how many answers were valid.

Run it:   uv run python genai/exercises/ticket_chat.py
          uv run python genai/exercises/ticket_chat.py --llm-type ollama
Check:    uv run mlflow-learn check 3.1a
Look at:  uv run mlflow ui  ->  Prompts  ->  ticket-triage; 3-prompts  ->  Training runs  ->  ticket-triage
Docs:     https://mlflow.org/docs/latest/genai/prompt-registry/structured-output/
"""

import click
import mlflow
from pydantic import BaseModel, Field

from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions

PROMPT = "ticket-triage"
TICKETS = (
    "I was charged twice this month, and nobody answers. This is terrible.",
    "Thank you, the new export works wonderfully.",
    "How do I change the name on my account?",
)


class Triage(BaseModel):
    """What a program wants to read out of a ticket."""

    sentiment: str = Field(description="positive, negative or neutral")
    reason: str = Field(description="the words of the ticket that show it")


def run(llm: Backend, tickets: tuple[str, ...]) -> int:  # noqa: ARG001 you will need it
    """How many answers were valid: read by Triage without an error."""
    valid = 0
    # Your turn (1): register the chat prompt PROMPT with two messages, {{ticket}} and response_format=Triage.
    # Your turn (2): load it here, inside the run, and look at its messages and its response_format.
    # Your turn (3): ask the model for every ticket in that schema, and count the answers that Triage can read.
    mlflow.log_metrics({"tickets": len(tickets), "valid_answers": valid})
    return valid


@exercise_command("3.1a", llm="mock")
def main(backend: BackendOptions) -> None:
    with open_backend(backend) as llm, mlflow.start_run(run_name=PROMPT):
        mlflow.langchain.autolog(silent=True)
        valid = run(llm, TICKETS)
    click.echo(f"{valid} of {len(TICKETS)} answers are valid")


if __name__ == "__main__":
    main()
