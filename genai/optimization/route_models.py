"""8.6 The small model first, the large one when it is needed.

New here: a router is a curve of cost and quality; its threshold is chosen on one half, and reported on the other.
Run it:   uv run mlflow-route-models
          uv run mlflow-route-models --keep 0.9 --num-tasks 160
          uv run mlflow-route-models --llm-type openai --small-model gpt-4o-mini --large-model gpt-4o
          uv run mlflow-route-models --input my.csv --text-column comment --label-column verdict
Look at:  uv run mlflow ui  ->  8-advanced  ->  Training runs  ->  route-models: routes.png is under Artifacts
Change:   write a confidence of your own in read_confidence(); does its curve run above the other ones?
Docs:     https://mlflow.org/docs/latest/genai/tracing/
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import click
import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import SpanType
from mlflow.models import infer_signature

from utils.cli import Steps, lesson, show, show_table, track
from utils.errors import InputError, JobFailed
from utils.evaluation import is_declined
from utils.llm_backends import open_backend
from utils.llm_calls import Chat, Reply
from utils.mixed_tasks import Task, load_mixed_tasks
from utils.options import BackendOptions, InputOptions
from utils.pricing import Usage, cost_usd, describe_price
from utils.prompt_utils import use_alias
from utils.routing import Half, Line, Requests, Routed, Router, draw_routes, report

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

MOCKS = ("mock-small", "mock-large")
LABEL = """Classify the sentiment of the review as one of: {{labels}}.
Answer with the label and your confidence from 0 to 1: label, confidence

Review: {{text}}"""
ANSWER = "Answer the question from the context only, in one sentence.\n\nContext:\n{{text}}\n\nQuestion: {{question}}"
NUMBER = re.compile(r"(?<![\d.])(?:0?\.\d+|[01](?:\.\d+)?)(?!\d|\.\d)")
FOLDS = 5
# For scale only: other models, other tasks, another measure of quality (MT Bench).
ROUTELLM = "RouteLLM: costs lower by up to 85 % at 95 % of GPT-4's quality on MT Bench (arXiv 2406.18665, its README)"
REQUIREMENTS = [f"{package}=={version(package)}" for package in ("scikit-learn", "skops")]


@dataclass(frozen=True)
class Answered:
    """What a model said: whether that is right, how sure it is, its cost in USD (None: not known), and its seconds."""

    right: bool
    sure: float
    usd: float | None
    seconds: float
    failed: bool


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    routed: dict[str, Routed]
    unit: str


def choose_models(small: str | None, large: str | None, backend: BackendOptions) -> tuple[str, str]:
    """--small-model (or --model) and --large-model; only the mock has two models that everybody has."""
    small = small or backend.model
    if backend.llm_type != "mock" and not (small and large):
        raise InputError(f"{backend.llm_type} has no two models by default", "--small-model NAME --large-model NAME")
    chosen = small or MOCKS[0], large or MOCKS[1]
    if chosen[0] == chosen[1]:
        raise InputError(f"both models are {chosen[0]}", "--small-model NAME --large-model ANOTHER")
    return chosen


def choose_store(params: dict[str, Any]) -> str | None:
    """The small model becomes the backend's: a server that lacks it is refused before anything is opened."""
    small, large = choose_models(params.pop("small_model"), params["large_model"], params["backend"])
    params |= {"backend": replace(params["backend"], model=small), "large_model": large}
    return params["tracking_uri"]


def read_confidence(task: Task, reply: str) -> float:
    """How sure the model is: what it says beside a label (0 where it says nothing). Of an answer in words only this is
    known: a model that says it does not know is unsure."""
    if task.kind == "answer":
        return 0.0 if is_declined(reply) else 1.0
    numbers = NUMBER.findall(reply)
    return float(numbers[-1]) if numbers else 0.0


@dataclass(frozen=True)
class Models:
    """Both models behind one question; every call is a span below the request's."""

    small: Chat
    large: Chat
    llm_type: str
    labels: tuple[str, ...]
    prompts: dict[str, str]

    def ask(self, chat: Chat, task: Task) -> tuple[str, Answered]:
        prompt = mlflow.genai.load_prompt(self.prompts[task.kind])
        fields = {"text": task.text, "question": task.question, "labels": ", ".join(self.labels)}
        failed: list[str] = []
        with mlflow.start_span(chat.model, span_type=SpanType.CHAIN) as span:
            reply = chat.try_complete(str(prompt.format(**{name: fields[name] for name in prompt.variables})), failed)
            text = reply.text if reply else ""
            sure = read_confidence(task, text) if reply else 0.0
            span.set_attributes({"router.sure": sure} | ({"router.failed": failed[0]} if failed else {}))
        seconds = ((span.end_time_ns or 0) - span.start_time_ns) / 1e9
        right = reply is not None and task.is_right(text, self.labels)
        return text, Answered(right, sure, self.usd(chat.model, reply), seconds, reply is None)

    def usd(self, model: str, reply: Reply | None) -> float | None:
        if reply is None:
            return 0.0  # nobody bills a call that brought nothing
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            return None
        return cost_usd(Usage(reply.prompt_tokens, reply.completion_tokens), model, self.llm_type)

    def ask_both(self, task: Task) -> tuple[Answered, Answered]:
        with mlflow.start_span("both-models", span_type=SpanType.CHAIN) as span:
            span.set_inputs({"kind": task.kind, "text": task.text, "question": task.question})
            (_, small), (_, large) = self.ask(self.small, task), self.ask(self.large, task)
            span.set_outputs({"small_right": small.right, "large_right": large.right})
        return small, large

    def routed(self, task: Task, threshold: float) -> str:
        """The router at work: the small model first, the large one where it is unsure."""
        with mlflow.start_span("routed-request", span_type=SpanType.CHAIN) as span:
            span.set_inputs({"text": task.text, "question": task.question})
            reply, answered = self.ask(self.small, task)
            escalated = answered.sure < threshold
            if escalated:
                reply, _ = self.ask(self.large, task)
            span.set_attributes({"router.threshold": threshold, "router.escalated": escalated})
            span.set_outputs(reply)
        return span.trace_id


def ask_all(models: Models, tasks: Sequence[Task]) -> list[tuple[Answered, Answered]]:
    """Both models about every request: only so is it known what each router would have given."""
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(copy_context().run, models.ask_both, task) for task in tasks]
        pairs = [future.result() for future in track(futures, "Asking both models")]
    for place, name in ((0, models.small.model), (1, models.large.model)):
        if all(pair[place].failed for pair in pairs):
            raise JobFailed(f"all requests to {name} failed", JobFailed.CURE)
    return pairs


def to_requests(pairs: Sequence[tuple[Answered, Answered]]) -> tuple[Requests, str]:
    """With costs in USD where they are known and not 0, else in seconds, which is what own hardware costs."""
    small, large = [list(side) for side in zip(*pairs, strict=True)]
    known = all(each.usd is not None for each in (*small, *large)) and any(each.usd for each in large)
    prices = [[(each.usd or 0.0) if known else each.seconds for each in side] for side in (small, large)]
    return Requests([a.right for a in small], [a.right for a in large], *prices), "USD" if known else "seconds"


def train_router(tasks: Sequence[Task], right: Sequence[bool]) -> tuple["Pipeline", list[float]]:
    """A classifier that sees the request only and says how likely the small model has it right; and that chance for
    the rows it learns from, each from a model that has not seen it."""
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline

    fewest = min(sum(right), len(right) - sum(right))
    last = LogisticRegression(max_iter=1_000) if fewest >= FOLDS else DummyClassifier()
    router = make_pipeline(TfidfVectorizer(sublinear_tf=True), last)
    truth, texts = np.array(right, dtype=int), [task.request for task in tasks]
    unseen = cross_val_predict(router, texts, truth, cv=FOLDS, method="predict_proba") if fewest >= FOLDS else None
    router.fit(texts, truth)
    chance = [float(truth.mean())] * len(texts) if unseen is None else unseen[:, 1].tolist()
    return router, chance


def chance_of(router: "Pipeline", tasks: Sequence[Task]) -> list[float]:
    """How likely the small model is right; where it was always or never right, there was nothing to learn."""
    chances = dict(zip(router.classes_.tolist(), router.predict_proba([t.request for t in tasks]).T, strict=True))
    return [float(chance) for chance in chances.get(1, np.zeros(len(tasks)))]


def log_router(router: "Pipeline", tasks: Sequence[Task], threshold: float) -> str:
    example = pd.Series([task.request for task in tasks[:3]], name="request")
    logged = mlflow.sklearn.log_model(
        router, name="router", pip_requirements=REQUIREMENTS, serialization_format="skops",
        signature=infer_signature(example, router.predict(example)), params={"threshold": threshold},
    )  # fmt: skip
    return logged.model_id


def build_half(pairs: Sequence[tuple[Answered, Answered]], requests: Requests, chance: list[float]) -> Half:
    asks_first = Router("by confidence", [small.sure for small, _ in pairs], asks_first=True)
    return Half(requests, (asks_first, Router("by classifier", chance, asks_first=False)))


def log_results(points: list[Routed], lines: list[Line], keep: float, unit: str, model_id: str) -> list[dict[str, Any]]:
    small, by_confidence, by_classifier, large = points
    mlflow.log_figure(draw_routes(lines, (small, large), keep * large.quality, unit), "routes.png")
    table = [point.as_row(unit) for point in points]
    mlflow.log_table({name: [row[name] for row in table] for name in table[0]}, "routes.json")
    for point, name in ((by_confidence, "confidence"), (by_classifier, "classifier")):
        metrics = {"quality": point.quality, "share_to_large": point.share, "cost": point.cost}
        for kind, value, interval in (("kept", point.kept, point.kept_interval),
                                      ("saved", point.saved, point.saved_interval)):  # fmt: skip
            metrics |= {kind: value} if value is not None else {}
            metrics |= dict(zip((f"{kind}_low", f"{kind}_high"), interval, strict=True)) if interval else {}
        named = {f"{name}_{key}": value for key, value in metrics.items()}
        mlflow.log_metrics(named, model_id=model_id if name == "classifier" else None)
    mlflow.log_metrics({"small_quality": small.quality, "large_quality": large.quality, "large_cost": large.cost})
    return table


def run(models: Models, tasks: list[Task], keep: float, seed: int, requests_shown: int) -> Outcome:
    steps = Steps(4)
    mlflow.openai.autolog()
    names = models.small.model, models.large.model
    with mlflow.start_run(run_name="route-models") as active:
        frame = pd.DataFrame([vars(task) for task in tasks])
        mlflow.log_input(mlflow.data.from_pandas(frame, name="routed-tasks"), context="evaluation")
        mlflow.log_params({"small_model": names[0], "large_model": names[1], "keep": keep, "seed": seed})
        # 1. Both models about every request
        pairs, middle = ask_all(models, tasks), len(tasks) // 2
        requests, unit = to_requests(pairs)
        failed = sum(each.failed for pair in pairs for each in pair)
        mlflow.log_metrics({"requests": len(tasks), "failed_calls": failed})
        steps(f"{len(tasks)} requests to {names[0]} and {names[1]}; {failed} calls failed, which count as wrong")

        # 2. A second router learns from the first half, without a call to a model
        first, second = slice(0, middle), slice(middle, None)
        classifier, chance = train_router(tasks[first], requests.small[first])
        later = chance_of(classifier, tasks[second])
        halves = (build_half(pairs[first], requests.part(first), chance),
                  build_half(pairs[second], requests.part(second), later))  # fmt: skip
        steps(f"Thresholds from {middle} requests: the cheapest that keeps {keep:.0%} of the large model's quality")

        # 3. Reported on the second half
        points, lines = report(*halves, keep, names)
        mlflow.log_params({f"threshold_{point.name.split()[-1]}": point.threshold for point in points[1:3]})
        model_id = log_router(classifier, tasks, points[2].threshold)
        table = log_results(points, lines, keep, unit, model_id)
        steps(f"On the other {len(tasks) - middle} requests:")
        show_table(table)
        for point in points[1:3]:
            click.echo(f"      {point.name}: {point.verdict(keep)}")

        # 4. The router at work
        shown = [models.routed(task, points[1].threshold) for task in tasks[second][:requests_shown]]
        steps(f"{len(shown)} requests through the router by confidence, one trace each")
    kinds = {describe_price(name, models.llm_type) for name in names}
    click.echo(f"Cost:    {'; '.join(sorted(kinds))}" + (", so seconds stand for it" if unit == "seconds" else ""))
    click.echo(f"Context: {ROUTELLM}")
    return Outcome(active.info.run_id, shown[0], {point.name: point for point in points}, unit)


@lesson("8.6", llm="mock", rows=True, choose_store=choose_store)
@click.option("--small-model", help="Asked first; default: --model, with the mock mock-small.")
@click.option("--large-model", help="Asked when it is needed; default with the mock: mock-large.")
@click.option("--keep", type=click.FloatRange(0, 1), default=0.95, show_default=True,
              help="Share of the large model's quality that the router has to keep.")  # fmt: skip
@click.option("--num-tasks", type=click.IntRange(min=20), default=120, show_default=True,
              help="Requests: half to choose on, half to report on.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True, help="Which requests, in which half.")
def main(
    large_model: str, keep: float, num_tasks: int, seed: int, source: InputOptions, backend: BackendOptions
) -> None:
    tasks, labels = load_mixed_tasks(source, num_tasks, seed)
    if len(tasks) < 4 * FOLDS:
        raise InputError(f"{len(tasks)} different requests are too few to choose on one half", "--num-tasks 40")
    with (
        open_backend(backend) as llm_small,
        open_backend(replace(backend, model=large_model)) as llm_large,
        Chat(llm_small) as chat_small,
        Chat(llm_large) as chat_large,
    ):
        prompts = {
            "label": use_alias("routed-label", "production", LABEL, needs=("text", "labels")),
            "answer": use_alias("routed-answer", "production", ANSWER, needs=("text", "question")),
        }
        models = Models(chat_small, chat_large, backend.llm_type, labels, prompts)
        outcome = run(models, tasks, keep, seed, requests_shown=5)
    measured: dict[str, Any] = {f"{name}: right": point.quality for name, point in outcome.routed.items()}
    measured |= {f"{name}: cost saved": point.saved for name, point in outcome.routed.items() if "by" in name}
    show("8.6", measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
