"""Exercise 4.1a solved: give an agent a tool of your own, and find its call in the trace.

Begin with:  genai/exercises/own_tool.py
Run it:      uv run python tests/solutions/own_tool.py
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

    @tool
    def count_words(document: str) -> str:
        """Count the words of a document, given its file name."""
        if document not in TEXTS:
            return f"error: there is no document {document}; there are {', '.join(TEXTS)}"
        return f"The document {document} has {len(TEXTS[document].split())} words."

    return create_agent(llm.chat_model(), [calculator, count_words], name="count-agent")


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
