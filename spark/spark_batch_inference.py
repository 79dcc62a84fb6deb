"""8.2 Batch inference at scale: each text is paid for once, also when the job is killed.

New here: answers are written the moment they arrive, so that a job that was killed goes on; and what several rows in
one call save, beside what they cost in accuracy.
Run it:   uv run mlflow-spark-batch-inference
          uv run mlflow-spark-batch-inference --num-rows 100000 --rows-per-call 1 --concurrency 32 --output my_job
          uv run mlflow-spark-batch-inference --num-rows 100000 --rows-per-call 1 --output my_job --resume
          uv run mlflow-spark-batch-inference --max-requests-per-minute 600 --rows-per-call 1 --num-rows 100
          uv run mlflow-spark-batch-inference --input my.csv --text-column comment --label-column verdict
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  batch-inference: compare the runs below it
Change:   --model mock-large; is a batch of 20 worth it now?
Docs:     https://mlflow.org/docs/latest/ml/tracking/
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import mlflow
from mlflow.entities import LiveSpan, SpanStatus, SpanStatusCode, SpanType
from mlflow.tracing.constant import SpanAttributeKey

from utils.batch_figures import figures
from utils.batch_journal import JobFolder
from utils.batch_mapper import BatchReply, Limits, Texts, ask_all
from utils.batch_rows import BatchRows, open_rows
from utils.batch_ways import compare_ways
from utils.cli import Steps, lesson, show, show_table, waiting
from utils.errors import InputError, JobFailed
from utils.llm_backends import Backend, BackendSettings, open_backend
from utils.mlflow_setup import STATE_DIR
from utils.options import BackendOptions, InputOptions, SparkOptions
from utils.pricing import describe_price
from utils.prompt_utils import use_alias
from utils.sentiment_job import PROMPT, TEMPLATE, parse_label, trace_share
from utils.spark_utils import check_master, spark_session, worker_errors

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

BATCH_PROMPT = "batch-sentiment"
BATCH_TEMPLATE = [
    {
        "role": "system",
        "content": "Classify the sentiment of each numbered review. Answer with the same numbers, one line for each "
        "review: its number and one word of: {{labels}}.",
    },
    {"role": "user", "content": "{{rows}}"},
]
DEFAULT_OUTPUT = STATE_DIR / "batch-inference"
LINE = re.compile(r"^\s*(?:\[?(\d+)[.):\]]\s*)?(\S.*)$")
RESUME = "the same command with --output DIR --resume   (what is answered is not asked again)"


@dataclass(frozen=True)
class Question:
    """What a worker needs in order to ask: the model, the prompt for one row, the prompt for several, the labels."""

    settings: BackendSettings
    single: str
    several: list[dict[str, str]]
    labels: tuple[str, ...]

    def messages(self, texts: Texts) -> list[dict[str, str]]:
        if len(texts) == 1:
            return [{"role": "user", "content": self._fill(self.single, text=texts[0])}]
        rows = "\n".join(f"{number}. {' '.join(text.split())}" for number, text in enumerate(texts, 1))
        return [{**message, "content": self._fill(message["content"], rows=rows)} for message in self.several]

    def _fill(self, template: str, **values: str) -> str:
        values["labels"] = ", ".join(self.labels)
        return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: values[found[1]], template)


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    metrics: dict[str, float]


def read_labels(reply: str, texts: int, labels: tuple[str, ...]) -> Texts:
    """One answer for each text; empty where the lines of the reply do not say which row they are about."""
    if texts == 1:
        return (reply,)
    lines = [found for line in reply.splitlines() if (found := LINE.match(line)) and parse_label(found[2], labels)]
    numbers = [int(found[1]) if found[1] else place for place, found in enumerate(lines, 1)]
    return tuple(found[2] for found in lines) if numbers == list(range(1, texts + 1)) else ()


@contextmanager
def open_caller(question: Question) -> Iterator[Any]:
    """Runs in a Spark worker: one client for all its calls. The mapper tries again, so the client does not."""
    settings, client = question.settings, question.settings.openai_client(max_retries=0)

    def call(texts: Texts) -> BatchReply:
        messages: Any = question.messages(texts)
        answer = client.chat.completions.create(
            model=settings.model, temperature=settings.temperature, messages=messages
        )
        text, used = answer.choices[0].message.content or "", answer.usage
        prompt_tokens, completion_tokens = (used.prompt_tokens, used.completion_tokens) if used else (None, None)
        return BatchReply(text, prompt_tokens, completion_tokens, read_labels(text, len(texts), question.labels))

    with client:
        yield call


def write_spans(
    session: "SparkSession", root: LiveSpan, question: Question, folder: JobFolder, job: str, share: float
) -> int:
    """One child span for each call of this job that belongs to the sample, with its true times. Returns how many.

    A call whose reply could not be read is an ERROR with that reply.
    """
    written = 0
    lines = folder.lines(session, job).selectExpr("*", "if(size(texts) > 0, texts, asked) AS about")
    for row in lines.where(f"crc32(about[0]) < {share * 2**32:.0f}").toLocalIterator():
        for call in row.calls:
            span = mlflow.start_span_no_context(
                "chat", span_type=SpanType.CHAT_MODEL, parent_span=root,
                inputs={"messages": question.messages(tuple(row.about))},
                attributes={SpanAttributeKey.MODEL: question.settings.model}, start_time_ns=call.started_ns,
            )  # fmt: skip
            if call.error:
                span.end(status=SpanStatus(SpanStatusCode.ERROR, call.error), end_time_ns=call.ended_ns)
            else:
                if row.prompt_tokens is not None:
                    counts = {"input_tokens": row.prompt_tokens, "output_tokens": row.completion_tokens}
                    span.set_attribute(SpanAttributeKey.CHAT_USAGE, counts | {"total_tokens": sum(counts.values())})
                unread = SpanStatus(SpanStatusCode.ERROR, row.error) if row.error else None
                span.end(outputs=row.reply or list(row.answers), status=unread, end_time_ns=call.ended_ns)
            written += 1
    return written


@dataclass(frozen=True)
class Plan:
    """How the job is asked for: one output folder for each number of rows per call."""

    rows_per_call: tuple[int, ...]
    per_minute: float | None
    compare_rows: int
    trace: str
    output: Path | None
    resume: bool

    def folder(self, size: int, decided: dict[str, Any]) -> JobFolder:
        base = (self.output or DEFAULT_OUTPUT) / f"{size}-rows-per-call"
        return JobFolder.open(base, decided, resume=self.resume, replace=self.output is None)


def infer(
    session: "SparkSession", question: Question, rows: BatchRows, folder: JobFolder, limits: Limits, share: float
) -> Outcome:
    """One job: ask what has no answer yet, join the answers to the rows, and measure from Parquet."""
    with (
        mlflow.start_run(run_name=f"{limits.rows_per_call}-rows-per-call", nested=True) as active,
        mlflow.start_span("batch-inference", span_type=SpanType.WORKFLOW) as root,
    ):
        job = active.info.run_id
        mlflow.log_params({**asdict(limits), "rows": rows.description, "output": str(folder.path)})
        # 1. The rows once to disk: a resumed job sees the same ones
        if not folder.has_rows:
            rows.frame(session).write.mode("overwrite").parquet(folder.rows)
        frame = session.read.parquet(folder.rows)
        # 2. Every distinct text that nobody has answered yet
        known, started = folder.answered(session), time.perf_counter()
        kept = known.count()
        todo = frame.select("text").where(r"text rlike r'\S'").distinct().join(known, "text", "left_anti")
        with waiting(f"Asking about {rows.description}"):
            ask_all(todo, partial(open_caller, question), str(folder.path), job, limits)
        seconds = time.perf_counter() - started
        # 3. Every row with its answer, written before anything is computed from it
        frame.join(folder.answers(session), "text", "left").write.mode("overwrite").parquet(folder.result)
        metrics = {"texts_kept": kept, **figures(session, folder, job, question.settings, rows, seconds)}
        if not kept:  # a job that found answers did not take this time for all its rows
            metrics["rows_per_second"] = metrics["rows"] / seconds
        metrics["llm_spans"] = write_spans(session, root, question, folder, job, share)
        root.set_inputs({"rows": metrics["rows"], "rows_per_call": limits.rows_per_call})
        root.set_outputs(metrics)
        mlflow.log_metrics(metrics)
        if metrics["failed_rows"] == metrics["rows"]:
            raise JobFailed(f"all {metrics['rows']:,} rows failed: {first_error(session, folder)}", JobFailed.CURE)
        folder.finish()
    return Outcome(job, root.trace_id, metrics)


def first_error(session: "SparkSession", folder: JobFolder) -> str:
    row = session.read.parquet(folder.result).where("error is not null").select("error").first()
    return row["error"] if row else "no row holds a text"


def prepare(llm: Backend, rows: BatchRows, plan: Plan) -> tuple[Question, dict[int, JobFolder]]:
    """The prompts in use, linked to the run, and a folder for each job; a resume that may not be is refused here."""
    one = use_alias(PROMPT, "production", TEMPLATE, needs=("text", "labels"))
    several = use_alias(BATCH_PROMPT, "production", BATCH_TEMPLATE, needs=("rows", "labels"))
    prompts = [mlflow.genai.load_prompt(uri, cache_ttl_seconds=0) for uri in (one, several)]
    decided: dict[str, Any] = {
        "model": f"{llm.llm_type} {llm.model}", "temperature": llm.settings.temperature, "rows": rows.fingerprint,
        "labels": list(rows.labels), "prompts": [prompt_key(prompt) for prompt in prompts],
    }  # fmt: skip
    folders = {size: plan.folder(size, decided | {"rows_per_call": size}) for size in plan.rows_per_call}
    mlflow.log_params({**decided, "description": rows.description, "max_requests_per_minute": plan.per_minute})
    return Question(llm.settings, prompts[0].template, prompts[1].template, rows.labels), folders


def prompt_key(prompt: Any) -> str:
    """Name and version, and what the version says: another store may have another prompt under the same number."""
    said = json.dumps(prompt.template, sort_keys=True)
    return f"{prompt.name}/{prompt.version} {hashlib.sha256(said.encode()).hexdigest()[:8]}"


def run(llm: Backend, rows: BatchRows, spark: SparkOptions, plan: Plan) -> Outcome:
    steps = Steps(1 + len(plan.rows_per_call))
    with mlflow.start_run(run_name="batch-inference") as active:
        question, folders = prepare(llm, rows, plan)
        steps(f"{rows.description}; {llm.llm_type} {llm.model}, {spark.concurrency} requests in flight")
        share, outcomes = trace_share(plan.trace, rows.count), []
        with spark_session(spark.spark_master, "batch-inference") as session, worker_errors(RESUME):
            if plan.compare_rows:
                caller = partial(open_caller, question)
                show_ways(compare_ways(session, rows, caller, plan.compare_rows, spark.concurrency))
            for size, folder in folders.items():
                limits = Limits(spark.concurrency, size, plan.per_minute)
                outcomes.append(infer(session, question, rows, folder, limits, share))
                steps(f"{size} in a call: {outcomes[-1].metrics['llm_calls']:,} calls for {rows.count:,} rows")
        table = [row(size, outcome.metrics) for size, outcome in zip(folders, outcomes, strict=True)]
        mlflow.log_table({name: [each.get(name) for each in table] for name in table[0]}, "rows_per_call.json")
        mlflow.log_metrics(outcomes[0].metrics)
    show_table(table)
    click.echo(f"Cost:    {describe_price(llm.model, llm.llm_type)}")
    click.echo(f"Answers: {next(iter(folders.values())).result}")
    return Outcome(active.info.run_id, outcomes[0].trace_id, outcomes[0].metrics)


def show_ways(ways: list[dict[str, Any]]) -> None:
    """A UDF is asked again by the filter on its answer; the mapper's answers are on disk by then."""
    mlflow.log_table({name: [way[name] for way in ways] for name in ways[0]}, "three_ways.json")
    show_table(ways)


def row(size: int, metrics: dict[str, float]) -> dict[str, Any]:
    """One line of the table that sets numbers of rows per call side by side."""
    cost, accuracy = metrics.get("total_cost_usd"), metrics.get("accuracy")
    tokens = metrics["prompt_tokens"] + metrics["completion_tokens"] if "prompt_tokens" in metrics else None
    interval = f"{metrics['accuracy_low']:.3f} to {metrics['accuracy_high']:.3f}" if accuracy is not None else None
    return {
        "rows per call": size, "calls": metrics["llm_calls"], "unreadable": metrics["unreadable_batches"],
        "tokens": tokens,
        "USD per million rows": None if cost is None else cost / metrics["rows"] * 1e6,
        "accuracy": accuracy, "95 % interval": interval, "rows/s": metrics.get("rows_per_second"),
    }  # fmt: skip


@lesson("8.2", llm="mock", spark=True, rows=True)
@click.option("--num-rows", type=click.IntRange(min=10), default=1_000, show_default=True, help="Made-up rows.")
@click.option("--duplicate-share", type=click.FloatRange(0, 0.99), default=0.3, show_default=True,
              help="Of the made-up rows: share whose text stands in an earlier one.")  # fmt: skip
@click.option("--rows-per-call", type=click.IntRange(1, 100), multiple=True, default=(1, 5, 20), show_default=True,
              help="May be repeated: one job each, side by side.")  # fmt: skip
@click.option("--max-requests-per-minute", type=click.FloatRange(min=0, min_open=True),
              help="Over all workers together, retries included.")  # fmt: skip
@click.option("--compare-rows", type=click.IntRange(min=0), default=50, show_default=True,
              help="Rows that UDFs and the mapper are compared on; 0: none, as with --resume.")  # fmt: skip
@click.option("--trace", type=click.Choice(["all", "sample", "off"]), default="sample", show_default=True,
              help="Calls that get spans; all means up to 2,000 rows, beyond that a sample.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              show_default="below .mlflow-learn, replaced by each job", help="Rows, answers and result.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with an interrupted job; refused when anything differs.")
def main(
    num_rows: int, duplicate_share: float, rows_per_call: tuple[int, ...], max_requests_per_minute: float | None,
    compare_rows: int, trace: str, output: Path | None, resume: bool,
    backend: BackendOptions, spark: SparkOptions, source: InputOptions,
) -> None:  # fmt: skip
    if len(set(rows_per_call)) < len(rows_per_call):
        raise InputError("--rows-per-call names a number twice", "each number once")
    rows = open_rows(source, num_rows, duplicate_share)
    check_master(spark.spark_master)
    compared = 0 if resume else compare_rows  # it would pay again
    plan = Plan(rows_per_call, max_requests_per_minute, compared, trace, output, resume)
    with open_backend(backend) as llm:
        outcome = run(llm, rows, spark, plan)
    show("8.2", outcome.metrics, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
