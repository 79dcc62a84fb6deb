"""7.8 The registered agent over a file, with Spark; a job that is killed goes on where it stopped.

New here: the version that serves also works through a file; each answer is on disk the moment it is there.
Run it:   uv run mlflow-batch-inference
          uv run mlflow-batch-inference --version 1
          uv run mlflow-batch-inference --input my.csv --text-column comment
          uv run mlflow-batch-inference --num-rows 5000 --output my_batch
          uv run mlflow-batch-inference --num-rows 5000 --output my_batch --resume
Look at:  uv run mlflow ui  ->  7-production  ->  Training runs  ->  agent-batch: the version that answered, and how
Change:   kill it in the middle (Ctrl-C, or kill -9) and resume: do kept_texts and calls add up to distinct_texts?
Docs:     https://mlflow.org/docs/latest/ml/model/python_model/
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import SpanType
from mlflow.exceptions import MlflowException

from utils.answer_figures import answer_figures, join_answers
from utils.batch_journal import JobFolder
from utils.batch_mapper import BatchReply, Limits, Texts, ask_all
from utils.batch_rows import BatchRows
from utils.cli import Steps, lesson, show, show_table, waiting
from utils.errors import CheckFailed, InputError, JobFailed
from utils.lesson_context import current_tags, tagged
from utils.llm_backends import check_backend
from utils.mlflow_setup import STATE_DIR
from utils.options import BackendOptions, InputOptions, SparkOptions
from utils.registry import logged_model_id
from utils.spark_mapper import is_sampled
from utils.spark_utils import check_master, spark_session, worker_errors
from utils.tickets import open_tickets

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NAME, ALIAS = "docs-agent", "production"
DEFAULT_OUTPUT = STATE_DIR / "agent-batch"
RESUME = "the same command with --output DIR --resume   (what is answered is not asked again)"


@dataclass(frozen=True)
class Agent:
    """What a worker needs: where the store is, which version answers, and which of its answers are traced."""

    tracking_uri: str
    experiment_id: str
    version: str
    model_id: str
    tags: dict[str, str]
    traced_share: float

    @property
    def uri(self) -> str:
        return f"models:/{NAME}/{self.version}"


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    metrics: dict[str, float]


class Refused(Exception):
    """The agent says that this is no question: another try would not make it one."""

    status_code = 422


def choose_version(number: int | None) -> tuple[str, str]:
    """Number and logged model of the version that answers: the one in production, or the one that is asked for.

    Raises:
        InputError: nothing is registered, or there is no such version.
    """
    client = MlflowClient()
    if not client.search_model_versions(f"name = '{NAME}'", max_results=1):
        raise InputError(f"no version of {NAME} is registered in this store", "uv run mlflow-register-agent")
    try:
        if number:
            found = client.get_model_version(NAME, str(number))
        else:
            found = client.get_model_version_by_alias(NAME, ALIAS)
    except MlflowException as error:
        problem = f"there is no version {number} of {NAME}" if number else f"no version of {NAME} is in {ALIAS}"
        cure = "uv run mlflow-batch-inference" if number else "uv run mlflow-promote-agent   (or: --version 1)"
        raise InputError(problem, cure) from error
    return str(found.version), logged_model_id(found)


def check_its_model(version: str) -> None:
    """Ask for the model server before Spark starts: the settings that it is reached by stand in the version.

    Raises:
        BackendUnavailable: no server, no such model, or no key.
    """
    config = mlflow.models.get_model_info(f"models:/{NAME}/{version}").flavors["python_function"]["config"]
    check_backend(BackendOptions(**config["backend"]))


@contextmanager
def open_agent(agent: Agent) -> Iterator[Callable[[Texts], BatchReply]]:
    """Runs in a Spark worker: the version is loaded once for all its questions, and traces leave before it ends."""
    mlflow.set_tracking_uri(agent.tracking_uri)
    mlflow.set_experiment(experiment_id=agent.experiment_id)
    loaded = mlflow.pyfunc.load_model(agent.uri)

    def ask(texts: Texts) -> BatchReply:
        (question,) = texts
        request = {"input": [{"role": "user", "content": question}]}
        traced = None if is_sampled(question, agent.traced_share) else False
        with mlflow.tracing.context(enabled=traced, tags=agent.tags):
            try:
                reply = loaded.predict(request)
            except InputError as error:
                raise Refused(error.problem) from error
        text = reply["output"][0]["content"][0]["text"]
        said = json.dumps({"answer": text, "sources": reply["custom_outputs"]["sources"]}) if text.strip() else ""
        return BatchReply(said, answers=(said,))

    try:
        yield ask
    finally:
        mlflow.flush_trace_async_logging()  # Spark ends its workers without a word
        mlflow.openai.autolog(disable=True, silent=True)  # the agent's; Spark uses this worker again for other jobs


def infer(
    session: "SparkSession", agent: Agent, rows: BatchRows, folder: JobFolder, concurrency: int, job: str
) -> dict[str, float]:
    """Ask what has no answer yet, join the answers to the rows, and measure from what is on disk."""
    if not folder.has_rows:
        rows.frame(session).write.mode("overwrite").parquet(folder.rows)
    frame = session.read.parquet(folder.rows)
    known, started = folder.answered(session), time.perf_counter()
    kept = known.count()
    todo = frame.select("text").where(r"text rlike r'\S'").distinct().join(known, "text", "left_anti")
    with waiting(f"Asking version {agent.version} about {rows.description}"):
        asked = ask_all(todo, partial(open_agent, agent), str(folder.path), job, Limits(concurrency))
    seconds = time.perf_counter() - started
    join_answers(frame, folder.answers(session)).write.mode("overwrite").parquet(folder.result)
    metrics = {"kept_texts": kept, **answer_figures(session, folder, job), "seconds": seconds}
    return metrics | {"answers_per_second": asked["texts"] / seconds}


def check(session: "SparkSession", folder: JobFolder, metrics: dict[str, float]) -> None:
    """Every row has its line in the result, and no text was answered twice.

    Raises:
        JobFailed: not a single row has an answer. CheckFailed: a row is lost, or a text was asked again.
    """
    if metrics["failed_rows"] == metrics["rows"]:
        row = session.read.parquet(folder.result).select("error").first()
        raise JobFailed(f"all {metrics['rows']:,} rows failed: {row['error'] if row else 'no rows'}", JobFailed.CURE)
    if metrics["lost_rows"] or metrics["asked_twice"]:
        problem = f"{metrics['lost_rows']} rows are lost, {metrics['asked_twice']} texts were answered twice"
        raise CheckFailed(problem, f"look into {folder.path}")


def run(rows: BatchRows, version: str, model_id: str, spark: SparkOptions, traced: int, folder: JobFolder) -> Outcome:
    steps = Steps(3)
    with mlflow.start_run(run_name="agent-batch") as active:
        # 1. Who answers: the run says it, and so does the trace of each sampled answer
        job, share = active.info.run_id, min(1.0, traced / (rows.count * (1 - rows.duplicates)))
        tags = {**current_tags(), "agent_version": version, "batch_run": job}
        agent = Agent(mlflow.get_tracking_uri(), active.info.experiment_id, version, model_id, tags, share)
        told = {"agent": NAME, "version": version, "model_id": model_id, "rows": rows.description}
        mlflow.log_params({**told, "output": str(folder.path), "traced_share": share})
        mlflow.set_tag("agent_version", version)
        steps(f"{rows.description}; version {version} of {NAME} answers, {spark.concurrency} at a time")

        # 2. Spark hands out the questions; each answer is in a journal before the next is asked
        with (
            mlflow.start_span("agent-batch", span_type=SpanType.WORKFLOW) as root,
            tagged(agent_version=version),
            spark_session(spark.spark_master, "agent-batch") as session,
            worker_errors(RESUME),
        ):
            root.set_inputs(told)
            metrics = infer(session, agent, rows, folder, spark.concurrency, job)
            root.set_outputs(metrics)
            steps(f"{metrics['kept_texts']:,} texts had an answer, {metrics['calls']:,} calls for the rest")

            # 3. What came of it belongs to the version, too: its page shows these figures
            mlflow.log_metrics(metrics, model_id=model_id)
            check(session, folder, metrics)
            first = session.read.parquet(folder.result).where("answer is not null").orderBy("id").take(3)
        folder.finish()
        steps(f"{metrics['rows']:,} rows in the result, none lost, none answered twice")
    show_table(
        [
            {"text": shorten(r["text"], 45, placeholder=" …"), "answer": shorten(r["answer"], 45, placeholder=" …"),
             "sources": ", ".join(r["sources"])}
            for r in first
        ]
    )  # fmt: skip
    return Outcome(job, root.trace_id, metrics)


@lesson("7.8", spark=True, rows=True)
@click.option("--num-rows", type=click.IntRange(min=1), default=100, show_default=True, help="Tickets, without a file.")
@click.option("--version", type=click.IntRange(min=1), help=f"Of {NAME}; default: the one in {ALIAS}.")
@click.option("--traced-rows", type=click.IntRange(min=0), default=50, show_default=True,
              help="About so many answers get a trace, the driver's root aside.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              show_default="below .mlflow-learn, replaced by each job", help="Rows, answers and result.")  # fmt: skip
@click.option("--resume", is_flag=True, help="Go on with an interrupted job; refused when anything differs.")
def main(
    num_rows: int, version: int | None, traced_rows: int, output: Path | None, resume: bool,
    spark: SparkOptions, source: InputOptions,
) -> None:  # fmt: skip
    check_master(spark.spark_master)
    if spark.spark_master.startswith("spark://") and not mlflow.get_tracking_uri().startswith("http"):
        problem = f"workers of {spark.spark_master} cannot load a version from {mlflow.get_tracking_uri()}"
        raise InputError(problem, "uv run mlflow server, then --tracking-uri http://HOST:5000")
    rows = open_tickets(source, num_rows)
    number, model_id = choose_version(version)
    check_its_model(number)
    decided = {"agent": f"{NAME} version {number} ({model_id})", "rows": rows.fingerprint}
    folder = JobFolder.open(output or DEFAULT_OUTPUT, decided, resume=resume, replace=output is None)
    outcome = run(rows, number, model_id, spark, traced_rows, folder)
    click.echo(f"Answers: {folder.result}")
    show("7.8", outcome.metrics, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
