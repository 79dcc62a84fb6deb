"""2.5 A web service calls another process, and the request is still one trace.

New here: the trace travels in a header; what the other process adds is lost unless it stores it before it answers.
Run it:   uv run mlflow-distributed-tracing
          uv run mlflow-distributed-tracing --num-requests 100 --concurrency 16
          uv run mlflow-distributed-tracing --export late
Look at:  uv run mlflow ui  ->  2-tracing  ->  Traces  ->  ask: the spans below `answer` were written by another process
Change:   run it with --export late, then with --export flush; what is lost, and what does it cost to lose nothing?
Docs:     https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/distributed-tracing/
"""

import statistics
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import click
import httpx
import mlflow
from fastapi import FastAPI, Request
from mlflow.entities import SpanType, Trace
from mlflow.tracing import get_tracing_context_headers_for_http_request, set_tracing_context_from_http_request_headers
from pydantic import BaseModel

from utils.cli import Steps, lesson, show, track
from utils.errors import CheckFailed
from utils.llm_backends import Backend, BackendSettings, open_backend
from utils.local_services import in_process, in_thread
from utils.options import BackendOptions
from utils.prompt_utils import use_alias
from utils.span_tree import duration_ms, roots, tree_lines

PROMPT = "distributed-answer"
TEMPLATE = "Answer in one sentence from the passage.\n\nPassage: {{passage}}\n\nQuestion: {{question}}"
PASSAGES = {
    "When does the library open?": "The library opens at nine and closes at six.",
    "How long may a book be kept?": "A book may be kept for three weeks.",
    "What does a lost card cost?": "A lost card costs four euros.",
}
# How the second process stores its spans. MLflow's default is a queue in the background, which finds out too late that
# the header's block has ended.
EXPORTS = {
    "sync": {"MLFLOW_ENABLE_ASYNC_TRACE_LOGGING": "false"},  # each span at its end, by the thread that made it
    "flush": {},  # in the background, and waited for inside the block
    "late": {},  # in the background: what most people write first
}
OWN_SPANS = {"ask", "call-answer-service"}  # of the first process
THEIR_SPANS = {"answer", "Completions"}  # of the second one


class Question(BaseModel):
    text: str


@dataclass(frozen=True)
class Service:
    """All that the second process needs; it travels there pickled."""

    settings: BackendSettings
    tracking_uri: str
    experiment_id: str
    prompt_uri: str
    flush: bool


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    complete: int
    latencies_ms: list[float]


def answer_service(service: Service) -> FastAPI:
    """The second process: it joins the trace that the request's header names."""
    mlflow.set_tracking_uri(service.tracking_uri)
    mlflow.set_experiment(experiment_id=service.experiment_id)
    mlflow.openai.autolog()
    client = service.settings.openai_client()
    template = str(mlflow.genai.load_prompt(service.prompt_uri).template)
    app = FastAPI()

    @mlflow.trace(name="answer", span_type=SpanType.CHAIN)
    def answer(question: str) -> str:
        filled = template.replace("{{passage}}", PASSAGES[question]).replace("{{question}}", question)
        messages: list[Any] = [{"role": "user", "content": filled}]
        reply = client.chat.completions.create(model=service.settings.model, messages=messages, temperature=0)
        return reply.choices[0].message.content or ""

    @app.post("/answer")
    def handle(question: Question, request: Request) -> dict[str, str]:
        with set_tracing_context_from_http_request_headers(dict(request.headers)):
            text = answer(question.text)
            if service.flush:
                mlflow.flush_trace_async_logging()  # inside the block, while the trace is still known here
        return {"answer": text}

    return app


def front_service(answer_url: str, session: str) -> FastAPI:
    """The web service that people call: it begins the trace and hands it on in a header."""
    app = FastAPI()
    client = httpx.Client(timeout=120)  # seconds

    @mlflow.trace(name="call-answer-service", span_type=SpanType.TOOL)
    def call(question: str) -> str:
        headers = get_tracing_context_headers_for_http_request()  # of the span that is open now
        reply = client.post(f"{answer_url}/answer", json={"text": question}, headers=headers)
        return str(reply.raise_for_status().json()["answer"])

    @mlflow.trace(name="ask", span_type=SpanType.WORKFLOW)
    def ask(question: str) -> str:
        mlflow.update_current_trace(session_id=session)
        return call(question)

    @app.post("/ask")
    def handle(question: Question) -> dict[str, str | None]:
        return {"answer": ask(question.text), "trace_id": mlflow.get_last_active_trace_id(thread_local=True)}

    return app


def send(url: str, num_requests: int, concurrency: int) -> list[str]:
    """Ask the first service, `concurrency` requests at once; returns the trace ids that it answers with."""
    questions = list(PASSAGES)

    def post(number: int) -> str:
        text = questions[number % len(questions)]
        return str(httpx.post(f"{url}/ask", json={"text": text}, timeout=120).raise_for_status().json()["trace_id"])

    with ThreadPoolExecutor(concurrency) as pool:
        return list(track(pool.map(post, range(num_requests)), "requests", num_requests))


def is_complete(trace: Trace) -> bool:
    """Both halves below one root."""
    names = {span.name for span in trace.data.spans}
    return len(roots(trace)) == 1 and names >= OWN_SPANS | THEIR_SPANS


def check(traces: list[Trace], num_requests: int, export: str) -> None:
    """Every request is one trace with both halves, or the lesson ends here.

    Raises:
        CheckFailed: says how many are not.
    """
    complete = sum(map(is_complete, traces))
    if complete == num_requests == len(traces):
        return
    halves = sum(not THEIR_SPANS & {span.name for span in trace.data.spans} for trace in traces)
    raise CheckFailed(
        f"with --export {export} {num_requests} requests left {len(traces)} traces, {complete} of them complete; "
        f"{halves} hold nothing of the second process",
        "--export sync" if export != "sync" else "uv run mlflow-learn doctor",
    )


def run(llm: Backend, num_requests: int, concurrency: int, export: str, port: int) -> Outcome:
    steps = Steps(4)
    uri = use_alias(PROMPT, "production", TEMPLATE, needs=("passage", "question"), commit_message="One sentence")
    with mlflow.start_run(run_name="distributed-tracing") as active:
        run_id = active.info.run_id
        service = Service(
            llm.settings, mlflow.get_tracking_uri(), active.info.experiment_id, uri, flush=export == "flush"
        )
        mlflow.log_params({"requests": num_requests, "concurrency": concurrency, "export": export})
        # 1. Two web services, each in a process of its own
        with (
            in_process(answer_service, service, environment=EXPORTS[export]) as answer_url,
            in_thread(front_service(answer_url, session=run_id), port) as url,
        ):
            steps(f"{url} asks {answer_url}; the second one stores its spans by {export}")

            # 2. Requests, several at once
            trace_ids = send(url, num_requests, concurrency)
            steps(f"{len(set(trace_ids))} requests, {concurrency} at once")

        # 3. The store has one trace for each, with the spans of both
        mlflow.flush_trace_async_logging()
        traces = find_traces(run_id, num_requests)
        if not traces:
            check(traces, num_requests, export)
        steps("One of them, read back:\n" + "\n".join(f"      {line}" for line in tree_lines(traces[0])))
        complete = sum(map(is_complete, traces))
        latencies = [duration_ms(roots(trace)[0]) for trace in traces]
        mlflow.log_metrics({"traces": len(traces), "complete_traces": complete})
        mlflow.log_metric("latency_p50_ms", statistics.median(latencies))

        # 4. None may be split
        check(traces, num_requests, export)
        steps(f"{complete} of {num_requests} traces hold both halves below one root")
    return Outcome(run_id, traces[0].info.trace_id, complete, latencies)


def find_traces(session: str, num_requests: int) -> list[Trace]:
    """The traces of one session, which is this run; a lost one leaves fewer, a split one more."""
    return mlflow.search_traces(
        filter_string=f"metadata.`mlflow.trace.session` = '{session}'",
        max_results=2 * num_requests,
        return_type="list",
    )


@lesson("2.5", llm="mock")
@click.option("--num-requests", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at once.")
@click.option("--export", type=click.Choice(list(EXPORTS)), default="sync", show_default=True,
              help="How the second process stores its spans: each at its end, by a flush inside the header's block, "
              "or in the background, too late.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the first service. Default: a free one.")
def main(num_requests: int, concurrency: int, export: str, port: int, backend: BackendOptions) -> None:
    with open_backend(backend) as llm:
        outcome = run(llm, num_requests, concurrency, export, port)
    measured = {
        "requests": num_requests,
        "complete_traces": outcome.complete,
        "latency_p50_ms": statistics.median(outcome.latencies_ms),
    }
    show("2.5", measured, run_id=outcome.run_id, trace_id=outcome.trace_id, trace_ids=num_requests)


if __name__ == "__main__":
    main()
