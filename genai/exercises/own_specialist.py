"""8.1a Add a specialist whose hand-off is visible.

Add a specialist that searches the documents, and let the coordinator know it. Its hand-off is a span of type AGENT
with handoff.from, handoff.to, the request and the answer, and its own work below it.

Run it:   uv run python genai/exercises/own_specialist.py
Check:    uv run mlflow-learn check 8.1a
Look at:  uv run mlflow ui  ->  8-advanced  ->  Traces  ->  coordinator
Docs:     https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/manual-tracing/
"""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click
import mlflow
from mlflow.entities import SpanType

from utils.agent_loop import hand_off_tool
from utils.calculator import calculate
from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions

QUESTION = "What is 7 * 6, and which documents mention HNSW?"
MAX_TURNS = 6


def calculator(request: str) -> str:
    with mlflow.start_span("calculator", span_type=SpanType.AGENT) as span:
        span.set_inputs({"request": request})
        span.set_attributes({"handoff.from": "coordinator", "handoff.to": "calculator"})
        answer = mlflow.trace(calculate, name="calculate", span_type=SpanType.TOOL)(request)
        span.set_outputs({"answer": answer})
    return answer


# Your turn (1): write a specialist that searches (utils/document_search.py::DocumentSearch), with a hand-off like this.
# Your turn (2): let the coordinator know it: a name, and a description by which a model can tell it from the other.
SPECIALISTS: dict[str, tuple[str, Callable[[str], str]]] = {
    "calculator": ("Calculates an arithmetic expression.", calculator),
}


@mlflow.trace(name="coordinator", span_type=SpanType.AGENT)
def coordinate(question: str, llm: Backend) -> str:
    """Call specialists until the model answers, at most MAX_TURNS times."""
    tools: Any = [hand_off_tool(name, description) for name, (description, _) in SPECIALISTS.items()]
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(MAX_TURNS):
        reply = llm.openai_client().chat.completions.create(model=llm.model, messages=messages, tools=tools)
        message: Any = reply.choices[0].message
        if not message.tool_calls:
            return str(message.content)
        messages.append(message)
        for call in message.tool_calls:
            _, work = SPECIALISTS[call.function.name.removeprefix("transfer_to_")]
            answer = work(str(json.loads(call.function.arguments).get("request", question)))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": answer})
    return f"I stopped after {MAX_TURNS} turns without an answer."


@exercise_command("8.1a", llm="mock")
def main(backend: BackendOptions) -> None:
    if backend.llm_type == "mock" and not backend.model:
        backend = replace(backend, model="mock-large")  # the small one stops after its first hand-off
    with open_backend(backend) as llm:
        mlflow.openai.autolog(silent=True)
        answer = coordinate(QUESTION, llm)
    click.echo(answer)


if __name__ == "__main__":
    main()
