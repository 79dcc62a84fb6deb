"""Exercise 4.4a solved: a slow tool is given up in time, and the question is answered all the same.

Begin with:  genai/exercises/slow_tool.py
Run it:      uv run python tests/solutions/slow_tool.py
"""

import time
from typing import Any

import click
import mlflow
from mlflow.entities import SpanType

from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.time_limits import OutOfTime, within

QUESTION = 'Find the stock of "teapots".'
PATIENCE = 0.5  # seconds


def ask_warehouse(item: str) -> str:
    """A service that you cannot change."""
    time.sleep(4)
    return f"There are 12 {item} in stock."


def build_agent(llm: Backend) -> Any:
    from langchain.agents import create_agent
    from langchain.agents.middleware import wrap_tool_call
    from langchain_core.messages import ToolMessage
    from langchain_core.tools import tool

    @tool
    def find_stock(item: str) -> str:
        """Find how many pieces of an item are in stock."""
        return within(PATIENCE, ask_warehouse, item)

    @wrap_tool_call
    def as_text(request: Any, handler: Any) -> Any:
        try:
            return handler(request)
        except OutOfTime as error:
            return ToolMessage(f"error: {error}", tool_call_id=request.tool_call["id"], status="error")

    hooks: Any = [as_text]
    return create_agent(llm.chat_model(), [find_stock], middleware=hooks)


@mlflow.trace(name="stock-question", span_type=SpanType.AGENT)
def ask(agent: Any, question: str) -> str:
    return str(agent.invoke({"messages": [{"role": "user", "content": question}]})["messages"][-1].text)


@exercise_command("4.4a", llm="mock")
def main(backend: BackendOptions) -> None:
    mlflow.langchain.autolog(silent=True)
    with open_backend(backend) as llm, mlflow.start_run(run_name="slow-tool"):
        click.echo(ask(build_agent(llm), QUESTION))


if __name__ == "__main__":
    main()
