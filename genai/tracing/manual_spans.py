"""2.3 Spans of your own: every type, attributes, events, errors, streams and async functions.

New here: autolog sees the calls of a framework; what your own code decides is only seen where you open a span.
Run it:   uv run mlflow-manual-spans
          uv run mlflow-manual-spans --filter "span.type = 'GUARDRAIL'"
Look at:  uv run mlflow ui  ->  2-tracing  ->  Traces  ->  answer-question, then press Sessions
Change:   ask for fahrenheit in `research`; which span loses its red mark, and which filter finds one trace fewer?
Docs:     https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/manual-tracing/
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import click
import mlflow
from mlflow.entities import SpanEvent, SpanStatusCode, SpanType, Trace
from mlflow.exceptions import MlflowException
from mlflow.tracing.constant import SpanAttributeKey

from utils.cli import Steps, lesson, show, show_table
from utils.errors import InputError
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import use_alias
from utils.span_tree import tree_lines
from utils.trace_queue import wait_for_prompt_links

PROMPT = "manual-spans-answer"
TEMPLATE = "Answer from the passage only, in one sentence.\n\nPassage: {{passage}}\n\nQuestion: {{question}}"
PASSAGES = {
    "tea.md": "Green tea is brewed at 80 degrees Celsius for two minutes.",
    "bread.md": "Rye bread rests for a day before it is cut.",
    "rice.md": "Rice absorbs one and a half times its volume of water.",
}
QUESTION = "How hot is green tea brewed?"
FILTERS = (
    "trace.status = 'OK'",
    "trace.name = 'answer-question'",
    "tags.story = 'kitchen'",
    "metadata.`mlflow.trace.session` = 'kitchen-1'",
    "metadata.`mlflow.trace.user` = 'ada'",
    "trace.client_request_id = 'request-1'",
    "span.type = 'RERANKER'",
    "span.name = 'convert'",
    "span.attributes.unit LIKE '%furlong%'",
    "trace.text LIKE '%green tea%'",
    "execution_time >= 0",
)


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_ids: dict[str, str]  # of each kind: pipeline, stream, async
    found: dict[str, int]  # traces of this lesson by filter
    spans: int


@mlflow.trace(name="check-question", span_type=SpanType.GUARDRAIL)
def check_question(question: str) -> bool:
    """The decorator: inputs and output are those of the function."""
    return 0 < len(question) < 200


@mlflow.trace(name="remember", span_type=SpanType.MEMORY)
def remember(user: str) -> list[str]:
    return [f"{user} asked about tea yesterday"]


@mlflow.trace(name="embed", span_type=SpanType.EMBEDDING)
def embed(text: str) -> list[str]:
    return sorted(set(text.lower().strip("?").split()))


def retrieve(words: list[str]) -> list[dict]:
    """The context manager: for a part of a function, and for what a page shows as documents."""
    with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
        span.set_inputs({"words": words})
        shared = {name: sum(word in text.lower() for word in words) for name, text in PASSAGES.items()}
        documents = [{"page_content": PASSAGES[n], "metadata": {"source": n, "score": s}} for n, s in shared.items()]
        span.set_attributes({"corpus.documents": len(PASSAGES), "corpus.kind": "kitchen notes"})
        span.set_outputs(documents)
        return documents


@mlflow.trace(name="rerank", span_type=SpanType.RERANKER)
def rerank(documents: list[dict]) -> list[dict]:
    ranked = sorted(documents, key=lambda document: -document["metadata"]["score"])
    span = mlflow.get_current_active_span()
    assert span, "the decorator above opened it"
    span.add_event(SpanEvent("ranked", attributes={"best": ranked[0]["metadata"]["source"]}))
    return ranked


@mlflow.trace(name="convert", span_type=SpanType.TOOL)
def convert(degrees: float, unit: str) -> float:
    """A tool that fails: the exception leaves the span, which keeps it as an event."""
    span = mlflow.get_current_active_span()
    assert span, "the decorator above opened it"
    span.set_attribute("unit", unit)
    return {"fahrenheit": degrees * 9 / 5 + 32}[unit]


def ask_model(llm: Backend, passage: str) -> str:
    """A model call without autolog: what a page counts (tokens, model) is set by hand."""
    prompt = mlflow.genai.load_prompt(f"prompts:/{PROMPT}@production")  # inside a trace: linked to the version
    messages: list[Any] = [{"role": "user", "content": str(prompt.format(passage=passage, question=QUESTION))}]
    with mlflow.start_span("ask-model", span_type=SpanType.CHAT_MODEL) as span:
        span.set_inputs({"messages": messages})
        answer = llm.openai_client().chat.completions.create(model=llm.model, messages=messages, temperature=0)
        span.set_attribute(SpanAttributeKey.MODEL, llm.model)
        if usage := answer.usage:
            counts = {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens}
            span.set_attribute(SpanAttributeKey.CHAT_USAGE, {**counts, "total_tokens": usage.total_tokens})
        span.set_outputs(answer.choices[0].message.content)
        return answer.choices[0].message.content or ""


@mlflow.trace(name="research", span_type=SpanType.AGENT)
def research(llm: Backend, question: str) -> str:
    """An agent's turn: it finds a passage, asks the model, and tries a tool that breaks."""
    documents = rerank(retrieve(embed(question)))
    answer = ask_model(llm, documents[0]["page_content"])
    try:
        convert(80.0, "furlongs")
    except KeyError:  # the span of the tool is red, the question is answered all the same
        answer += " (in Celsius)"
    return answer


@mlflow.trace(name="parse", span_type=SpanType.PARSER)
def parse(answer: str) -> dict[str, str]:
    return {"answer": answer.strip()}


@mlflow.trace(name="judge", span_type=SpanType.EVALUATOR)
def judge(answer: dict[str, str]) -> bool:
    return "80" in answer["answer"]


@mlflow.trace(name="format", span_type=SpanType.TASK)
def format_reply(answer: dict[str, str]) -> str:
    return f"{answer['answer']}\n"


@mlflow.trace(name="assemble", span_type=SpanType.CHAIN)
def assemble(answer: str) -> str:
    parsed = parse(answer)
    judge(parsed)
    return format_reply(parsed)


@mlflow.trace(name="answer-question", span_type=SpanType.WORKFLOW)
def answer_question(llm: Backend) -> str:
    """The root: one request is one trace, whatever its parts are."""
    mlflow.update_current_trace(
        tags={"story": "kitchen"}, session_id="kitchen-1", user="ada", client_request_id="request-1"
    )
    if not check_question(QUESTION):
        return "That is no question."
    remember("ada")
    reply = assemble(research(llm, QUESTION))
    deliver(reply)
    return reply


def deliver(reply: str) -> None:
    """The client API: work first, its span written afterwards with the times that were noted."""
    started_ns = time.time_ns()
    size = len(reply.encode())
    ended_ns = time.time_ns()
    span = mlflow.start_span_no_context(
        "deliver",
        span_type=SpanType.UNKNOWN,
        parent_span=mlflow.get_current_active_span(),
        inputs={"reply": reply},
        start_time_ns=started_ns,
    )
    span.set_status(SpanStatusCode.OK)
    span.end(outputs={"bytes": size}, end_time_ns=ended_ns)


@mlflow.trace(name="stream-answer", span_type=SpanType.LLM, output_reducer="".join)
def stream_answer(llm: Backend) -> Iterator[str]:
    """A generator is one span from its first to its last piece; the reducer makes its pieces one output."""
    for part in llm.chat_model().stream(f"Say in one sentence that you answer this: {QUESTION}"):
        yield part.text


@mlflow.trace(name="look-up", span_type=SpanType.TASK)
async def look_up(name: str) -> str:
    await asyncio.sleep(0.01)
    return PASSAGES[name]


@mlflow.trace(name="look-up-all", span_type=SpanType.WORKFLOW)
async def look_up_all() -> list[str]:
    """Coroutines that run at once: each finds its parent by itself."""
    return list(await asyncio.gather(*(look_up(name) for name in PASSAGES)))


def traced(call, *arguments) -> str:  # type: ignore[no-untyped-def]
    """Run the call to its end and give back the id of the one trace that it left."""
    call(*arguments)
    trace_id = mlflow.get_last_active_trace_id()
    assert trace_id, "the call opens a trace"
    return trace_id


def describe_failures(trace: Trace) -> Iterator[str]:
    """Each failed span with the exception that its event holds."""
    for span in trace.data.spans:
        for event in span.events if span.status.status_code == "ERROR" else ():
            if event.name == "exception":
                kind, message = (event.attributes[f"exception.{part}"] for part in ("type", "message"))
                yield f"{span.name} failed with {kind}: {message}"


def count(filters: tuple[str, ...]) -> dict[str, int]:
    """How many traces of the experiment each filter finds.

    Raises:
        InputError: MLflow does not understand a filter.
    """
    found = {}
    for text in filters:
        try:
            found[text] = len(mlflow.search_traces(filter_string=text, return_type="list"))
        except MlflowException as error:
            raise InputError(f"MLflow cannot search for {text}: {error}", f'--filter "{FILTERS[0]}"') from error
    return found


def run(llm: Backend, own_filters: tuple[str, ...]) -> Outcome:
    steps = Steps(4)
    count(own_filters)  # a filter with a typo is found before anything is done
    use_alias(PROMPT, "production", TEMPLATE, needs=("passage", "question"), commit_message="One sentence, one passage")
    version = mlflow.genai.load_prompt(f"prompts:/{PROMPT}@production").version
    with mlflow.start_run(run_name="manual-spans") as active:
        # 1. One request, one trace: spans by decorator, context manager and client API
        trace_ids = {"pipeline": traced(answer_question, llm)}
        mlflow.flush_trace_async_logging()
        trace = mlflow.get_trace(trace_ids["pipeline"])
        steps("The trace of one question, read back:\n" + "\n".join(f"      {line}" for line in tree_lines(trace)))

        # 2. The failed tool keeps its exception
        failures = "; ".join(describe_failures(trace)) or "No span failed"
        steps(f"{failures}; the trace as a whole is {trace.info.state.value}")

        # 3. A stream and coroutines: one trace each
        trace_ids["stream"] = traced(lambda: list(stream_answer(llm)))
        trace_ids["async"] = traced(lambda: asyncio.run(look_up_all()))
        mlflow.flush_trace_async_logging()
        wait_for_prompt_links()
        steps("A stream and three coroutines left one trace each")

        # 4. What can be searched for
        found = count((*FILTERS, f"prompt = '{PROMPT}/{version}'", *own_filters))
        steps("Traces of this experiment by filter")
        show_table([{"filter": text, "traces": number} for text, number in found.items()])
        spans = sum(len(mlflow.get_trace(trace_id).data.spans) for trace_id in trace_ids.values())
        mlflow.log_metrics({"traces": len(trace_ids), "spans": spans})
    return Outcome(active.info.run_id, trace_ids, found, spans)


@lesson("2.3", llm="mock")
@click.option("--filter", "own_filters", multiple=True, metavar="FILTER", help="A filter of your own; may be repeated.")
def main(own_filters: tuple[str, ...], backend: BackendOptions) -> None:
    with open_backend(backend) as llm:
        outcome = run(llm, own_filters)
    measured = {"traces": len(outcome.trace_ids), "spans": outcome.spans, "filters": len(outcome.found)}
    show("2.3", measured, run_id=outcome.run_id, trace_id=outcome.trace_ids["pipeline"])


if __name__ == "__main__":
    main()
