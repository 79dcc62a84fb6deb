"""2.6 OpenTelemetry, both ways: its spans into MLflow, and MLflow's spans into a collector.

New here: a program without MLflow can write traces into it, and MLflow's traces can go to a collector as well.
Run it:   uv run mlflow-opentelemetry
          uv run mlflow-opentelemetry --num-questions 10 --port 4318
Look at:  uv run mlflow ui  ->  2-tracing  ->  Traces: plain-app was written without MLflow, dual-app by MLflow
Change:   leave MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT out of `dual_export`; where are the spans of dual-app then?
Docs:     https://mlflow.org/docs/latest/genai/tracing/opentelemetry/
"""

import gzip
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click
import mlflow
from fastapi import FastAPI, Request, Response
from mlflow.entities import SpanType, Trace

from utils.cli import Steps, lesson, show, show_table
from utils.errors import CheckFailed
from utils.llm_backends import Backend, open_backend
from utils.local_services import in_thread
from utils.mlflow_server import mlflow_server
from utils.options import BackendOptions
from utils.prompt_utils import use_alias
from utils.span_tree import tree_lines

PROMPT = "opentelemetry-answer"
TEMPLATE = "Answer in one sentence from the passage.\n\nPassage: {{passage}}\n\nQuestion: {{question}}"
PASSAGE = "A span has a name, a start, an end and attributes. A collector receives the spans of many programs."
QUESTIONS = ("What does a span have?", "What does a collector receive?")
ARRIVES_SECONDS = 30


@dataclass
class Collector:
    """A stand-in for an OpenTelemetry collector: it keeps what it is sent. `spans` maps ids to names."""

    spans: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def app(self) -> FastAPI:
        """OTLP over HTTP: protobuf, gzipped or not, at /v1/traces."""
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        app = FastAPI()

        @app.post("/v1/traces")
        async def receive(request: Request) -> Response:
            body = await request.body()
            if request.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            message = ExportTraceServiceRequest.FromString(body)
            groups = [scope.spans for resource in message.resource_spans for scope in resource.scope_spans]
            with self.lock:
                self.spans.update({span.span_id.hex(): span.name for spans in groups for span in spans})
            return Response(media_type="application/x-protobuf")

        return app

    def wait_for(self, number: int) -> None:
        """Exporters work in the background; give them ARRIVES_SECONDS."""
        deadline = time.monotonic() + ARRIVES_SECONDS
        while len(self.spans) < number and time.monotonic() < deadline:
            time.sleep(0.05)


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    spans: dict[str, int]


def plain_app(llm: Backend, template: str, server: str, experiment_id: str, questions: list[str]) -> list[str]:
    """A program that knows only OpenTelemetry: the address and one header say where in MLflow its spans go."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(f"{server}/v1/traces", headers={"x-mlflow-experiment-id": experiment_id})
    provider = TracerProvider(resource=Resource.create({"service.name": "plain-app"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("plain-app")
    trace_ids = []
    for question in questions:
        with tracer.start_as_current_span("plain-app") as root:
            with tracer.start_as_current_span(f"chat {llm.model}") as span:
                messages: list[Any] = [{"role": "user", "content": fill(template, question)}]
                reply = llm.openai_client().chat.completions.create(model=llm.model, messages=messages, temperature=0)
                span.set_attributes(genai_attributes(llm.model, messages, reply))
            trace_ids.append(f"tr-{root.get_span_context().trace_id:032x}")
    provider.shutdown()  # which sends what still waits
    return trace_ids


def genai_attributes(model: str, messages: list[Any], reply: Any) -> dict[str, Any]:
    """OpenTelemetry's names for what a model call is; MLflow reads tokens and messages from them."""
    answer = [{"role": "assistant", "content": reply.choices[0].message.content}]
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": model,
        "gen_ai.input.messages": json.dumps(messages),
        "gen_ai.output.messages": json.dumps(answer),
    }
    if usage := reply.usage:
        attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.completion_tokens
    return attributes


def fill(template: str, question: str) -> str:
    return template.replace("{{passage}}", PASSAGE).replace("{{question}}", question)


@contextmanager
def dual_export(collector_url: str) -> Iterator[None]:
    """Spans go to the collector and to MLflow. Usually these variables are set before the program starts; MLflow
    reads them at its first trace, so `reset` makes it look again."""
    variables = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector_url}/v1/traces",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds; the default is 5 seconds
        "MLFLOW_TRACE_ENABLE_OTLP_DUAL_EXPORT": "true",  # without it the collector gets all and MLflow nothing
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    mlflow.tracing.reset()
    try:
        yield
    finally:
        mlflow.flush_trace_async_logging()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        mlflow.tracing.reset()


def dual_app(llm: Backend, template: str, questions: list[str]) -> list[str]:
    """A program that uses MLflow, as every lesson does."""
    mlflow.openai.autolog()
    client = llm.openai_client()
    trace_ids = []
    for question in questions:
        with mlflow.start_span("dual-app", span_type=SpanType.CHAIN) as root:
            messages: list[Any] = [{"role": "user", "content": fill(template, question)}]
            client.chat.completions.create(model=llm.model, messages=messages, temperature=0)
        trace_ids.append(root.trace_id)
    return trace_ids


def read_back(trace_ids: list[str]) -> list[Trace]:
    """Raises CheckFailed where a trace is not in MLflow: exporters only log what they could not send."""
    traces = [mlflow.get_trace(trace_id, silent=True) for trace_id in trace_ids]
    if missing := [trace_id for trace_id, trace in zip(trace_ids, traces, strict=True) if trace is None]:
        raise CheckFailed(
            f"{len(missing)} of {len(traces)} traces are not in MLflow",
            "see what `dual_export` sets, and what is printed above",
        )
    return traces


def span_names(traces: list[Trace]) -> dict[str, str]:
    return {span.span_id: span.name for trace in traces for span in trace.data.spans}


def compare(stored: dict[str, str], collected: dict[str, str]) -> None:
    """Raises CheckFailed where MLflow and the collector do not hold the same spans, by id and name."""
    if stored == collected:
        return
    only_stored, only_collected = stored.items() - collected.items(), collected.items() - stored.items()
    raise CheckFailed(
        f"of the spans of dual-app {len(only_stored)} are only in MLflow and {len(only_collected)} only in the "
        "collector",
        "see what `dual_export` sets",
    )


def run(llm: Backend, num_questions: int, port: int) -> Outcome:
    steps = Steps(4)
    questions = [QUESTIONS[i % len(QUESTIONS)] for i in range(num_questions)]
    uri = use_alias(PROMPT, "production", TEMPLATE, needs=("passage", "question"), commit_message="One sentence")
    collector = Collector()
    with mlflow.start_run(run_name="opentelemetry") as active, in_thread(collector.app(), port) as collector_url:
        template = str(mlflow.genai.load_prompt(uri).template)
        # 1. OpenTelemetry into MLflow: its server has an OTLP endpoint
        with mlflow_server(mlflow.get_tracking_uri()) as server:
            steps(f"MLflow receives OTLP at {server}/v1/traces, a collector at {collector_url}/v1/traces")
            plain_ids = plain_app(llm, template, server, active.info.experiment_id, questions)
        plain = read_back(plain_ids)
        for trace_id in plain_ids:  # the tags of a run's traces come from this process, which did not write these
            mlflow.set_trace_tag(trace_id, "lesson", "2.6")
        steps("plain-app, which knows only OpenTelemetry, as MLflow has it:\n" + indented(plain[0]))

        # 2. MLflow into MLflow and into a collector
        with dual_export(collector_url):
            dual_ids = dual_app(llm, template, questions)
        dual = read_back(dual_ids)
        collector.wait_for(len(span_names(dual)))
        steps("dual-app, which uses MLflow, as MLflow has it:\n" + indented(dual[0]))

        # 3. The same spans at both ends
        compare(span_names(dual), collector.spans)
        steps("Spans and tokens at both ends")
        show_table([describe("plain-app", plain, {}), describe("dual-app", dual, collector.spans)])
        spans = {"plain": len(span_names(plain)), "dual": len(span_names(dual)), "collected": len(collector.spans)}
        mlflow.log_metrics({f"{name}_spans": number for name, number in spans.items()})
    return Outcome(active.info.run_id, plain_ids[-1], spans)


def indented(trace: Trace) -> str:
    return "\n".join(f"      {line}" for line in tree_lines(trace))


def describe(name: str, traces: list[Trace], collected: dict[str, str]) -> dict[str, object]:
    tokens = [trace.info.token_usage["total_tokens"] for trace in traces if trace.info.token_usage]
    return {
        "program": name,
        "traces in MLflow": len(traces),
        "spans in MLflow": len(span_names(traces)),
        "spans in the collector": len(collected),
        "tokens": sum(tokens) if tokens else None,
    }


@lesson("2.6", llm="mock")
@click.option("--num-questions", type=click.IntRange(1, 200), default=4, show_default=True, help="For each program.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of the collector. Default: a free one.")
def main(num_questions: int, port: int, backend: BackendOptions) -> None:
    with open_backend(backend) as llm:
        outcome = run(llm, num_questions, port)
    measured = {f"{name}_spans": number for name, number in outcome.spans.items()}
    show("2.6", measured, run_id=outcome.run_id, trace_id=outcome.trace_id, trace_ids=2 * num_questions)


if __name__ == "__main__":
    main()
