"""2.2 The same Spark job on any backend: one code path, and spans that the driver writes.

New here: workers return when each call began and ended, and the driver writes the spans. It is faster than tracing
inside the workers, and they need neither MLflow nor a store that they can reach.
Run it:   uv run mlflow-spark-langchain-multiple
          uv run mlflow-spark-langchain-multiple --llm-type ollama --ollama-model llama3.2
          uv run mlflow-spark-langchain-multiple --use-openai --num-samples 100
          uv run mlflow-spark-langchain-multiple --span-source autolog --client openai
          uv run mlflow-spark-langchain-multiple --input my.csv --text-column comment --label-column verdict
Look at:  uv run mlflow ui  ->  2-tracing  ->  Traces  ->  spark-sentiment-any
Change:   --mock-faults "429:0.3"; where do the failed calls show, and how many tries did a row take?
Docs:     https://mlflow.org/docs/latest/genai/tracing/app-instrumentation/manual-tracing/
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow.entities import LiveSpan, SpanEvent, SpanStatus, SpanStatusCode, SpanType
from mlflow.tracing.constant import SpanAttributeKey
from mlflow.tracing.distributed import (
    get_tracing_context_headers_for_http_request,
    set_tracing_context_from_http_request_headers,
)

from utils.cli import Steps, lesson, show
from utils.llm_backends import Backend, BackendSettings, open_backend
from utils.options import BackendOptions, InputOptions, SparkOptions
from utils.prompt_utils import to_single_braces, use_alias
from utils.sentiment_job import (
    PROMPT,
    TEMPLATE,
    Classified,
    JobRows,
    call_figures,
    classify,
    confusion_figure,
    load_job_rows,
    score,
    trace_share,
)
from utils.spark_mapper import AHEAD, Caller, Reply, is_sampled
from utils.spark_utils import spark_session


@dataclass(frozen=True)
class Question:
    """What a worker needs in order to ask: the model, the prompt, the labels, and which client asks."""

    settings: BackendSettings
    template: str
    labels: tuple[str, ...]
    client: str

    def messages(self, text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": self.fill(text)}]

    def fill(self, text: str) -> str:
        return to_single_braces(self.template).format(text=text, labels=", ".join(self.labels))


@dataclass(frozen=True)
class DriverTrace:
    """The root span in another process: where its store is, and the headers that name it."""

    tracking_uri: str
    experiment_id: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    metrics: dict[str, float]


def langchain_caller(question: Question) -> Caller:
    chat_model = question.settings.chat_model(**question.settings.no_retries)

    def call(text: str) -> Reply:
        message = chat_model.invoke(question.messages(text))
        usage: Any = message.usage_metadata or {}
        return Reply(message.text, usage.get("input_tokens"), usage.get("output_tokens"))

    return call


def openai_caller(question: Question) -> Caller:
    settings, client = question.settings, question.settings.openai_client(max_retries=0)

    def call(text: str) -> Reply:
        messages: Any = question.messages(text)
        answer = client.chat.completions.create(
            model=settings.model, temperature=settings.temperature, messages=messages
        )
        used = answer.usage  # some servers count nothing
        counts = (used.prompt_tokens, used.completion_tokens) if used else (None, None)
        return Reply(answer.choices[0].message.content or "", *counts)

    return call


CALLERS = {"langchain": langchain_caller, "openai": openai_caller}


@contextmanager
def open_caller(question: Question, joined: DriverTrace | None, share: float) -> Iterator[Caller]:
    """Runs in a Spark worker. Without `joined` the worker traces nothing: the driver writes the spans afterwards."""
    call = CALLERS[question.client](question)
    if joined is None:
        yield call
        return
    mlflow.set_tracking_uri(joined.tracking_uri)
    mlflow.set_experiment(experiment_id=joined.experiment_id)
    autolog(question.client, silent=True)

    def sampled_call(text: str) -> Reply:
        with mlflow.tracing.context(enabled=is_sampled(text, share)):
            return call(text)

    with set_tracing_context_from_http_request_headers(joined.headers):
        yield sampled_call
        mlflow.flush_trace_async_logging()
    autolog(question.client, disable=True)  # Spark uses this worker again, perhaps with the other client


def autolog(client: str, **settings: bool) -> None:
    """Which autolog sees a call depends on the framework that makes it; two at once would double the spans."""
    if client == "langchain":
        mlflow.langchain.autolog(**settings)
    else:
        mlflow.openai.autolog(**settings)


def write_spans(root: LiveSpan, question: Question, done: Classified, share: float) -> int:
    """One child span per call that was made, failed ones included, with its true times. Returns how many."""
    written = 0
    for row in done.answers.itertuples():
        for call in row.calls if is_sampled(row.text, share) else ():
            span = mlflow.start_span_no_context(
                "chat",
                span_type=SpanType.CHAT_MODEL,
                parent_span=root,
                inputs={"messages": question.messages(row.text)},
                attributes={SpanAttributeKey.MODEL: question.settings.model},
                start_time_ns=call["started_ns"],
            )
            if call["error"]:
                span.add_event(SpanEvent.from_exception(RuntimeError(call["error"])))
                span.end(status=SpanStatus(SpanStatusCode.ERROR, call["error"]), end_time_ns=call["ended_ns"])
            else:
                if pd.notna(row.prompt_tokens):
                    span.set_attribute(SpanAttributeKey.CHAT_USAGE, usage(row.prompt_tokens, row.completion_tokens))
                span.end(outputs=row.answer, end_time_ns=call["ended_ns"])
            written += 1
    return written


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """Token counts in the form that MLflow sums up at the trace."""
    counts = {"input_tokens": int(prompt_tokens), "output_tokens": int(completion_tokens)}
    return counts | {"total_tokens": sum(counts.values())}


def run(llm: Backend, rows: JobRows, spark: SparkOptions, client: str, span_source: str, share: float) -> Outcome:
    steps = Steps(4)

    # 1. The same prompt as lesson 2.1: whatever @production points at
    prompt_uri = use_alias(
        PROMPT, "production", TEMPLATE, needs=("text",), commit_message="One word, labels as a variable"
    )
    steps(f"Prompt {prompt_uri}; {rows.description}")

    with (
        spark_session(spark.spark_master, "spark-sentiment-any") as session,
        mlflow.start_run(run_name="spark-sentiment-any") as active,
        mlflow.start_span("spark-sentiment-any", span_type=SpanType.WORKFLOW) as root,
    ):
        # 2. One path for all backends: only the settings differ
        question = Question(llm.settings, mlflow.genai.load_prompt(prompt_uri).template, rows.labels, client)
        headers = get_tracing_context_headers_for_http_request()
        joined = DriverTrace(mlflow.get_tracking_uri(), active.info.experiment_id, headers)
        caller = partial(open_caller, question, joined if span_source == "autolog" else None, share)
        steps(f"{llm.llm_type} {llm.model} through {client}, {spark.concurrency} requests in flight")

        # 3. Ask, then score every row: what failed counts as wrong
        ahead = AHEAD if span_source == "driver" else 0  # a worker's span would show the wait for a place
        done = classify(session, rows, caller, spark.concurrency, active.info.run_id, ahead)
        metrics = score(done.rows, rows.labels) | call_figures(done.answers, done.seconds, len(rows.frame))
        steps(f"{metrics['llm_calls']} calls for {len(rows.frame)} rows in {done.seconds:.1f} s")

        # 4. Spans, one for each call, under the job's root
        if span_source == "driver":
            write_spans(root, question, done, share)
        root.set_inputs({"rows": len(rows.frame), "prompt": prompt_uri, "labels": rows.labels})
        root.set_outputs(metrics)
        log_results(rows, done, metrics, {"client": client, "span_source": span_source, "trace_share": share})
    mlflow.flush_trace_async_logging(terminate=True)  # nothing more is traced, so the queue need not open again
    metrics["llm_spans"] = count_llm_spans(root.trace_id)
    mlflow.log_metric("llm_spans", metrics["llm_spans"], run_id=active.info.run_id)
    steps(f"{metrics['llm_spans']} LLM spans in the trace, read back from the store")
    return Outcome(active.info.run_id, root.trace_id, metrics)


def count_llm_spans(trace_id: str) -> int:
    return sum(span.span_type == SpanType.CHAT_MODEL for span in mlflow.get_trace(trace_id).data.spans)


def log_results(rows: JobRows, done: Classified, metrics: dict[str, float], params: dict[str, object]) -> None:
    mlflow.log_params({"rows": rows.description, **params})
    mlflow.log_metrics(metrics)
    mlflow.log_table(done.rows.drop(columns="calls"), "answers.json")
    if rows.labelled:
        mlflow.log_figure(confusion_figure(done.rows, rows.labels), "confusion_matrix.png")


@lesson("2.2", llm="mock", spark=True, rows=True)
@click.option("--num-samples", type=click.IntRange(min=1), default=50, show_default=True, help="Rows to classify.")
@click.option("--seed", default=7, show_default=True, help="Which rows the sample takes.")
@click.option("--use-openai", is_flag=True, help="The same as --llm-type openai.")
@click.option("--client", type=click.Choice(list(CALLERS)), default="langchain", show_default=True,
              help="What makes the call inside the worker.")  # fmt: skip
@click.option("--span-source", type=click.Choice(["driver", "autolog"]), default="driver", show_default=True,
              help="Who writes the spans: the driver from the timings, or autolog in the workers.")  # fmt: skip
@click.option("--trace", type=click.Choice(["all", "sample", "off"]), default="all", show_default=True,
              help="Calls that get spans; all means up to 2,000 rows, beyond that a sample.")  # fmt: skip
def main(
    num_samples: int, seed: int, use_openai: bool, client: str, span_source: str, trace: str,
    backend: BackendOptions, spark: SparkOptions, source: InputOptions,
) -> None:  # fmt: skip
    rows = load_job_rows(source, num_samples, seed)
    chosen = replace(backend, llm_type="openai") if use_openai else backend
    with open_backend(chosen) as llm:
        outcome = run(llm, rows, spark, client, span_source, trace_share(trace, len(rows.frame)))
    show("2.2", outcome.metrics, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
