"""4.1a Give an agent a tool of your own, and find its call in the trace.

The agent has a calculator, and the question is about a file that no model has read. Write a tool that opens the file
and counts its words, give it to the agent, and let the answer say what the tool returned.

Run it:   uv run python genai/exercises/own_tool.py
          uv run python genai/exercises/own_tool.py --llm-type ollama
Check:    uv run mlflow-learn check 4.1a
Look at:  uv run mlflow ui  ->  4-agents  ->  Traces  ->  count-agent: the TOOL span, its input and its output
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/listing/langgraph/
"""

from typing import Any

import click
import mlflow
from mlflow.entities import SpanType

from utils.calculator import calculate
from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.questions import read_texts
from utils.sample_documents import CORPUS

QUESTION = "How many words has the document costs.txt?"
TEXTS = read_texts(CORPUS)  # the sample documents by file name


def build_agent(llm: Backend) -> Any:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    @tool
    def calculator(expression: str) -> str:
        """Evaluate an arithmetic expression, such as 3 * (4 + 5)."""
        return calculate(expression)

    # Your turn (1): write a tool that takes the name of a document and returns how many words TEXTS has for it.
    #                What does it return for a name that is not there? The model reads it and may try again.
    # Your turn (2): give it to the agent beside the calculator.
    return create_agent(llm.chat_model(), [calculator], name="count-agent")


@mlflow.trace(name="count-agent", span_type=SpanType.AGENT)
def ask(agent: Any, question: str) -> str:
    return str(agent.invoke({"messages": [{"role": "user", "content": question}]})["messages"][-1].text)


@exercise_command("4.1a", llm="mock")
def main(backend: BackendOptions) -> None:
    mlflow.langchain.autolog()
    with open_backend(backend) as llm:
        click.echo(ask(build_agent(llm), QUESTION))


if __name__ == "__main__":
    main()
