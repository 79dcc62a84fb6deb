"""7.5 From a thumb down to a better prompt, and whether it is better on reviews that it was not made from.

New here: a complaint is looked at by an expert before it is a failure, becomes a row, and the row asks for a prompt.
Run it:   uv run mlflow-collect-feedback
          uv run mlflow-collect-feedback --num-reviews 150
          uv run mlflow-collect-feedback --input my_reviews.csv --text-column comment --label-column verdict
          uv run mlflow-collect-feedback --wording "Positive, negative or neutral? One word. {{review}}"
          uv run mlflow-collect-feedback --rollback
Look at:  uv run mlflow ui  ->  7-production  ->  Review: the queue review-box-complaints, and what the expert said
Change:   run it a second time: the users still complain. Of what, and what would your next --wording say?
Docs:     https://mlflow.org/docs/latest/genai/assessments/feedback/
"""

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType, SpanType, Trace
from mlflow.entities.model_registry import PromptVersion
from mlflow.genai.label_schemas import InputText, create_label_schema, list_label_schemas
from mlflow.genai.review_queues import (
    ReviewQueue,
    add_items_to_review_queue,
    create_review_queue,
    list_review_queues,
    set_review_queue_item_status,
)

from utils.cli import Steps, lesson, show
from utils.errors import CheckFailed, InputError
from utils.evaluation_rows import plain_row, row_key
from utils.genai_evaluation import quiet_evaluation
from utils.lesson_context import current_tags, tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions, InputOptions
from utils.paired_decision import Decision, decide
from utils.prompt_release import Release
from utils.prompt_utils import get_or_register
from utils.review_boxes import FEWEST, Boxes, Row, box_of, gain_of, gold_of, load_boxes, told
from utils.row_scores import read_row_scores
from utils.simulated_thumbs import Opinion, rate

ALIAS = "production"
ENOUGH = 2  # complaints that ask for the same label, before the prompt gets it
EXPERT = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id="expert")
Sort = Callable[[str], str]


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    measured: dict[str, float]


def wording(labels: Sequence[str]) -> str:
    boxes = f"{', '.join(labels[:-1])} or {labels[-1]}"
    return f"What is the sentiment of this review? Answer with one word: {boxes}.\n\n{{{{review}}}}"


def build_sort(llm: Backend, prompt_uri: str) -> Sort:
    client = llm.openai_client()

    @tagged_in_threads
    @mlflow.trace(name="sort-review", span_type=SpanType.CHAIN)
    def sort(review: str) -> str:
        prompt = mlflow.genai.load_prompt(prompt_uri)
        messages: list[Any] = [{"role": "user", "content": str(prompt.format(review=review))}]
        reply = client.chat.completions.create(model=llm.model, messages=messages, temperature=0)
        return reply.choices[0].message.content or ""

    return sort


@mlflow.genai.scorer
def right(outputs: str, expectations: dict[str, Any]) -> bool:
    return box_of(outputs) == expectations["expected_response"]


def serve(sort: Sort, rows: list[Row], run_id: str) -> tuple[list[str], list[bool]]:
    """A day at the desk: one trace each, and whether the box was right, which nobody knows yet."""
    ids, is_right = [], []
    with mlflow.tracing.context(tags={**current_tags(), "served_in": run_id}):
        for row in rows:
            answer = sort(row["inputs"]["review"])
            ids.append(str(mlflow.get_last_active_trace_id()))
            is_right.append(right(outputs=answer, expectations=row["expectations"]))
    mlflow.flush_trace_async_logging()
    return ids, is_right


def log_opinions(opinions: list[Opinion], ids: list[str]) -> list[str]:
    """What users say, by the API; the last of them by MLflow's command line. Returns that command."""
    for one in opinions[:-1]:
        source = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id=one.user)
        mlflow.log_feedback(
            trace_id=ids[one.place], name="thumbs_up", value=one.thumbs_up, rationale=one.comment, source=source
        )
    last = opinions[-1]
    words = ["traces", "log-feedback", "--trace-id", ids[last.place], "--name", "thumbs_up"]
    words += ["--value", str(last.thumbs_up).lower(), "--rationale", last.comment]
    words += ["--source-type", "HUMAN", "--source-id", last.user]
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", *words], capture_output=True, text=True, check=False,
        env={**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
    )  # fmt: skip
    if done.returncode:
        raise CheckFailed(f"mlflow traces log-feedback failed: {done.stderr[-300:]}", "run it by hand")
    return words


def complaints(run_id: str) -> list[Trace]:
    """The newest opinion counts: a thumb that an expert has overridden is not found any more."""
    wanted = f"feedback.thumbs_up = 'false' AND tags.served_in = '{run_id}'"
    return list(mlflow.search_traces(filter_string=wanted, max_results=1000, return_type="list"))


def open_queue(name: str, traces: list[Trace]) -> ReviewQueue:
    """The expert's work list on the page Review, with the question that it asks of each trace."""
    asked = "expected_response"
    schemas = [schema for schema in list_label_schemas() if schema.name == asked]
    if not schemas:
        schemas = [create_label_schema(asked, type="expectation", input=InputText(), instruction="Which box is right?")]
    queues = [queue for queue in list_review_queues() if queue.name == name]
    queue = queues[0] if queues else create_review_queue(
        name, queue_type="custom", users=[EXPERT.source_id], schema_ids=[schemas[0].schema_id]
    )  # fmt: skip
    add_items_to_review_queue(queue.queue_id, item_ids=[trace.info.trace_id for trace in traces])
    return queue


def review(queue: ReviewQueue, traces: list[Trace], gold: dict[str, str]) -> int:
    """An expert reads each complaint: the user erred, and his thumb is overridden, or the right box is written down.
    Returns how many users erred. This expert is simulated, too: he knows the label."""
    erred = 0
    for trace in traces:
        trace_id, text = trace.info.trace_id, trace.data.spans[0].inputs["review"]
        (thumb,) = trace.search_assessments("thumbs_up")
        if box_of(str(trace.data.spans[0].outputs)) == gold[text]:
            erred += 1
            mlflow.override_feedback(
                trace_id=trace_id, assessment_id=thumb.assessment_id, value=True, rationale="The box is right.",
                source=EXPERT,
            )  # fmt: skip
        else:
            mlflow.log_expectation(trace_id=trace_id, name="expected_response", value=gold[text], source=EXPERT)
        set_review_queue_item_status(queue.queue_id, item_id=trace_id, status="complete", completed_by=EXPERT.source_id)
    return erred


def merge(name: str, experiment_id: str, failures: list[Trace]) -> list[Row]:
    """The traces become rows: the inputs of the root span, the expectation of the expert. Returns all there are."""
    datasets = mlflow.genai.search_datasets(experiment_ids=[experiment_id], filter_string=f"name = '{name}'")
    dataset = next(iter(datasets), None)
    if dataset is None:
        dataset = mlflow.genai.create_dataset(name=name, experiment_id=[experiment_id], tags=current_tags())
    if failures:
        dataset.merge_records(failures)
    fresh = mlflow.genai.get_dataset(dataset_id=dataset.dataset_id)
    return [plain_row(row) for row in fresh.to_df().to_dict("records")]


def learn(template: str, labels: Sequence[str], failures: list[Trace]) -> str | None:
    """A prompt with the labels that the expert wrote down and this one does not name; None where it names them all."""
    said = [trace.search_assessments("expected_response", type="expectation")[-1].value for trace in failures]
    named = [label for label in labels if re.search(rf"\b{re.escape(label)}\b", template.lower())]
    missing = [label for label, times in Counter(said).items() if times >= ENOUGH and label not in named]
    return wording([*named, *missing]) if named and missing else None


def ask_again(llm: Backend, version: PromptVersion, rows: list[Row], what: str) -> list[bool]:
    """One evaluation run of one version; the scores as the store has them."""
    sort = build_sort(llm, version.uri)
    with mlflow.start_run(run_name=f"{what}-version-{version.version}", nested=True) as active, quiet_evaluation():
        mlflow.log_params({"prompt_version": version.version, "rows": what})
        mlflow.genai.evaluate(data=rows, predict_fn=sort, scorers=[right])
    keys = [row_key(row["inputs"]) for row in rows]
    scores = read_row_scores(active.info.run_id, ["right"], keys).of("right")
    return [bool(scores[key]) for key in keys]


def compare(llm: Backend, current: PromptVersion, candidate: PromptVersion, rows: list[Row], alpha: float) -> Decision:
    """Both versions on the same rows, none of which a prompt was made from."""
    first, second = (ask_again(llm, version, rows, "held-out") for version in (current, candidate))
    return decide(first, second, alpha)


def run(llm: Backend, boxes: Boxes, alpha: float, own_wording: str | None) -> Outcome:
    steps = Steps(6)
    mlflow.openai.autolog()
    release, name = Release(boxes.name, ALIAS, "uv run mlflow-collect-feedback"), f"{boxes.name}-complaints"
    if release.in_use() is None:
        release.to(int(get_or_register(boxes.name, wording(boxes.known), commit_message="First try").version))
    current = mlflow.genai.load_prompt(f"prompts:/{boxes.name}/{release.in_use()}")
    with mlflow.start_run(run_name="collect-feedback") as active:
        run_id, experiment_id = active.info.run_id, active.info.experiment_id

        # 1. Users get answers, and some of them say what they think
        ids, is_right = serve(build_sort(llm, current.uri), boxes.served, run_id)
        opinions = rate(is_right)
        words = log_opinions(opinions, ids)
        steps(
            f"Version {current.version}: {len(ids)} reviews, {sum(is_right)} in the right box, {len(opinions)} thumbs"
        )
        click.echo(f"      the last one by: uv run mlflow {shlex.join(words)}")

        # 2. An expert reads each complaint
        down = complaints(run_id)
        erred = review(open_queue(name, down), down, gold_of(boxes.served))
        steps(f"{len(down)} thumbs down, read by an expert: in {erred} of them the user erred")

        # 3. What is left becomes rows
        failures = complaints(run_id)
        rows = merge(name, experiment_id, failures)
        steps(f"{len(failures)} failing traces merged: the dataset {name} has {len(rows)} rows")

        # 4. The rows ask for another prompt
        text = own_wording or learn(str(current.template), boxes.labels, failures)
        candidate = get_or_register(boxes.name, text, commit_message="From complaints") if text else current
        first_line = str(candidate.template).splitlines()[0]
        steps(f"To try: version {candidate.version}: {first_line}" if text else "They ask for no other prompt")

        # 5. Right on the rows that the prompt was made from is no evidence; on the others it is
        mended, decision = None, None
        if candidate.version != current.version:
            mended = sum(ask_again(llm, candidate, rows, "complaints")) if rows else None
            decision = compare(llm, current, candidate, boxes.apart_from(gold_of(rows)), alpha)
        steps(told(decision, mended, len(rows)))

        # 6. Into use for a real gain only
        if decision and decision.is_real:
            release.to(int(candidate.version))
        steps(f"{ALIAS} of {boxes.name} points at version {release.in_use()}")
        measured: dict[str, float] = {"served": len(ids), "right": sum(is_right), "thumbs_down": len(down)}
        measured |= {"users_erred": erred, "failures": len(failures), "rows": len(rows)}
        measured |= {"in_use": release.in_use() or 0}
        measured |= {"complaints_mended": mended} if mended is not None else {}
        measured |= gain_of(decision) if decision else {}
        mlflow.log_metrics(measured)
    return Outcome(run_id, ids[0], measured)


@lesson("7.5", llm="mock", rows=True)
@click.option("--num-reviews", type=click.IntRange(min=FEWEST), default=120, show_default=True,
              help="Half are served, half are held out.")  # fmt: skip
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="How often an equal prompt may be taken for a better one, at most.")  # fmt: skip
@click.option("--wording", "own_wording", metavar="TEXT", help="A prompt of your own to try, with {{review}} in it.")
@click.option("--rollback", is_flag=True, help="Only point the alias back at the version before.")
def main(
    num_reviews: int, alpha: float, own_wording: str | None, rollback: bool, backend: BackendOptions,
    source: InputOptions,
) -> None:  # fmt: skip
    boxes = load_boxes(source, num_reviews)
    if rollback:
        left, now = Release(boxes.name, ALIAS, "uv run mlflow-collect-feedback").roll_back()
        click.echo(f"{ALIAS} of {boxes.name}: back from version {left} to version {now}")
        return
    if own_wording is not None and "{{review}}" not in own_wording:
        raise InputError("the wording has no place for the review", '--wording "… {{review}}"')
    with open_backend(backend) as llm:
        done = run(llm, boxes, alpha, own_wording)
    show("7.5", done.measured, run_id=done.run_id, trace_id=done.trace_id, trace_ids=int(done.measured["served"]))


if __name__ == "__main__":
    main()
