"""8.8 The same agent and the same tasks through LangChain, PydanticAI and smolagents.

New here: a framework is a loop around the same calls. What it adds to the prompt, and what its autolog sees, differs.
Run it:   uv run --extra frameworks mlflow-agent-frameworks
          uv run --extra frameworks mlflow-agent-frameworks --limit 3 --model mock-small
          uv run --extra frameworks mlflow-agent-frameworks --llm-type ollama --ollama-model llama3.2 --limit 3
Look at:  uv run mlflow ui  ->  8-advanced  ->  Traces: tick the same question of two frameworks, and press Compare
Change:   take mlflow.openai.autolog from smolagents in FRAMEWORKS; what does the lesson say to that?
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import mlflow
from mlflow.entities import SpanType, Trace

from utils.agent_setup import check_answered, priced_spans
from utils.agent_tasks import Task, load_tasks
from utils.calculator import calculate
from utils.cli import Steps, lesson, show, show_table, track
from utils.document_search import DocumentSearch
from utils.errors import CheckFailed, InputError
from utils.lesson_context import current_tags
from utils.llm_backends import Backend, open_backend
from utils.loader import require
from utils.model_servers import describe_failed_call
from utils.options import BackendOptions
from utils.pricing import Usage, cost_usd, describe_price
from utils.prompt_utils import use_alias
from utils.sample_documents import CORPUS
from utils.span_tree import duration_ms, roots

PROMPT = "frameworks-agent"
SYSTEM = """You answer with the help of tools: calculator for arithmetic, search_documents for what stands in documents.
Say in one or two sentences what the tools returned, and name the sources in square brackets."""
MAX_TURNS = 8  # of the model, for each task
Tool = Callable[[str], str]
Ask = Callable[[str], str]


def make_tools(search: DocumentSearch) -> list[Tool]:
    """Plain functions: each framework reads their names, types and docstrings."""

    def calculator(expression: str) -> str:
        """Calculate an arithmetic expression.

        Args:
            expression: numbers and operators, such as (17 + 5) / 4
        """
        return calculate(expression)

    def search_documents(words: str) -> str:
        """Search which documents mention certain words; returns their names, titles and snippets.

        Args:
            words: the words to look for
        """
        hits = [{"source": hit.document, "title": hit.title, "text": hit.snippet} for hit in search.search(words)]
        return json.dumps(hits) if hits else "no document mentions these words"

    return [calculator, search_documents]


def langchain(llm: Backend, system: str, tools: list[Tool]) -> tuple[Ask, tuple[type[Exception], ...]]:
    from langchain.agents import create_agent
    from langgraph.errors import GraphRecursionError

    agent = create_agent(llm.chat_model(), tools, system_prompt=system)

    def ask(question: str) -> str:
        messages: Any = {"messages": [{"role": "user", "content": question}]}
        return str(agent.invoke(messages, {"recursion_limit": 2 * MAX_TURNS})["messages"][-1].text)

    return ask, (GraphRecursionError,)


def pydantic_ai(llm: Backend, system: str, tools: list[Tool]) -> tuple[Ask, tuple[type[Exception], ...]]:
    from pydantic_ai import Agent, UsageLimits
    from pydantic_ai.exceptions import AgentRunError
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=llm.settings.base_url, api_key=llm.settings.api_key)
    agent = Agent(OpenAIChatModel(llm.model, provider=provider), system_prompt=system, tools=tools)
    limits = UsageLimits(request_limit=MAX_TURNS)
    return lambda question: str(agent.run_sync(question, usage_limits=limits).output), (AgentRunError,)


def smolagents(llm: Backend, system: str, tools: list[Tool]) -> tuple[Ask, tuple[type[Exception], ...]]:
    from smolagents import OpenAIModel, ToolCallingAgent, tool
    from smolagents.utils import AgentError

    model = OpenAIModel(llm.model, api_base=llm.settings.base_url, api_key=llm.settings.api_key)
    agent = ToolCallingAgent(
        tools=[tool(each) for each in tools],
        model=model,
        max_steps=MAX_TURNS,
        verbosity_level=0,
        instructions=system,  # added to the framework's own system prompt, which stays
    )
    return lambda question: str(agent.run(question)), (AgentError,)


# Each with the autologs that see its calls once: smolagents leaves its model calls to the SDK that makes them.
FRAMEWORKS: dict[
    str, tuple[Callable[..., tuple[Ask, tuple[type[Exception], ...]]], tuple[Callable[..., None], ...]]
] = {
    "langchain": (langchain, (mlflow.langchain.autolog,)),
    "pydantic-ai": (pydantic_ai, (mlflow.pydantic_ai.autolog,)),
    "smolagents": (smolagents, (mlflow.smolagents.autolog, mlflow.openai.autolog)),
}


@dataclass(frozen=True)
class Row:
    """One framework over all tasks: right answers, tokens of the traces and of the server, spans, latency."""

    right: list[bool]
    failed: int
    prompt_tokens: int
    completion_tokens: int
    served_tokens: int | None  # other servers than the mock are not asked
    cost_usd: float | None
    spans: int
    latency_p50_ms: float
    trace_id: str


def ask_task(
    name: str, ask: Ask, errors: tuple[type[Exception], ...], question: str, session_id: str
) -> tuple[str, bool]:
    """One task, one trace with one root, around whatever spans the framework's autolog makes."""
    with mlflow.start_span("frameworks-agent", span_type=SpanType.AGENT) as root:
        mlflow.update_current_trace(session_id=session_id, user="learner", tags={"framework": name})
        mlflow.genai.load_prompt(f"prompts:/{PROMPT}@production")  # inside the trace: linked to the version
        root.set_inputs({"question": question})
        try:
            answer, failed = ask(question), False
        except Exception as error:
            reason = describe_failed_call(error) or (str(error) if isinstance(error, errors) else None)
            if reason is None:
                raise
            root.record_exception(f"{name} gave no answer: {reason}")
            answer, failed = f"I cannot answer: {reason}", True
        root.set_outputs({"answer": answer})
    return answer, failed


def measure(llm: Backend, name: str, system: str, tools: list[Tool], tasks: Sequence[Task], session_id: str) -> Row:
    """All tasks through one framework, with its own autologs on and nobody else's."""
    build, autologs = FRAMEWORKS[name]
    for autolog in autologs:
        autolog(silent=True)  # before the framework's objects are made: some look for it only then
    try:
        ask, errors = build(llm, system, tools)
        before = llm.server.counts if llm.server else None
        pairs = [ask_task(name, ask, errors, task.question, session_id) for task in track(tasks, name)]
        after = llm.server.counts if llm.server else None
    finally:
        for autolog in autologs:
            autolog(disable=True, silent=True)
    served = None
    if before and after:
        served = sum(getattr(after, k) - getattr(before, k) for k in ("prompt_tokens", "completion_tokens"))
    mlflow.flush_trace_async_logging()
    found = f"tags.framework = '{name}' AND metadata.`mlflow.trace.session` = '{session_id}'"
    traces = mlflow.search_traces(filter_string=found, max_results=500, return_type="list")
    check_traces(name, traces, len(tasks))
    row = read_back(llm, tasks, pairs, traces, served)
    if served not in (None, row.prompt_tokens + row.completion_tokens):
        raise CheckFailed(
            f"{name}: its traces hold {row.prompt_tokens + row.completion_tokens} tokens, the server counted {served}",
            "see that one autolog, and only one, sees each model call",
        )
    return row


def check_traces(name: str, traces: Sequence[Trace], asked: int) -> None:
    """Whatever the framework, a task is one trace with one root, and its model calls are in it.

    Raises:
        CheckFailed: a task left no trace, one with several roots, or one without tokens.
    """
    silent = sum(trace.info.token_usage is None and trace.info.state == "OK" for trace in traces)
    several = sum(len(roots(trace)) != 1 for trace in traces)
    if len(traces) != asked or several or silent:
        raise CheckFailed(
            f"{name}: {asked} tasks left {len(traces)} traces, {several} without one root, {silent} without tokens",
            "see that one autolog, and only one, sees each model call",
        )


def read_back(
    llm: Backend, tasks: Sequence[Task], pairs: Sequence[tuple[str, bool]], traces: Sequence[Trace], served: int | None
) -> Row:
    usages = [trace.info.token_usage or {} for trace in traces]
    sent, said = (sum(usage.get(key, 0) for usage in usages) for key in ("input_tokens", "output_tokens"))
    return Row(
        [task.right(answer) and not failed for task, (answer, failed) in zip(tasks, pairs, strict=True)],
        sum(failed for _, failed in pairs),
        sent,
        said,
        served,
        cost_usd(Usage(sent, said), llm.model, llm.llm_type),
        sum(len(trace.data.spans) for trace in traces),
        statistics.median(duration_ms(roots(trace)[0]) for trace in traces),
        traces[0].info.trace_id,
    )


def describe(name: str, row: Row) -> dict[str, object]:
    return {
        "framework": name,
        "right": f"{sum(row.right)} of {len(row.right)}",
        "failed": row.failed,
        "prompt tokens": row.prompt_tokens,
        "reply tokens": row.completion_tokens,
        "served": row.served_tokens,
        "cost USD": None if row.cost_usd is None else f"{row.cost_usd:.6f}",
        "spans": row.spans,
        "p50 ms": row.latency_p50_ms,
    }


def run(llm: Backend, search: DocumentSearch, tasks: Sequence[Task]) -> tuple[str, str, dict[str, float]]:
    steps = Steps(2 + len(FRAMEWORKS))
    uri = use_alias(PROMPT, "production", SYSTEM, commit_message="One agent, three frameworks")
    params = {"llm_model": llm.model, "frameworks": ", ".join(FRAMEWORKS), "max_turns": str(MAX_TURNS)}
    model = mlflow.create_external_model(
        name="frameworks-agent", params=params, tags=current_tags(), model_type="agent"
    )
    with (
        mlflow.start_run(run_name="agent-frameworks") as active,
        mlflow.set_active_model(model_id=model.model_id),
        priced_spans(llm),
    ):
        # 1. One prompt, two tools, the same tasks for all
        system, tools = str(mlflow.genai.load_prompt(uri).template), make_tools(search)
        steps(f"{len(tasks)} tasks, {len(tools)} tools, prompt {uri}, {llm.llm_type} {llm.model}")

        # 2. Each framework by itself
        rows = {}
        for name in FRAMEWORKS:
            rows[name] = measure(llm, name, system, tools, tasks, f"frameworks-{active.info.run_id[:8]}")
            steps(f"{name}: {sum(rows[name].right)} of {len(tasks)} right, {rows[name].spans} spans")

        check_answered(len(rows) * len(tasks), sum(row.failed for row in rows.values()))

        # 3. Side by side
        table = [describe(name, row) for name, row in rows.items()]
        steps(f"Side by side; cost: {describe_price(llm.model, llm.llm_type)}")
        show_table(table)
        mlflow.log_table({key: [line[key] for line in table] for key in table[0]}, "frameworks.json")
        mlflow.log_params(params)
        metrics: dict[str, float] = {}
        for name, row in rows.items():
            metrics |= {f"{name}.right": sum(row.right) / len(tasks), f"{name}.spans": row.spans}
            metrics |= {f"{name}.tokens": row.prompt_tokens + row.completion_tokens}
            metrics |= {f"{name}.failed": row.failed, f"{name}.latency_p50_ms": row.latency_p50_ms}
            metrics |= {f"{name}.cost_usd": row.cost_usd} if row.cost_usd is not None else {}
        mlflow.log_metrics(metrics, model_id=model.model_id)
    return active.info.run_id, rows["smolagents"].trace_id, metrics


def choose_tasks(path: Path | None, limit: int) -> list[Task]:
    """Tasks that these two tools can solve, and those that need none."""
    known = {"calculator", "search"}
    tasks = [task for task in load_tasks((*known, "rag"), path) if set(task.parts) <= known]
    if not tasks:
        raise InputError(f"{path} holds no task for calculator and search", '"parts": {"calculator": "42"}')
    return tasks[:limit]


@lesson("8.8", llm="mock")
@click.option("--tasks", "tasks_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Your own tasks, JSONL: question, and parts by tool (calculator, search).")  # fmt: skip
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Tasks, at most.")
def main(tasks_file: Path | None, docs_path: Path, limit: int, backend: BackendOptions) -> None:
    require("pydantic_ai", extra="frameworks")
    require("smolagents", extra="frameworks")
    if backend.llm_type == "mock" and not backend.model:
        backend = replace(backend, model="mock-large")  # the small one stops after its first call
    tasks, search = choose_tasks(tasks_file, limit), DocumentSearch(docs_path)
    with open_backend(backend) as llm:
        run_id, trace_id, metrics = run(llm, search, tasks)
    show("8.8", metrics, run_id=run_id, trace_id=trace_id)


if __name__ == "__main__":
    main()
