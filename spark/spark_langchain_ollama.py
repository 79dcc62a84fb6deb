"""2.1 Sentiment analysis with LangChain and Ollama inside Spark, every call traced.

New here: autolog works in the process that switches it on, so it is switched on inside each worker,
and the worker's spans join the trace that the driver began.
Run it:   uv run mlflow-spark-langchain-ollama --num-samples 20
          uv run mlflow-spark-langchain-ollama --llm-type mock
          uv run mlflow-spark-langchain-ollama --input my.csv --text-column comment --label-column verdict
Look at:  uv run mlflow ui  ->  2-tracing  ->  Traces  ->  spark-sentiment
Change:   add --spans; what does each review's span say that autolog's did not?
Docs:     https://mlflow.org/docs/latest/genai/tracing/
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import mlflow
from mlflow.entities import SpanType
from mlflow.tracing.distributed import (
    get_tracing_context_headers_for_http_request,
    set_tracing_context_from_http_request_headers,
)

from utils.cli import Steps, lesson, show
from utils.errors import UserError
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
    parse_label,
    score,
    trace_share,
)
from utils.spark_mapper import Caller, Reply, is_sampled
from utils.spark_utils import spark_session


@dataclass(frozen=True)
class WorkerTracing:
    """What a worker needs to add its spans to the driver's trace."""

    tracking_uri: str
    experiment_id: str
    headers: dict[str, str]
    share: float
    custom_spans: bool


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    metrics: dict[str, float]


@contextmanager
def open_classifier(
    settings: BackendSettings, template: str, labels: tuple[str, ...], tracing: WorkerTracing
) -> Iterator[Caller]:
    """Runs in a Spark worker, once per partition: the chain, and the tracing of its calls."""
    from langchain_core.prompts import ChatPromptTemplate

    mlflow.set_tracking_uri(tracing.tracking_uri)
    mlflow.set_experiment(experiment_id=tracing.experiment_id)
    mlflow.langchain.autolog(silent=True)
    chain = ChatPromptTemplate.from_template(to_single_braces(template)) | settings.chat_model(**settings.no_retries)

    def call(text: str) -> Reply:
        with mlflow.tracing.context(enabled=is_sampled(text, tracing.share)):
            if tracing.custom_spans:
                return in_own_span(text)
            return ask(text)

    def ask(text: str) -> Reply:
        message = chain.invoke({"text": text, "labels": ", ".join(labels)})
        usage: Any = message.usage_metadata or {}
        return Reply(message.text, usage.get("input_tokens"), usage.get("output_tokens"))

    def in_own_span(text: str) -> Reply:
        with mlflow.start_span("review", span_type=SpanType.CHAIN) as span:
            span.set_inputs({"text": text})
            reply = ask(text)
            span.set_attribute("review.words", len(text.split()))
            span.set_outputs({"label": parse_label(reply.text, labels)})
            return reply

    # The headers name the driver's span: what starts inside becomes its child.
    with set_tracing_context_from_http_request_headers(tracing.headers):
        yield call
        mlflow.flush_trace_async_logging()  # inside the block: outside, every span of this worker is lost
    mlflow.langchain.autolog(disable=True)  # Spark uses this worker again, for jobs that may trace in another way


def run(llm: Backend, rows: JobRows, spark: SparkOptions, share: float, custom_spans: bool) -> Outcome:
    steps = Steps(4)

    # 1. The prompt comes from the registry; @production says which version is in use
    prompt_uri = use_alias(
        PROMPT, "production", TEMPLATE, needs=("text",), commit_message="One word, labels as a variable"
    )
    steps(f"Prompt {prompt_uri}; {rows.description}")

    with (
        spark_session(spark.spark_master, "spark-sentiment") as session,
        mlflow.start_run(run_name="spark-sentiment") as active,
        mlflow.start_span("spark-sentiment", span_type=SpanType.WORKFLOW) as root,
    ):
        # 2. One root span for the job; its headers travel to the workers
        prompt = mlflow.genai.load_prompt(prompt_uri)  # inside a run, which is linked to the version
        root.set_inputs({"rows": len(rows.frame), "prompt": prompt.uri, "labels": rows.labels})
        headers = get_tracing_context_headers_for_http_request()
        experiment_id = active.info.experiment_id
        tracing = WorkerTracing(mlflow.get_tracking_uri(), experiment_id, headers, share, custom_spans)
        steps(f"Spark {session.version} on {spark.spark_master}, {spark.concurrency} requests in flight")

        # 3. Every distinct text asked once, in the workers
        open_caller = partial(open_classifier, llm.settings, prompt.template, rows.labels, tracing)
        done = classify(session, rows, open_caller, spark.concurrency, active.info.run_id)
        metrics = score(done.rows, rows.labels) | call_figures(done.answers, done.seconds, len(rows.frame))
        root.set_outputs(metrics)
        steps(f"{metrics['llm_calls']} calls for {len(rows.frame)} rows in {done.seconds:.1f} s")

        # 4. What was measured goes into the run
        log_results(rows, done, metrics, spark, share)
    mlflow.flush_trace_async_logging()
    spans = mlflow.get_trace(root.trace_id).data.spans
    metrics["llm_spans"] = sum(span.span_type == SpanType.CHAT_MODEL for span in spans)
    mlflow.log_metric("llm_spans", metrics["llm_spans"], run_id=active.info.run_id)
    steps(f"{metrics['llm_spans']} LLM spans in the trace, read back from the store")
    return Outcome(active.info.run_id, root.trace_id, metrics)


def log_results(rows: JobRows, done: Classified, metrics: dict[str, float], spark: SparkOptions, share: float) -> None:
    mlflow.log_params({"rows": rows.description, "concurrency": spark.concurrency, "trace_share": share})
    mlflow.log_metrics(metrics)
    mlflow.log_table(done.rows.drop(columns="calls"), "answers.json")
    if rows.labelled:
        mlflow.log_figure(confusion_figure(done.rows, rows.labels), "confusion_matrix.png")


def check_workers_reach_store(master: str) -> None:
    """Workers on other machines write their spans over HTTP; a file on this machine they cannot reach."""
    if master.startswith("spark://") and not mlflow.get_tracking_uri().startswith("http"):
        raise UserError(
            f"workers of {master} cannot write their spans to {mlflow.get_tracking_uri()}",
            "uv run mlflow server, then --tracking-uri http://HOST:5000   (or mlflow-spark-langchain-multiple)",
        )


@lesson("2.1", llm="ollama", spark=True, rows=True)
@click.option("--num-samples", type=click.IntRange(min=1), default=50, show_default=True, help="Rows to classify.")
@click.option("--seed", default=7, show_default=True, help="Which rows the sample takes.")
@click.option("--spans", is_flag=True, help="Add a span of the lesson's own around each review.")
@click.option("--trace", type=click.Choice(["all", "sample", "off"]), default="all", show_default=True,
              help="Calls that get spans; all means up to 2,000 rows, beyond that a sample.")  # fmt: skip
def main(
    num_samples: int,
    seed: int,
    spans: bool,
    trace: str,
    backend: BackendOptions,
    spark: SparkOptions,
    source: InputOptions,
) -> None:
    check_workers_reach_store(spark.spark_master)
    rows = load_job_rows(source, num_samples, seed)
    with open_backend(backend) as llm:
        outcome = run(llm, rows, spark, trace_share(trace, len(rows.frame)), spans)
    show("2.1", outcome.metrics, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
