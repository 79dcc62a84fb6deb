"""4.2a Sharpen the descriptions of two tools until the model chooses the right one.

The two tools work, and the model calls neither, because their descriptions say nothing. Write SHARPER without touching
the tools, their names or the questions, so that more questions reach the tool that they need than with VAGUE.

Run it:   uv run python genai/exercises/sharper_tool.py
          uv run python genai/exercises/sharper_tool.py --llm-type ollama
Check:    uv run mlflow-learn check 4.2a
Look at:  uv run mlflow ui  ->  4-agents  ->  Traces  ->  choose-tool: which TOOL span does each question have?
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/listing/langgraph/
"""

from collections.abc import Callable
from typing import Any

import click
import mlflow
from mlflow.entities import SpanType

from utils.document_search import DocumentSearch
from utils.exercise_cli import exercise_command
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.sample_documents import CORPUS
from utils.unit_conversion import convert_units

QUESTIONS = {  # question → the tool that it needs
    "What is 12 miles in km?": "measure",
    "Convert 3 pounds to kg.": "measure",
    "How many minutes are 4 hours?": "measure",
    "Which documents mention VACUUM?": "papers",
    "Search the documents for jitter.": "papers",
    "Find the documents that mention HNSW.": "papers",
}
VAGUE = {"measure": "Does what is needed.", "papers": "Does what is needed."}
# Your turn: say what each tool does, when to use it, and, where they could be taken for each other, when not to.
SHARPER = dict(VAGUE)


def build_agent(llm: Backend, descriptions: dict[str, str]) -> Any:
    from langchain.agents import create_agent
    from langchain_core.tools import StructuredTool

    search = DocumentSearch(CORPUS)

    def papers(keywords: str) -> str:
        return "; ".join(hit.document for hit in search.search(keywords)) or "nothing found"

    made: dict[str, Callable[..., str]] = {"measure": convert_units, "papers": papers}
    tools = [StructuredTool.from_function(made[n], name=n, description=text) for n, text in descriptions.items()]
    return create_agent(llm.chat_model(), tools, name="choose-tool")


@mlflow.trace(name="choose-tool", span_type=SpanType.AGENT)
def ask(agent: Any, question: str, needs: str) -> str:  # noqa: ARG001 `needs` is read from the trace by the check
    return str(agent.invoke({"messages": [{"role": "user", "content": question}]})["messages"][-1].text)


@exercise_command("4.2a", llm="mock")
def main(backend: BackendOptions) -> None:
    mlflow.langchain.autolog()
    with open_backend(backend) as llm:
        for name, descriptions in (("vague", VAGUE), ("sharper", SHARPER)):
            with mlflow.start_run(run_name=name):
                mlflow.log_params(descriptions)
                agent = build_agent(llm, descriptions)
                for question, needs in QUESTIONS.items():
                    ask(agent, question=question, needs=needs)
    click.echo(f"Asked {len(QUESTIONS)} questions with each set of descriptions")


if __name__ == "__main__":
    main()
