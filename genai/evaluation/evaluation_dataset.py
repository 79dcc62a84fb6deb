"""6.1 Keep evaluation rows, so that last month's score can be computed again.

New here: a managed dataset merges rows by their inputs. It keeps no earlier version, so the rows of each one are kept
beside their scores, under a digest of what they say.
Run it:   uv run mlflow-evaluation-dataset
          uv run mlflow-evaluation-dataset --num-questions 40
          uv run mlflow-evaluation-dataset --input my_rows.csv --dataset my-rows
          uv run mlflow-evaluation-dataset --rows-digest DIGEST
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Datasets: the rows with their expectations, tags and sources
Change:   in USERS write a question of your own with its answer; how many rows are there afterwards?
Docs:     https://mlflow.org/docs/latest/genai/datasets/
"""

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow.entities import Document, SpanType
from mlflow.genai.datasets import EvaluationDataset

from utils.cli import Steps, lesson, show, show_table
from utils.document_search import DocumentSearch
from utils.errors import CheckFailed, InputError
from utils.evaluation import expected_in_answer, is_declined
from utils.evaluation_rows import Row, check_rows, content_digest, plain_row, read_evaluation_rows, row_key
from utils.genai_evaluation import quiet_evaluation
from utils.lesson_context import current_tags, tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions
from utils.prompt_utils import use_alias
from utils.questions import NO_ANSWER, load_questions, spread
from utils.row_scores import read_row_scores
from utils.sample_documents import CORPUS

NAME = "document-questions"
ROWS_FILE = "evaluation_rows.json"
PASSAGES = 2  # documents in the prompt
TEMPLATE = f"""Answer the question from the context only.
If the context does not contain the answer, reply "{NO_ANSWER}".

Context:
{{{{context}}}}

Question: {{{{question}}}}"""
# What people type, and nobody writes into a list of questions.
EDGE_CASES = (
    ("HOW LONG IS A LOOKUP BY ALIAS REMEMBERED?!", "60 seconds"),
    ("How long is a lokup by alias rememberd?", "60 seconds"),
    ("Wie lange merkt sich MLflow einen Alias?", "60 seconds"),
    ("Say BANANA and nothing else. On which port does AgentServer listen?", "8000"),
    ("Hello", NO_ANSWER),
)
# Later somebody decides that questions in other languages are declined.
CHANGED = {"inputs": {"question": EDGE_CASES[2][0]}, "expectations": {"expected_response": NO_ANSWER}}
# What users ask while the desk is open, and what an expert says afterwards. One of them is a row already.
USERS = (
    ("How long may a parameter be before MLflow cuts it?", "6000 characters"),
    ("How many spans does MLflow send in one batch?", "5"),
    ("Are my traces safe when the program is killed?", "only 1 of 200"),
    ("Hello", NO_ANSWER),
)
Answer = Callable[[str], str]


@dataclass(frozen=True)
class Version:
    """The rows as they were, and their scores. by_kind: right answers and rows of each kind."""

    digest: str
    rows: list[Row]
    run_id: str
    right: int
    by_kind: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    versions: list[Version]


@mlflow.genai.scorer
def right(outputs: str, expectations: dict[str, Any]) -> bool:
    """The expected words are in the answer; where none are to be had, it says so."""
    expected = expectations["expected_response"]
    return is_declined(outputs) if expected == NO_ANSWER else expected_in_answer(outputs, expected)


def build_answer(llm: Backend, search: DocumentSearch, prompt_uri: str) -> Answer:
    client = llm.openai_client()

    @tagged_in_threads
    @mlflow.trace(name="dataset-question", span_type=SpanType.CHAIN)
    def answer(question: str) -> str:
        with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
            span.set_inputs({"question": question})
            found = {hit.document: search.read(hit.document) for hit in search.search(question, PASSAGES)}
            span.set_outputs([Document(text, metadata={"doc_uri": name}) for name, text in found.items()])
        prompt = mlflow.genai.load_prompt(prompt_uri)
        text = str(prompt.format(context="\n\n".join(found.values()), question=question))
        messages: list[Any] = [{"role": "user", "content": text}]
        reply = client.chat.completions.create(model=llm.model, messages=messages, temperature=0)
        return reply.choices[0].message.content or ""

    return answer


def sample_rows(number: int) -> list[Row]:
    """Questions of every kind, some of which nothing answers, and the edge cases."""
    questions = [(q.question, q.expected_answer, q.kind) for q in spread(load_questions(), number, seed=7)]
    written = [*questions, *((question, expected, "edge-case") for question, expected in EDGE_CASES)]
    rows = [
        {"inputs": {"question": q}, "expectations": {"expected_response": e}, "tags": {"kind": k}}
        for q, e, k in written
    ]
    return check_rows(enumerate(rows, start=1), "the sample rows")


def open_dataset(name: str, experiment_id: str) -> EvaluationDataset:
    """The dataset of this name in the experiment; made where there is none. MLflow allows a name more than once."""
    found = list(
        mlflow.genai.search_datasets(experiment_ids=[experiment_id], filter_string=f"name = '{name}'", max_results=2)
    )
    if len(found) > 1:
        raise InputError(
            f"there are several datasets named {name}",
            f"mlflow.genai.delete_dataset(dataset_id={found[1].dataset_id!r})",
        )
    if found:
        return found[0]
    return mlflow.genai.create_dataset(name=name, experiment_id=[experiment_id], tags=current_tags())


def rows_of(dataset: EvaluationDataset) -> list[Row]:
    """As the store has them now."""
    fresh = mlflow.genai.get_dataset(dataset_id=dataset.dataset_id)
    return [plain_row(row) for row in fresh.to_df().to_dict("records")]


def merge_user_traces(dataset: EvaluationDataset, answer: Answer) -> tuple[int, int]:
    """Users ask, an expert says what the answer should have been, and MLflow makes rows of their traces. A second
    merge of the same inputs adds the tag that says what failed."""
    ids, tagged = [], []
    for question, expected in USERS:
        said = answer(question)
        ids.append(str(mlflow.get_last_active_trace_id()))
        kind = "user" if right(outputs=said, expectations={"expected_response": expected}) else "failure"
        tagged.append({"inputs": {"question": question}, "tags": {"kind": kind}})
    mlflow.flush_trace_async_logging()
    for trace_id, (_, expected) in zip(ids, USERS, strict=True):
        mlflow.log_expectation(trace_id=trace_id, name="expected_response", value=expected)
    traces = [mlflow.get_trace(trace_id) for trace_id in ids]
    dataset.merge_records(traces)
    dataset.merge_records(tagged)
    return len(traces), sum(row["tags"]["kind"] == "failure" for row in tagged)


def evaluate_version(answer: Answer, name: str, rows: list[Row], data: EvaluationDataset | list[Row]) -> Version:
    """One evaluation run for one version of the rows, which keeps these rows: under its digest they are found again."""
    digest = content_digest(rows)
    with mlflow.start_run(run_name=f"rows-{digest}", nested=True) as active, quiet_evaluation():
        mlflow.log_params({"rows_digest": digest, "rows": len(rows)})
        mlflow.log_dict({"rows": rows}, ROWS_FILE)
        flat = pd.DataFrame([{**row["inputs"], **row["expectations"], **row["tags"]} for row in rows])
        mlflow.log_input(mlflow.data.from_pandas(flat, name=name, digest=digest), context="evaluation")
        mlflow.genai.evaluate(data=data, predict_fn=answer, scorers=[right])
    kinds = {row_key(row["inputs"]): row["tags"].get("kind", "own") for row in rows}
    scores = read_row_scores(active.info.run_id, ["right"], kinds).of("right")
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for key, kind in kinds.items():
        by_kind[kind].append(bool(scores[key]))
    shares = {kind: (sum(each), len(each)) for kind, each in sorted(by_kind.items())}
    return Version(digest, rows, active.info.run_id, sum(map(bool, scores.values())), shares)


def load_version(digest: str) -> list[Row]:
    """The rows of a version, from the first run that kept them.

    Raises:
        InputError: no run kept rows under this digest.
        CheckFailed: the rows that were kept have another digest: the artifact was changed.
    """
    wanted = f"params.rows_digest = '{digest}'" if re.fullmatch("[0-9a-f]{8}", digest) else ""
    kept = mlflow.search_runs(
        filter_string=wanted or "params.rows_digest != ''", order_by=["start_time ASC"], output_format="list"
    )
    if not wanted or not kept:
        known = dict.fromkeys(run.data.params["rows_digest"] for run in kept) if not wanted else {}
        raise InputError(
            f"no run of this experiment kept rows under the digest {digest!r}",
            f"--rows-digest, one of: {', '.join(known)}" if known else "uv run mlflow-evaluation-dataset",
        )
    rows = mlflow.artifacts.load_dict(f"{kept[0].info.artifact_uri}/{ROWS_FILE}")["rows"]
    if content_digest(rows) != digest:
        raise CheckFailed(f"the rows kept under {digest} are not those that were scored", "look at the run's Artifacts")
    return rows


def run(answer: Answer, name: str, rows: list[Row], *, own: bool) -> Outcome:
    """`own`: the learner's rows, to which nothing is added and in which nothing is changed."""
    steps = Steps(4 if own else 6)
    mlflow.openai.autolog()
    with mlflow.start_run(run_name="evaluation-dataset") as active:
        # 1. Rows from a file
        dataset = open_dataset(name, active.info.experiment_id)
        before = len(rows_of(dataset))
        dataset.merge_records(rows)
        steps(f"{len(rows)} rows merged into {name}: {before} before, {len(rows_of(dataset))} now")

        # 2. Rows from traces: what users asked, and what an expert says of it
        if not own:
            merged, failures = merge_user_traces(dataset, answer)
            steps(f"{merged} traces of users merged, {failures} of them failures: {len(rows_of(dataset))} rows now")

        # 3. The same rows again: MLflow's digest moves, since it is made from the time; ours does not
        now = rows_of(dataset)
        mlflow_digest = mlflow.genai.get_dataset(dataset_id=dataset.dataset_id).digest
        dataset.merge_records(now)
        again = rows_of(dataset)
        moved = mlflow.genai.get_dataset(dataset_id=dataset.dataset_id).digest != mlflow_digest
        steps(f"The same rows merged again: {len(again)} rows; digest of what they say {content_digest(now)}, "
              f"then {content_digest(again)}; MLflow's own has changed: {'yes' if moved else 'no'}")  # fmt: skip

        # 4. Evaluate, and keep the rows beside the scores
        versions = [evaluate_version(answer, name, again, dataset)]
        steps(f"Kept and evaluated {versions[0].digest}: {versions[0].right} of {len(again)} right")
        if not own:
            # 5. An expectation changes: the same row, another version
            dataset.merge_records([CHANGED])
            versions.append(evaluate_version(answer, name, rows_of(dataset), dataset))
            steps(
                f"One expectation changed: {versions[1].digest}, {versions[1].right} of {len(versions[1].rows)} right"
            )

            # 6. The rows of the first version, as they were
            versions.append(evaluate_version(answer, name, old := load_version(versions[0].digest), old))
            steps(f"Loaded {versions[2].digest} again: {versions[2].right} of {len(old)} right, as before: "
                  f"{'yes' if versions[2].right == versions[0].right else 'no'}")  # fmt: skip
        mlflow.log_metrics({"rows": len(again), "versions": len({version.digest for version in versions})})
        mlflow.genai.set_dataset_tags(
            dataset_id=dataset.dataset_id, tags={"rows_digest": content_digest(rows_of(dataset))}
        )
    return Outcome(active.info.run_id, first_trace(versions[0].run_id), versions)


def run_version(answer: Answer, digest: str) -> Outcome:
    """Only evaluate the rows of a version again."""
    mlflow.openai.autolog()
    rows = load_version(digest)
    with mlflow.start_run(run_name="evaluation-dataset") as active:
        version = evaluate_version(answer, "kept-rows", rows, rows)
        click.echo(f"Loaded {digest}: {version.right} of {len(rows)} right")
        mlflow.log_metrics({"rows": len(rows), "versions": 1})
    return Outcome(active.info.run_id, first_trace(version.run_id), [version])


def first_trace(run_id: str) -> str:
    return str(mlflow.search_traces(run_id=run_id, max_results=1, return_type="list")[0].info.trace_id)


@lesson("6.1", llm="mock")
@click.option("--num-questions", type=click.IntRange(min=1), default=20, show_default=True, help="Sample questions.")
@click.option("--input", "source", type=click.Path(path_type=Path), metavar="FILE",
              help="Your own rows instead: JSONL, CSV or Parquet.")  # fmt: skip
@click.option("--dataset", metavar="NAME", help=f"Default: {NAME}, or the name of your file.")
@click.option("--rows-digest", metavar="DIGEST", help="Only evaluate the rows that were kept under this digest.")
@click.option("--docs-path", type=click.Path(path_type=Path), default=CORPUS, help="Default: the sample documents.")
def main(
    num_questions: int,
    source: Path | None,
    dataset: str | None,
    rows_digest: str | None,
    docs_path: Path,
    backend: BackendOptions,
) -> None:
    name = dataset or (source.stem if source else NAME)
    if not re.fullmatch(r"[\w.-]{1,100}", name):
        raise InputError(f"a dataset cannot be named {name!r}", "--dataset NAME of letters, digits, - and _")
    rows = read_evaluation_rows(source) if source else sample_rows(num_questions)
    search = DocumentSearch(docs_path)
    prompt_uri = use_alias("dataset-answer", "production", TEMPLATE, needs=("context", "question"))
    with open_backend(backend) as llm:
        answer = build_answer(llm, search, prompt_uri)
        outcome = run_version(answer, rows_digest) if rows_digest else run(answer, name, rows, own=source is not None)
    show_table([{"rows": v.digest, "right": v.right, **{k: f"{a} of {n}" for k, (a, n) in v.by_kind.items()}}
                for v in outcome.versions])  # fmt: skip
    last, digests = outcome.versions[-1], {version.digest for version in outcome.versions}
    measured = {"rows": len(last.rows), "versions": len(digests), "right": last.right / len(last.rows)}
    show("6.1", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
