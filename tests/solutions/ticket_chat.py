"""Exercise 3.1a solved: register a chat prompt with a schema, and let its answers be read by a program.

Begin with:  genai/exercises/ticket_chat.py
Run it:      uv run python tests/solutions/ticket_chat.py
"""

import click
import mlflow
from pydantic import BaseModel, Field, ValidationError

from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions

PROMPT = "ticket-triage"
TICKETS = (
    "I was charged twice this month, and nobody answers. This is terrible.",
    "Thank you, the new export works wonderfully.",
    "How do I change the name on my account?",
)
MESSAGES = [
    {"role": "system", "content": "You read tickets. Answer as JSON with the fields sentiment and reason."},
    {"role": "user", "content": "Sentiment of this ticket, positive, negative or neutral: {{ticket}}"},
]


class Triage(BaseModel):
    """What a program wants to read out of a ticket."""

    sentiment: str = Field(description="positive, negative or neutral")
    reason: str = Field(description="the words of the ticket that show it")


def run(llm: Backend, tickets: tuple[str, ...]) -> int:
    """How many answers were valid: read by Triage without an error."""
    registered = mlflow.genai.register_prompt(
        name=PROMPT, template=MESSAGES, response_format=Triage, commit_message="Two messages and a schema"
    )
    prompt = mlflow.genai.load_prompt(registered.uri)
    model = llm.chat_model().with_structured_output(prompt.response_format, method="json_schema")
    valid = 0
    for ticket in tickets:
        try:
            Triage.model_validate(model.invoke(prompt.format(ticket=ticket)))
            valid += 1
        except ValidationError:  # counted by not being valid
            continue
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
