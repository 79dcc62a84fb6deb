"""4.4a Give up a slow tool in time, and answer all the same.

The warehouse needs four seconds for each question, and nobody waits that long. Give it half a second. The tool's span
must show the exception, and the agent must still answer, saying that the tool failed.

Run it:   uv run python genai/exercises/slow_tool.py
Check:    uv run mlflow-learn check 4.4a
Look at:  uv run mlflow ui  ->  4-agents  ->  Traces  ->  stock-question: how long is the span find_stock?
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/listing/langgraph/
"""

import time
from typing import Any

import click
import mlflow
from mlflow.entities import SpanType

from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions

QUESTION = 'Find the stock of "teapots".'
PATIENCE = 0.5  # seconds


def ask_warehouse(item: str) -> str:
    """A service that you cannot change."""
    time.sleep(4)
    return f"There are 12 {item} in stock."


def build_agent(llm: Backend) -> Any:
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    @tool
    def find_stock(item: str) -> str:
        """Find how many pieces of an item are in stock."""
        # Your turn (1): wait for the warehouse no longer than PATIENCE; see utils.time_limits.
        return ask_warehouse(item)

    # Your turn (2): a middleware around the tools that turns an exception into a text for the model.
    return create_agent(llm.chat_model(), [find_stock])


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
