"""6.5 Compare backends and model sizes on the same tasks by quality, cost and latency.

New here: a model is no row of a ranking but a point: what it costs, how often it is right and how sure that is.
Run it:   uv run mlflow-compare-backends
          uv run mlflow-compare-backends --candidate mock:mock-small --candidate ollama:llama3.2
          uv run mlflow-compare-backends --llm-type openai --model gpt-4o-mini --num-rows 20
          uv run mlflow-compare-backends --input my.csv --text-column comment --label-column verdict
Look at:  uv run mlflow ui  ->  6-evaluation  ->  Training runs: open compare-backends, frontier.png is under Artifacts
Change:   --num-rows 200; which intervals shrink, and does a model leave the frontier?
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow.entities import SpanType, Trace

from utils.cli import Steps, lesson, show, show_table
from utils.errors import InputError, JobFailed
from utils.evaluation import expected_in_answer, is_declined, latency_percentiles, wilson_interval
from utils.evaluation_rows import row_key
from utils.frontier import Point, draw_frontier, frontier
from utils.genai_evaluation import quiet_evaluation
from utils.lesson_context import tagged_in_threads
from utils.llm_backends import Backend, BackendUnavailable, check_backend, open_backend
from utils.options import LLM_TYPES, BackendOptions, InputOptions
from utils.pairwise import best_and_equals, compare_pairs
from utils.pricing import Usage, cost_usd, describe_price, price_of
from utils.prompt_utils import use_alias
from utils.questions import load_questions, spread, with_passages
from utils.row_scores import RowScores, read_row_scores
from utils.sample_documents import CORPUS
from utils.sentiment_job import load_job_rows, parse_label

MOCKS = ("mock-small", "mock-large")
LABEL = "Classify the sentiment of the review.\nAnswer with one word: {{labels}}.\n\nReview: {{text}}"
ANSWER = (
    "Answer the question from the context only, in one sentence.\n\n" "Context:\n{{text}}\n\nQuestion: {{question}}"
)
PER = 1_000  # requests that a cost is given for


@dataclass(frozen=True)
class Tasks:
    """The same rows for every candidate. labels: what a review may be called."""

    rows: list[dict[str, Any]]
    labels: tuple[str, ...]

    @property
    def keys(self) -> list[str]:
        return [row_key(row["inputs"]) for row in self.rows]


@dataclass(frozen=True)
class Measured:
    """One candidate: its point, which rows it has right, and what it used."""

    point: Point
    right: list[bool]
    usage: Usage
    p95_ms: float
    failed: int
    price: str
    run_id: str


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    measured: dict[str, Measured]
    on_frontier: list[str]


def read_candidate(text: str, backend: BackendOptions) -> BackendOptions:
    """TYPE:MODEL as the options of a backend; everything else as the flags say."""
    kind, _, model = text.partition(":")
    if kind not in LLM_TYPES or not model:
        raise InputError(f"{text!r} names no model", f"--candidate TYPE:MODEL, with TYPE one of {', '.join(LLM_TYPES)}")
    return replace(backend, llm_type=kind, model=model)


def choose_candidates(named: tuple[str, ...], backend: BackendOptions) -> list[BackendOptions]:
    """Those that are named, each of which must be there. With none named: the two mocks, the backend of --llm-type,
    and an Ollama that answers, since asking it costs nothing; one that does not is left out and said so."""
    if named:
        chosen = [read_candidate(text, backend) for text in dict.fromkeys(named)]
    else:
        chosen = [replace(backend, llm_type="mock", model=model) for model in MOCKS]
        if backend.llm_type != "mock":
            chosen.append(backend)
        if backend.llm_type != "ollama" and (ollama := reachable_ollama(backend)):
            chosen.append(ollama)
    for options in chosen:
        check_backend(options)
    return chosen


def reachable_ollama(backend: BackendOptions) -> BackendOptions | None:
    options = replace(backend, llm_type="ollama", model=None)
    try:
        check_backend(options)
    except BackendUnavailable as error:
        click.echo(f"      left out: {error.problem}")
        return None
    return options


def load_tasks(source: InputOptions, number: int, seed: int) -> Tasks:
    """Reviews to label and, with the sample data, as many questions about a document."""
    own = source.input is not None
    job = load_job_rows(source, number if own else (number + 1) // 2, seed)
    if not job.labelled:
        raise InputError("without labels no answer is right or wrong", "--label-column NAME")
    rows = [
        {"inputs": {"task": "label", "text": r.text, "question": ""}, "expectations": {"expected_response": r.label}}
        for r in job.frame.drop_duplicates("text").itertuples()
    ]
    if not own:
        texts = dict(with_passages(load_questions(), CORPUS))
        rows += [
            {
                "inputs": {"task": "answer", "text": texts[question], "question": question.question},
                "expectations": {"expected_response": question.expected_answer},
            }
            for question in spread(list(texts), number // 2, seed)
        ]
    if len(rows) < 2:
        raise InputError("one row says nothing about a model", "--num-rows 20")
    return Tasks(rows, job.labels)


def build_predict(llm: Backend, tasks: Tasks, prompts: dict[str, str]) -> Any:
    model, labels = llm.chat_model(), ", ".join(tasks.labels)  # ChatOllama for Ollama, ChatOpenAI for all others

    @tagged_in_threads
    @mlflow.trace(name="compared-task", span_type=SpanType.CHAIN)
    def predict(task: str, text: str, question: str) -> str:
        prompt = mlflow.genai.load_prompt(prompts[task])
        fields = {"text": text, "question": question, "labels": labels}
        return str(model.invoke(str(prompt.format(**{name: fields[name] for name in prompt.variables}))).text)

    return predict


def build_scorer(labels: tuple[str, ...]) -> Any:
    @mlflow.genai.scorer
    def right(inputs: dict[str, Any], outputs: str, expectations: dict[str, Any]) -> bool:
        expected = expectations["expected_response"]
        if inputs["task"] == "label":
            return parse_label(outputs, labels) == expected
        return expected_in_answer(outputs, expected) and not is_declined(outputs)

    return right


def calls_of(trace: Trace) -> list[tuple[float, dict[str, int]]]:
    """Milliseconds and tokens of each model call; a call whose server named no tokens is not free, it is unknown."""
    spans = [span for span in trace.search_spans(span_type=SpanType.CHAT_MODEL) if span.end_time_ns]
    return [((s.end_time_ns - s.start_time_ns) / 1e6, s.get_attribute("mlflow.chat.tokenUsage") or {}) for s in spans]


def evaluate_candidate(options: BackendOptions, tasks: Tasks, prompts: dict[str, str]) -> Measured:
    """One evaluation run for one model, one request at a time, so that its latency is its own."""
    with open_backend(options) as llm:
        name = f"{llm.llm_type}:{llm.model}"
        with mlflow.start_run(run_name=name, nested=True) as active, quiet_evaluation(workers=1):
            mlflow.log_params({"candidate": name, "rows": len(tasks.rows)})
            mlflow.genai.evaluate(
                data=tasks.rows, predict_fn=build_predict(llm, tasks, prompts), scorers=[build_scorer(tasks.labels)]
            )
        scores = read_row_scores(active.info.run_id, ["right"], tasks.keys)
    measured = measure(name, options, llm.model, tasks, scores)
    price = price_of(llm.model) if measured.point.cost_usd else None  # what it was computed with, if with anything
    mlflow.log_params({f"price_{k}": v for k, v in asdict(price).items()} if price else {}, run_id=active.info.run_id)
    low, high = measured.point.interval
    metrics = {"quality": measured.point.quality, "quality_low": low, "quality_high": high, "failed": measured.failed}
    metrics |= {"p50_ms": measured.point.latency_ms, "p95_ms": measured.p95_ms, **asdict(measured.usage)}
    if measured.point.cost_usd is not None:
        metrics[f"cost_usd_per_{PER}"] = measured.point.cost_usd
    mlflow.log_metrics(metrics, run_id=active.info.run_id)
    return measured


def measure(name: str, options: BackendOptions, model: str, tasks: Tasks, scores: RowScores) -> Measured:
    """A row whose call failed is wrong; it has no tokens and no latency."""
    if len(scores.failed) == len(tasks.rows):
        raise JobFailed(f"{name}: all requests failed, first with {next(iter(scores.failed.values()))}", JobFailed.CURE)
    values = scores.values["right"]
    right = [bool(values[key][0]) if key in values else False for key in tasks.keys]
    calls = [call for key, trace in scores.traces.items() if key not in scores.failed for call in calls_of(trace)]
    counted = [usage for _, usage in calls if usage]
    usage = Usage(sum(u["input_tokens"] for u in counted), sum(u["output_tokens"] for u in counted))
    cost = cost_usd(usage, model, options.llm_type) if len(counted) == len(calls) else None
    latency = latency_percentiles([milliseconds for milliseconds, _ in calls])
    point = Point(
        name,
        sum(right) / len(right),
        wilson_interval(sum(right), len(right)),
        None if cost is None else PER * cost / len(calls),
        latency["p50"],
    )
    note = describe_price(model, options.llm_type) if len(counted) == len(calls) else "the server counts no tokens"
    return Measured(point, right, usage, latency["p95"], len(scores.failed), note, scores.run_id)


def table_row(each: Measured, on_frontier: list[str]) -> dict[str, Any]:
    low, high = each.point.interval
    cost = "-" if each.point.cost_usd is None else f"{each.point.cost_usd:.4f}"
    return {
        "candidate": each.point.name,
        "right": f"{each.point.quality:.3f} ({low:.3f} to {high:.3f})",
        "failed": each.failed,
        f"USD/{PER:,}": cost,
        "p50 ms": f"{each.point.latency_ms:,.0f}",
        "p95 ms": f"{each.p95_ms:,.0f}",
        "frontier": "yes" if each.point.name in on_frontier else "no" if each.point.cost_usd is not None else "-",
    }


def compare(measured: dict[str, Measured]) -> str:
    """What the same rows say of the differences in quality, all pairs corrected."""
    right = {name: each.right for name, each in measured.items()}
    if len(right) < 2:
        return "One candidate has nothing to be compared with"
    pairs = compare_pairs(right)
    best, as_good = best_and_equals(right, pairs)
    mlflow.log_metrics({"pairs_told_apart": sum(pair.is_real for pair in pairs), "may_be_as_good": len(as_good)})
    if all(pair.same for pair in pairs):
        return "All candidates have the same rows right"
    others = f"{', '.join(as_good)} may be as good" if as_good else "no other is as good"
    return f"Right most often: {best}; {others}"


def run(candidates: list[BackendOptions], tasks: Tasks) -> Outcome:
    steps = Steps(4)
    mlflow.langchain.autolog()
    mlflow.openai.autolog(disable=True)  # evaluate would switch it on, and each call would be two spans
    prompts = {
        "label": use_alias("candidate-label", "production", LABEL, needs=("text", "labels")),
        "answer": use_alias("candidate-answer", "production", ANSWER, needs=("text", "question")),
    }
    with mlflow.start_run(run_name="compare-backends") as active:
        # 1. The same tasks for every candidate
        frame = pd.DataFrame([{**row["inputs"], **row["expectations"]} for row in tasks.rows])
        mlflow.log_input(mlflow.data.from_pandas(frame, name="candidate-tasks"), context="evaluation")
        kinds = frame["task"].value_counts()
        steps(f"{len(candidates)} candidates, {len(frame)} tasks: "
              f"{', '.join(f'{count} to {task}' for task, count in kinds.items())}")  # fmt: skip

        # 2. One evaluation run for each, one request at a time
        found = [evaluate_candidate(options, tasks, prompts) for options in candidates]
        measured = {each.point.name: each for each in found}
        points = [each.point for each in measured.values()]
        on_frontier = frontier(points)
        steps(f"Evaluated; costs are for {PER:,} such requests:")
        table = [table_row(each, on_frontier) for each in measured.values()]
        show_table(table)
        for each in measured.values():
            click.echo(f"      {each.point.name}: {each.price}")

        # 3. Which differences in quality are real
        steps(compare(measured))

        # 4. The picture
        fictional = any(each.price.startswith("fictional") for each in measured.values())
        note = "prices of the mock are invented for this curriculum" if fictional else "list prices"
        mlflow.log_figure(draw_frontier(points, note), "frontier.png")
        columns = {name: [row[name] for row in table] for name in table[0]}
        mlflow.log_table({**columns, "price": [each.price for each in measured.values()]}, "candidates.json")
        mlflow.log_metrics({"candidates": len(measured), "on_frontier": len(on_frontier)})
        mlflow.set_tag("frontier", ", ".join(on_frontier))
        steps(f"Worth considering, cheapest first: {', '.join(on_frontier) or 'none has a known price'}")
    trace = mlflow.search_traces(run_id=found[0].run_id, max_results=1, return_type="list")[0]
    return Outcome(active.info.run_id, trace.info.trace_id, measured, on_frontier)


@lesson("6.5", llm="mock", rows=True)
@click.option("--candidate", "named", multiple=True, metavar="TYPE:MODEL",
              help="May be repeated; default: both mocks, --llm-type, and an Ollama that answers.")  # fmt: skip
@click.option("--num-rows", type=click.IntRange(min=2), default=40, show_default=True, help="Tasks for each candidate.")
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Which tasks.")
def main(named: tuple[str, ...], num_rows: int, seed: int, source: InputOptions, backend: BackendOptions) -> None:
    tasks = load_tasks(source, num_rows, seed)
    outcome = run(choose_candidates(named, backend), tasks)
    measured: dict[str, Any] = {f"right_{name}": each.point.quality for name, each in outcome.measured.items()}
    measured["on_frontier"] = len(outcome.on_frontier)
    show("6.5", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
