"""6.4 A metric and a judge of your own, and how far the judge agrees with people.

New here: a judge is a rater like another; before it is believed it rates texts that people have rated.
Run it:   uv run mlflow-custom-judge
          uv run mlflow-custom-judge --model mock-large
          uv run mlflow-custom-judge --input rated.csv --label-column label --num-rows 300 --ceiling 0.8
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Evaluation runs: judge-once and judge-options-turned, then Compare
Change:   give LABEL_VERSIONS a sixth wording, and see in the plot whether its interval leaves that of the fifth
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/scorers/llm-judge/custom-judges/
"""

from dataclasses import dataclass
from typing import Any, Literal

import click
import mlflow
from mlflow.entities import AssessmentSource, SpanType, Trace
from mlflow.genai.judges import AlignmentOptimizer, Judge, make_judge

from utils.cli import Steps, lesson, show, show_table
from utils.errors import CheckFailed, InputError
from utils.evaluation import bootstrap_interval
from utils.genai_evaluation import quiet_evaluation, read_rows
from utils.judge_agreement import Agreement, agreement, plot_versions
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, open_backend
from utils.options import BackendOptions, InputOptions
from utils.prompt_utils import get_or_register
from utils.reviews import LABELS
from utils.sentiment_job import JobRows, load_job_rows, parse_label

Rating = Literal["positive", "negative", "neutral"]
NAME = "sentiment"  # of the judge; what people say about a trace has the same name, and another source
JUDGE_PROMPT, LABEL_PROMPT = "desk-judge", "desk-label"
INSTRUCTIONS = """You rate the sentiment of a customer's review: positive, negative or neutral.

Review: {{ outputs }}"""
TURNED = INSTRUCTIONS.replace("positive, negative or neutral", "neutral, negative or positive")
LABEL_VERSIONS = (
    "What do you think of this review?\n\n{{review}}",
    "What is the sentiment of this review?\n\n{{review}}",
    "Is the sentiment of this review positive or negative? Answer with one word.\n\n{{review}}",
    "Is the sentiment of this review positive, negative or neutral?\n\n{{review}}",
    "Answer with one word: positive, negative or neutral.\n\nThe review:\n{{review}}",
)
EACH = 2  # examples of each label that an aligned judge is shown
# The mock reads no examples: nothing about aligning it would mean anything.
NOT_ALIGNED = "Not aligned: only a real model can be (--llm-type local, ollama or openai)"


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    found: dict[str, Agreement]
    versions: list[dict[str, Any]]


@mlflow.genai.scorer
def desk_points(outputs: str, expectations: dict[str, Any]) -> float:
    """The metric of a desk that answers complaints: one that is missed counts as nothing, another mistake half."""
    given = parse_label(outputs, LABELS)
    if given == expectations["label"]:
        return 1.0
    return 0.0 if given is None or expectations["label"] == "negative" else 0.5


class ShowExamples(AlignmentOptimizer):
    """Align a judge by showing it what people said about some traces; `settings` are make_judge's model and URL."""

    def __init__(self, settings: dict[str, str]) -> None:
        self.settings = settings

    def align(self, judge: Judge, traces: list[Trace]) -> Judge:
        rated = [(str(root(trace).outputs), human_label(trace)) for trace in traces]
        chosen = [[pair for pair in rated if pair[1] == label and "{{" not in pair[0]][:EACH] for label in LABELS]
        shown = "\n".join(f"Example: {text}\nRating: {label}\n" for pairs in chosen for text, label in pairs)
        instructions = judge.instructions.replace("\n\nReview:", f"\n\n{shown}\nReview:")
        return make_judge(name=judge.name, instructions=instructions, feedback_value_type=Rating, **self.settings)


def root(trace: Trace) -> Any:
    return next(span for span in trace.data.spans if span.parent_id is None)


def human_label(trace: Trace) -> str:
    return next(
        item.value for item in trace.info.assessments if item.name == NAME and item.source.source_type == "HUMAN"
    )


def build_judge(llm: Backend, instructions: str) -> Judge:
    prompt = get_or_register(JUDGE_PROMPT, instructions, commit_message="Rates reviews")
    return make_judge(name=NAME, instructions=str(prompt.template), feedback_value_type=Rating, **llm.judge())


def rate(judge: Judge, rows: JobRows, name: str) -> tuple[str, list[str | None]]:
    """Let the judge rate every text in an evaluation run. Its id, and a label for each row: None where it failed.

    Raises:
        CheckFailed: a row has no trace, or not a single one has a rating.
    """
    texts = rows.frame["text"].tolist()

    @tagged_in_threads
    @mlflow.trace(name="review", span_type=SpanType.CHAIN)
    def review(row: int) -> str:
        return texts[row]

    with mlflow.start_run(run_name=name, nested=True) as active, quiet_evaluation():
        data = [{"inputs": {"row": row}} for row in range(len(texts))]
        mlflow.genai.evaluate(data=data, predict_fn=review, scorers=[judge])
        mlflow.flush_trace_async_logging()
        traces = {row: trace for row, (trace, _) in read_rows(active.info.run_id, (), len(texts)).items()}
        given = [judged_label(traces[row]) for row in range(len(texts))]
        mlflow.log_metric("judge_errors", given.count(None))
        if not any(given):
            raise CheckFailed("the judge rated no row", f"mlflow.get_trace({traces[0].info.trace_id!r})")
    return active.info.run_id, given


def judged_label(trace: Trace) -> str | None:
    given = [item.value for item in trace.info.assessments if item.name == NAME and item.value in LABELS]
    return given[0] if given else None


def align(llm: Backend, judge: Judge, rows: JobRows, run_id: str, given: list[str | None]) -> dict[str, Agreement]:
    """What people say goes onto the traces of the first half; the judge is aligned to these, and both judges are
    compared on the second half, which neither has seen."""
    half, people = len(given) // 2, rows.frame["label"].tolist()
    traces = {row: trace for row, (trace, _) in read_rows(run_id, (), len(given)).items()}
    source = AssessmentSource(source_type="HUMAN", source_id="rater")
    for row in range(half):
        mlflow.log_feedback(trace_id=traces[row].info.trace_id, name=NAME, value=people[row], source=source)
    rated = [mlflow.get_trace(traces[row].info.trace_id) for row in range(half)]
    aligned = judge.align(rated, ShowExamples(llm.judge()))
    held_out = JobRows(rows.frame.iloc[half:].reset_index(drop=True), rows.labels, "held out")
    _, again = rate(aligned, held_out, "judge-aligned")
    return {"before": agreement(people[half:], given[half:]), "after": agreement(people[half:], again)}


def measure_version(llm: Backend, version: int, rows: JobRows) -> tuple[float, ...]:
    """The points of one version of the prompt: their mean, and its interval."""
    client, settings = llm.openai_client(), llm.settings
    frame = rows.frame

    @tagged_in_threads
    @mlflow.trace(name="label-review", span_type=SpanType.CHAIN)
    def label(row: int) -> str:
        prompt = mlflow.genai.load_prompt(f"prompts:/{LABEL_PROMPT}/{version}")
        messages: list[Any] = [{"role": "user", "content": prompt.format(review=frame["text"][row])}]
        reply = client.chat.completions.create(model=settings.model, messages=messages, temperature=0)
        return reply.choices[0].message.content or ""

    data = [{"inputs": {"row": n}, "expectations": {"label": frame["label"][n]}} for n in range(len(frame))]
    with mlflow.start_run(run_name=f"label-version-{version}", nested=True) as active, quiet_evaluation():
        mlflow.log_param("prompt_version", version)
        mlflow.genai.evaluate(data=data, predict_fn=label, scorers=[desk_points])
    mlflow.flush_trace_async_logging()
    points = [
        scores["desk_points"] for _, scores in read_rows(active.info.run_id, ("desk_points",), len(data)).values()
    ]
    return sum(points) / len(points), *bootstrap_interval(points)


def measure_versions(llm: Backend, rows: JobRows) -> list[dict[str, Any]]:
    """One run after the other, in the order of the versions; the parent's metric has the version as its step."""
    table = []
    for template in LABEL_VERSIONS:
        version = int(get_or_register(LABEL_PROMPT, template, commit_message="Another wording").version)
        mean, low, high = measure_version(llm, version, rows)
        mlflow.log_metric("desk_points", mean, step=version)
        table.append({"version": version, "desk_points": mean, "low": low, "high": high})
    mlflow.log_figure(plot_versions(table, "desk_points"), "versions.png")
    return table


def run(llm: Backend, rows: JobRows, version_rows: JobRows, ceiling: float | None) -> Outcome:
    steps = Steps(4)
    with mlflow.start_run(run_name="custom-judge") as active:
        # 1. The judge beside the people, on the same texts
        judge, people = build_judge(llm, INSTRUCTIONS), rows.frame["label"].tolist()
        run_id, once = rate(judge, rows, "judge-once")
        with_people = agreement(people, once)
        steps(f"{llm.model} rated {rows.description}: {with_people}")
        known = "not known: these texts have one rating each" if ceiling is None else f"{ceiling:.3f}"
        click.echo(f"      Agreement of one person with the others: {known}")

        # 2. The judge beside itself
        _, again = rate(judge, rows, "judge-again")
        _, turned = rate(build_judge(llm, TURNED), rows, "judge-options-turned")
        repeated, reordered = agreement(once, again), agreement(once, turned)
        steps(f"Asked again it agrees with itself on {repeated.share:.3f}, options turned on {reordered.share:.3f}")

        # 3. The judge aligned to the people
        halves = align(llm, judge, rows, run_id, once) if llm.llm_type != "mock" else {}
        steps("; ".join(f"{when} alignment, held out: {found}" for when, found in halves.items()) or NOT_ALIGNED)

        # 4. The metric over successive versions
        versions = measure_versions(llm, version_rows)
        steps(f"desk_points of {len(versions)} versions of {LABEL_PROMPT}, {len(version_rows.frame)} rows each")
        show_table(versions)
        found = {"people": with_people, "again": repeated, "turned": reordered, **halves}
        for name, each in found.items():
            mlflow.log_metrics({f"{name}.{key}": value for key, value in each.metrics().items()})
        if ceiling is not None:
            mlflow.log_metric("people.ceiling", ceiling)
    trace = mlflow.search_traces(run_id=run_id, max_results=1, return_type="list")[0]
    return Outcome(active.info.run_id, trace.info.trace_id, found, versions)


def check_labels(rows: JobRows) -> JobRows:
    """Raises InputError where there is nothing to agree with."""
    if not rows.labelled:
        raise InputError("these rows have no ratings to agree with", "--label-column NAME")
    if not set(rows.labels) <= set(LABELS):
        raise InputError(f"the labels are {', '.join(rows.labels)}", f"give each row one of: {', '.join(LABELS)}")
    return rows


@lesson("6.4", llm="mock", rows=True)
@click.option("--num-rows", type=click.IntRange(min=4), default=30, show_default=True, help="Texts for the judge.")
@click.option("--version-rows", type=click.IntRange(min=2), default=18, show_default=True, help="Texts a version.")
@click.option("--ceiling", type=click.FloatRange(0, 1), metavar="SHARE",
              help="How often one of your raters agrees with the others, where you know it.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True)
def main(
    num_rows: int, version_rows: int, ceiling: float | None, seed: int, source: InputOptions, backend: BackendOptions
) -> None:
    rows = check_labels(load_job_rows(source, num_rows, seed))
    others = load_job_rows(source, version_rows, seed + 1)
    mlflow.openai.autolog()
    with open_backend(backend) as llm:
        outcome = run(llm, rows, others, ceiling)
    measured = {"kappa_with_people": outcome.found["people"].kappa, "kappa_again": outcome.found["again"].kappa}
    measured |= {"kappa_options_turned": outcome.found["turned"].kappa}
    show("6.4", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
