"""4.1 An agent that answers from the sample documents: one request is one trace of several steps.

New here: an agent is a loop. The model asks for a tool, reads the result, and asks again or answers; each is a span.
Run it:   uv run mlflow-simple-agent
          uv run mlflow-simple-agent --query "Which stage does a deleted run move to?" --user ada
          uv run mlflow-simple-agent --model mock-large
          uv run mlflow-simple-agent --docs-path my_documents --questions my_questions.csv
Look at:  uv run mlflow ui  ->  4-agents  ->  Traces: open answer-question, and its Sessions page
Change:   take calculator out of the tools in build_agent; what does the trace of the last question show now?
Docs:     https://mlflow.org/docs/latest/genai/tracing/integrations/listing/langgraph/
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
import mlflow
from mlflow.entities import LoggedModel, SpanType, Trace

from utils.agent_setup import Request, ask_once, priced_spans, read_request, sum_requests
from utils.calculator import calculate
from utils.cli import Steps, lesson, show, show_table, track
from utils.document_files import list_documents
from utils.document_index import DocumentIndex, open_index
from utils.evaluation import expected_in_answer, is_declined
from utils.lesson_context import current_tags
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions, EmbedOptions
from utils.pricing import describe_price
from utils.prompt_utils import use_alias
from utils.questions import NO_ANSWER, OWN, Question, choose_questions
from utils.sample_documents import CORPUS
from utils.span_tree import tree_lines

NAME, PROMPT, ALIAS = "simple-agent", "document-agent", "production"
SYSTEM = """You answer questions from a folder of documents about MLflow.
Look up what you need with search_passages, and use calculator for arithmetic.
Answer in one or two sentences from what the tools returned.
If the documents do not hold the answer, say: I do not know."""
TWO_STEPS = Question(  # the second tool needs what the first one found
    id="two-steps",
    question="How many characters may a parameter value have before it is truncated, and what is that divided by 4?",
    gold_document="tracking_store.md",
    gold_sentence="Parameter values longer than 6000 characters are truncated.",
    expected_answer="1500",
    kind="two-steps",
)
MAX_STEPS = 16  # model and tool turns of one request; a loop of tool calls ends here
GAVE_UP = f"I stopped after {MAX_STEPS} steps without an answer."


@dataclass(frozen=True)
class Outcome:
    run_id: str
    model_id: str
    trace_ids: list[str]
    metrics: dict[str, float]


def build_agent(llm: Backend, index: DocumentIndex, top_k: int) -> Any:
    """A model with two tools. Their names, descriptions and arguments are all that the model knows of them."""
    from langchain.agents import create_agent
    from langchain_core.tools import tool

    @mlflow.trace(name="retrieve", span_type=SpanType.RETRIEVER)
    def retrieve(question: str) -> list[dict[str, Any]]:
        return [passage.as_page() for passage in index.retrieve(question, top_k)]

    @tool
    def search_passages(question: str) -> str:
        """Search the documents for passages that answer a question; each comes with its file name."""
        pages = retrieve(question)
        return "\n\n".join(f"[{page['metadata']['doc_uri']}] {page['page_content']}" for page in pages)

    @tool
    def calculator(expression: str) -> str:
        """Evaluate an arithmetic expression, such as 3 * (4 + 5)."""
        return calculate(expression)

    return create_agent(llm.chat_model(), [search_passages, calculator], name=NAME)


def make_ask(agent: Any, prompt_uri: str, session: str, user: str) -> Callable[[str], str]:
    """The function that serves one request: its span is the root of the trace."""
    from langgraph.errors import GraphRecursionError

    @mlflow.trace(name="answer-question", span_type=SpanType.AGENT)
    def answer_question(question: str) -> str:
        mlflow.update_current_trace(session_id=session, user=user)
        prompt = mlflow.genai.load_prompt(prompt_uri)  # loaded inside the trace, the version is linked to it
        messages = [{"role": "system", "content": prompt.format()}, {"role": "user", "content": question}]
        try:
            said = agent.invoke({"messages": messages}, {"recursion_limit": MAX_STEPS})["messages"][-1]
        except GraphRecursionError:
            return GAVE_UP
        return str(said.text)

    return answer_question


def create_version(llm: Backend, prompt_uri: str, index: DocumentIndex, top_k: int) -> LoggedModel:
    """What this agent is made of, as a logged model: traces made while it is active belong to it."""
    prompt = mlflow.genai.load_prompt(prompt_uri, cache_ttl_seconds=0)
    params = {"prompt": prompt.uri, "llm_model": llm.model, "top_k": str(top_k), "passages": str(index.passages)}
    return mlflow.create_external_model(name=NAME, params=params, tags=current_tags(), model_type="agent")


def explain(trace: Trace) -> Iterator[str]:
    """The steps of a trace in words, as a person reads them off its spans."""
    for span in sorted(trace.data.spans, key=lambda span: span.start_time_ns):
        if span.span_type in (SpanType.CHAT_MODEL, SpanType.RETRIEVER) and span.outputs is None:
            yield f"{span.name} failed"
        elif span.span_type == SpanType.CHAT_MODEL:
            message = span.outputs["choices"][0]["message"] if "choices" in span.outputs else span.outputs
            calls = message.get("tool_calls") or []
            names = ", ".join(str(call["function"]["name"]) for call in calls)
            yield (
                f"the model asks for {names}"
                if names
                else f"the model answers: {shorten(message.get('content') or '', 90, placeholder=' …')}"
            )
        elif span.span_type == SpanType.RETRIEVER:
            found = Counter(page["metadata"]["doc_uri"] for page in span.outputs)
            yield f"  the index gives {', '.join(f'{name} ({number})' for name, number in found.items())}"
        elif span.span_type == SpanType.TOOL:
            yield f"  {span.name} gets {shorten(str(span.inputs), 90, placeholder=' …')}"


def is_right(question: Question, answer: str) -> bool | None:
    """None where nobody said what the right answer is."""
    if question.kind == OWN and not question.expected_answer:
        return None
    if question.expected_answer == NO_ANSWER:
        return is_declined(answer)
    return expected_in_answer(answer, question.expected_answer) and not is_declined(answer)


def show_requests(questions: list[Question], requests: list[Request], right: list[bool | None]) -> None:
    show_table(
        [
            {
                "question": shorten(question.question, 52, placeholder=" …"),
                "tools": ", ".join(request.tools) or "none",
                "model calls": request.model_calls,
                "tokens": request.tokens,
                "USD": None if request.cost_usd is None else f"{request.cost_usd:.6f}",
                "ms": int(request.latency_ms),
                "right": "failed" if request.failed else correct,
            }
            for question, request, correct in zip(questions, requests, right, strict=True)
        ]
    )


def run(
    llm: Backend, index: DocumentIndex, questions: list[Question], top_k: int, user: str, session: str | None
) -> Outcome:
    steps = Steps(4)
    mlflow.langchain.autolog()  # spans for the graph, the model and the tools; ours are the root and the retriever
    prompt_uri = use_alias(PROMPT, ALIAS, SYSTEM, commit_message="Look it up, then answer")
    with mlflow.start_run(run_name=NAME) as active, priced_spans(llm):
        # 1. The agent, and the version that its traces will name
        model = create_version(llm, prompt_uri, index, top_k)
        ask = make_ask(build_agent(llm, index, top_k), prompt_uri, session or f"{NAME}-{active.info.run_id[:8]}", user)
        steps(f"{index.documents} documents in {index.passages} passages; agent version {model.model_id}")

        # 2. One trace for each request
        with mlflow.set_active_model(model_id=model.model_id):
            trace_ids = [ask_once(ask, question.question) for question in track(questions, "Asking")]
        mlflow.flush_trace_async_logging()
        steps(f"Asked {len(questions)} questions as {user}")

        # 3. The last one, step by step, read back from the store
        traces = [mlflow.get_trace(trace_id) for trace_id in trace_ids]
        steps(f"The trace of: {questions[-1].question}")
        for line in (*tree_lines(traces[-1]), "", *explain(traces[-1])):
            click.echo(f"      {line}".rstrip())

        # 4. What it took, each figure from the traces
        requests = [read_request(trace) for trace in traces]
        right = [is_right(question, r.answer) for question, r in zip(questions, requests, strict=True)]
        judged = [correct for correct in right if correct is not None]
        metrics = sum_requests(requests) | ({"right": sum(judged) / len(judged)} if judged else {})
        mlflow.log_metrics(metrics, model_id=model.model_id)
        steps(f"What each request took ({describe_price(llm.model, llm.llm_type)})")
        show_requests(questions, requests, right)
    return Outcome(active.info.run_id, model.model_id, trace_ids, metrics)


@lesson("4.1", llm="mock", embed=True)
@click.option("--query", help="A question of your own, instead of the sample ones.")
@click.option("--questions", type=click.Path(path_type=Path), metavar="FILE", help="Your own questions, CSV or JSONL.")
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
@click.option("--num-questions", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--top-k", type=click.IntRange(min=1), default=3, show_default=True, help="Passages a search returns.")
@click.option("--user", default="ada", show_default=True, help="Who asks; traces can be searched by it.")
@click.option("--session", help="Traces of one conversation share it; default: one for each run.")
def main(
    query: str | None, questions: Path | None, docs_path: Path, num_questions: int, top_k: int, user: str,
    session: str | None, backend: BackendOptions, embedding: EmbedOptions,
) -> None:  # fmt: skip
    names = {file.name for file in list_documents(docs_path)}
    _, asked = choose_questions(names, questions, query, num_questions)
    if not query and not questions and TWO_STEPS.gold_document in names:
        asked = [*asked, TWO_STEPS]
    with open_backend(backend) as llm:
        outcome = run(llm, open_index(docs_path, llm, embedding), asked, top_k, user, session)
    measured: dict[str, Any] = {"agent_version": outcome.model_id, **outcome.metrics}
    if (cost := outcome.metrics.get("cost_usd")) is not None:
        measured["cost_usd"] = f"{cost:.6f}"  # a few requests cost less than a table with three decimals can show
    show("4.1", measured, run_id=outcome.run_id, trace_id=outcome.trace_ids[-1], trace_ids=len(outcome.trace_ids))


if __name__ == "__main__":
    main()
