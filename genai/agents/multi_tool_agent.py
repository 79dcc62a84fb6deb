"""4.2 An agent with seven tools, one of them in another process: which tool, which arguments, which answer.

New here: right tool, right arguments and right answer are judged apart, by scorers that read the trace.
Run it:   uv run mlflow-multi-tool-agent
          uv run mlflow-multi-tool-agent --model mock-large
          uv run mlflow-multi-tool-agent --mcp-down
          uv run mlflow-multi-tool-agent --num-tasks 12 --no-ablation --llm-type ollama
Look at:  uv run mlflow ui  ->  4-agents  ->  Evaluation runs: all-tools, and its row for a task that went wrong
Change:   shorten the docstring of convert_units to "Units."; which of the three scores falls, and on which tasks?
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/scorers/custom/
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
from mlflow.entities import SpanType, Trace

from utils import dates, unit_conversion
from utils.agent_setup import priced_spans, read_request, sum_requests, tool_calls
from utils.calculator import calculate
from utils.cli import Steps, lesson, show, show_table, track
from utils.document_index import DocumentIndex, open_index
from utils.document_search import DocumentSearch
from utils.genai_evaluation import quiet_evaluation, read_rows
from utils.lesson_context import current_tags, tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.local_services import ServiceUnavailable
from utils.mcp_tools import load_mcp_tools
from utils.model_servers import describe_failed_call
from utils.options import BackendOptions, EmbedOptions
from utils.price_server import closed_address, price_server
from utils.pricing import describe_price
from utils.prompt_utils import use_alias
from utils.questions import spread
from utils.sample_documents import CORPUS
from utils.tool_tables import describe_calls, failure_rows, kind_rows, tool_rows
from utils.tool_tasks import Scored, Task, are_right_arguments, is_right_answer, is_right_tool, load_tasks, shares

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

NAME, ALIAS, TOP_K = "multi-tool-agent", "production", 3
AGENT_PROMPT, ANSWER_PROMPT = "tool-agent", "document-answer"
SYSTEM = """You are an assistant with tools. Use a tool where it fits the request, and none for small talk.
Where a step needs the result of another, call one tool after the other.
Answer from what the tools returned; where a tool says error, say so."""
FROM_PASSAGES = """Answer the question from the passages only, in one or two sentences.
If they do not hold the answer, say: I do not know.

Passages:
{{passages}}

Question: {{question}}"""
MAX_STEPS = 16  # model and tool turns of one request
GAVE_UP = f"I stopped after {MAX_STEPS} steps without an answer."
SHOWN_FAILURES, SHOWN_CALLS = 5, 2
SCORERS = ("right_tool", "right_arguments", "right_answer")


@dataclass(frozen=True)
class Outcome:
    run_id: str
    evaluation_id: str
    scored: list[Scored]
    taken_away: list[dict[str, Any]]
    metrics: dict[str, float]


# --- The tools. A model sees their names, their docstrings and their arguments; no two do the same job.


def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression, such as 3 * (4 + 5)."""
    return calculate(expression)


def days_between(start: str, end: str) -> str:
    """Count the days between two dates, given as YYYY-MM-DD."""
    return dates.days_between(start, end)


def add_days(start: str, days: int) -> str:
    """Find the calendar date that lies a number of days after a date (YYYY-MM-DD), or before it if negative."""
    return dates.add_days(start, days)


def convert_units(value: float, from_unit: str, to_unit: str) -> str:
    """Convert a value from one unit of measure to another, such as miles to km."""
    return unit_conversion.convert_units(value, from_unit, to_unit)


def document_tools(llm: Backend, search: DocumentSearch, index: DocumentIndex) -> list[Callable[..., Any]]:
    """Two tools over the same folder: one finds documents, the other answers from their passages."""
    prompt_uri = use_alias(ANSWER_PROMPT, ALIAS, FROM_PASSAGES, needs=("passages", "question"))
    model = llm.chat_model()

    @mlflow.trace(name="retrieve", span_type=SpanType.RETRIEVER)
    def retrieve(question: str) -> list[dict[str, Any]]:
        return [passage.as_page() for passage in index.retrieve(question, TOP_K)]

    def find_documents(keywords: str) -> list[dict[str, str]]:
        """Search the documents by keywords; returns the titles and snippets of those that mention them."""
        return [{"document": h.document, "title": h.title, "snippet": h.snippet} for h in search.search(keywords)]

    def ask_documents(question: str) -> dict[str, Any]:
        """Answer a question about MLflow, LLMs and retrieval from the documents, with the sources of the answer."""
        pages = retrieve(question)
        passages = "\n\n".join(f"[{page['metadata']['doc_uri']}] {page['page_content']}" for page in pages)
        filled = mlflow.genai.load_prompt(prompt_uri).format(passages=passages, question=question)
        sources = list(dict.fromkeys(page["metadata"]["doc_uri"] for page in pages))
        return {"answer": model.invoke(str(filled)).text, "sources": sources}

    return [find_documents, ask_documents]


@contextmanager
def mcp_tools(down: bool) -> Iterator[list["BaseTool"]]:
    """The tools of the price server, which is started for it and stopped; none, and said so, when it is down."""
    if not down:
        with price_server() as url:
            yield load_mcp_tools(url)
        return
    try:
        tools = load_mcp_tools(closed_address())
    except ServiceUnavailable as error:
        click.echo(f"The price server is down: {error.problem}. Going on without model_price.", err=True)
        tools = []
    yield tools


# --- The agent, and how it is judged


def make_ask(llm: Backend, tools: list["BaseTool"], prompt_uri: str, session: str, user: str) -> Callable[..., str]:
    """The function that serves a request; `row` finds its scores again."""
    from langchain.agents import create_agent
    from langgraph.errors import GraphRecursionError

    agent: Any = create_agent(llm.chat_model(), tools, name=NAME)

    @tagged_in_threads
    @mlflow.trace(name="answer-task", span_type=SpanType.AGENT)
    def answer_task(row: int, question: str) -> str:  # noqa: ARG001
        mlflow.update_current_trace(session_id=session, user=user)
        prompt = mlflow.genai.load_prompt(prompt_uri)
        messages = [{"role": "system", "content": prompt.format()}, {"role": "user", "content": question}]
        try:
            return str(agent.invoke({"messages": messages}, {"recursion_limit": MAX_STEPS})["messages"][-1].text)
        except GraphRecursionError:
            return GAVE_UP

    def served(row: int, question: str) -> str:
        """A request on which the model's server fails is a failed trace and a wrong answer, not the end of the job."""
        try:
            return answer_task(row, question)
        except Exception as error:
            if not (reason := describe_failed_call(error)):
                raise
            return f"failed: {reason}"

    return served


def make_scorers(tasks: list[Task]) -> list[Any]:
    """Three scorers; the first two read the calls from the trace, as the store has it."""
    by_id = {task.id: task for task in tasks}

    @mlflow.genai.scorer
    def right_tool(trace: Trace, expectations: dict[str, Any]) -> bool:
        return is_right_tool(by_id[expectations["task"]], tool_calls(trace))

    @mlflow.genai.scorer
    def right_arguments(trace: Trace, expectations: dict[str, Any]) -> bool:
        return are_right_arguments(by_id[expectations["task"]], tool_calls(trace))

    @mlflow.genai.scorer
    def right_answer(outputs: str, expectations: dict[str, Any]) -> bool:
        return is_right_answer(by_id[expectations["task"]], outputs)

    return [right_tool, right_arguments, right_answer]


def evaluate(
    llm: Backend, name: str, tools: list["BaseTool"], tasks: list[Task], user: str
) -> tuple[str, list[Scored]]:
    """One evaluation run of an agent with these tools: its id, and each task's scores as the store has them."""
    prompt_uri = use_alias(AGENT_PROMPT, ALIAS, SYSTEM, commit_message="Tools where they fit, none for small talk")
    rows = [
        {"inputs": {"row": row, "question": task.question}, "expectations": {"task": task.id}}
        for row, task in enumerate(tasks)
    ]
    params = {"tools": " ".join(tool.name for tool in tools), "llm_model": llm.model, "prompt": prompt_uri}
    model = mlflow.create_external_model(name=NAME, params=params, tags=current_tags(), model_type="agent")
    with mlflow.start_run(run_name=name, nested=True) as active, mlflow.set_active_model(model_id=model.model_id):
        mlflow.log_params({"tools": params["tools"], "tasks": len(tasks)})
        ask = make_ask(llm, tools, prompt_uri, f"{NAME}-{active.info.run_id[:8]}", user)
        with quiet_evaluation():
            mlflow.genai.evaluate(data=rows, predict_fn=ask, scorers=make_scorers(tasks), model_id=model.model_id)
    mlflow.flush_trace_async_logging()
    found = read_rows(active.info.run_id, SCORERS, len(tasks))
    return active.info.run_id, [
        Scored(task, read_request(found[row][0]), **found[row][1]) for row, task in enumerate(tasks)
    ]


# --- What the lesson finds


def take_away(llm: Backend, tools: list["BaseTool"], scored: list[Scored], user: str) -> list[dict[str, Any]]:
    """The ablation: for each tool, the tasks that need it or called it are asked again without it."""
    rows = []
    for gone in track(tools, "Taking a tool away"):
        before = [one for one in scored if gone.name in (*one.task.tools, *one.request.tools)]
        if not before:
            continue
        left = [tool for tool in tools if tool is not gone]
        _, after = evaluate(llm, f"without-{gone.name}", left, [one.task for one in before], user)
        rows.append(
            {
                "without": gone.name,
                "asked again": len(before),
                "right with it": sum(one.right_answer for one in before),
                "right without": sum(one.right_answer for one in after),
                "called instead": describe_calls(after, SHOWN_CALLS),
            }
        )
    return rows


def run(llm: Backend, tools: list["BaseTool"], tasks: list[Task], user: str, ablation: bool) -> Outcome:
    steps = Steps(3 if ablation else 2)
    mlflow.langchain.autolog()
    # evaluate switches on the autolog of every library that is loaded, unless it is told not to: each call twice.
    mlflow.openai.autolog(disable=True)
    mlflow.llama_index.autolog(disable=True)
    names = [tool.name for tool in tools]
    with mlflow.start_run(run_name=NAME) as active, priced_spans(llm):
        # 1. Every task with every tool
        click.echo(f"The agent has {', '.join(names)}")
        run_id, scored = evaluate(llm, "all-tools", tools, tasks, user)
        requests = [one.request for one in scored]
        metrics = sum_requests(requests) | shares(scored)
        cost = f" for {metrics['cost_usd']:.4f} USD" if "cost_usd" in metrics else ""
        steps(f"Asked {len(tasks)} tasks{cost} ({describe_price(llm.model, llm.llm_type)})")
        mlflow.log_metrics(metrics | {f"calls/{name}": sum(r.tools.count(name) for r in requests) for name in names})

        # 2. Right tool, right arguments, right answer
        steps("Scores with 95 % intervals; right arguments where the right tool was called")
        show_table(tool_rows(scored, names))
        show_table(kind_rows(scored))
        show_table(failure_rows(scored)[:SHOWN_FAILURES], f"The first of {len(failure_rows(scored))} that went wrong")

        # 3. Which tools help: the same tasks without each of them
        taken = take_away(llm, tools, scored, user) if ablation else []
        if ablation:
            steps("Each tool taken away")
            show_table(taken)
            mlflow.log_metrics({f"lost/{row['without']}": row["right with it"] - row["right without"] for row in taken})
    return Outcome(active.info.run_id, run_id, scored, taken, metrics)


@lesson("4.2", llm="mock", embed=True)
@click.option("--tasks", type=click.Path(path_type=Path), metavar="FILE", help="Your own tasks, JSONL.")
@click.option("--num-tasks", type=click.IntRange(min=1), help="Fewer tasks, some of each kind; default: all.")
@click.option("--ablation/--no-ablation", default=True, show_default=True, help="Ask again without each tool.")
@click.option("--mcp-down", is_flag=True, help="Leave the price server down; the rest goes on without it.")
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
@click.option("--user", default="ada", show_default=True, help="Who asks; traces can be searched by it.")
def main(
    tasks: Path | None, num_tasks: int | None, ablation: bool, mcp_down: bool, docs_path: Path, user: str,
    backend: BackendOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    from langchain_core.tools import tool

    asked = load_tasks(tasks)
    asked = spread(asked, num_tasks, seed=7) if num_tasks else asked
    search = DocumentSearch(docs_path)
    with open_backend(backend) as llm, mcp_tools(mcp_down) as served:
        documents = document_tools(llm, search, open_index(docs_path, llm, embedding))
        own: list[Callable[..., Any]] = [calculator, days_between, add_days, convert_units, *documents]
        tools = [tool(function.__name__)(function) for function in own]
        outcome = run(llm, [*tools, *served], asked, user, ablation)
    shown = (*SCORERS, "requests", "failed_requests", "model_calls", "tool_calls", "tokens")
    measured: dict[str, Any] = {name: outcome.metrics.get(name) for name in shown}
    show("4.2", measured, run_id=outcome.run_id, trace_id=outcome.scored[0].request.trace_id, trace_ids=len(asked))


if __name__ == "__main__":
    main()
