"""7.6 Figures, scores and alerts from traces, and a dashboard that is one file.

New here: an alert is a test whose false alarms are stated; a threshold by eye is crossed on every tenth quiet day.
Run it:   uv run mlflow-monitor
          uv run mlflow-monitor --requests 40 --sample 0.25 --max-error-rate 0.02
          uv run mlflow-monitor --monitor 7-production --filter "tags.lesson = '7.3'" --window-minutes 30
          uv run mlflow-monitor --monitor 7-production --watch 60 --sample 0
Look at:  uv run mlflow ui  ->  7-production  ->  Training runs: open monitor, dashboard.html is under Artifacts
Change:   --requests 6; which planted faults are not found any more, and how many requests would each need?
Docs:     https://mlflow.org/docs/latest/genai/eval-monitor/
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import click
import mlflow
from mlflow.entities import SpanType, Trace
from mlflow.exceptions import MlflowException
from mlflow.genai.judges import make_judge

from utils.agent_setup import priced_spans
from utils.cli import Steps, lesson, show, show_table, track
from utils.dashboard import render_dashboard
from utils.document_index import DocumentIndex, open_index
from utils.errors import CheckFailed, InputError
from utils.evaluation import is_declined
from utils.genai_evaluation import quiet_evaluation
from utils.llm_backends import Backend, open_backend
from utils.model_servers import describe_failed_call
from utils.monitor_looks import Look, Watched, alert_table, compare, take_watched, watch_options
from utils.monitor_requests import Served, figures_of, in_sample, read_served, readable
from utils.options import BackendOptions, EmbedOptions
from utils.pricing import describe_price
from utils.prompt_utils import use_alias
from utils.questions import load_questions
from utils.sample_documents import CORPUS

PROMPT = "monitored-answer"
TEMPLATE = (
    "Answer the question from the context only, in one sentence. "
    'If the context does not contain the answer, reply "I do not know".\n\n'
    "Context:\n{{context}}\n\nQuestion: {{question}}"
)
JUDGE = "Does the answer respond to the question?\n\nQuestion: {{ inputs }}\n\nAnswer: {{ outputs }}"
SCORERS = ("answered", "responds")
PLANTED = {  # kind of alert → the fault that must raise it, and no other
    "latency": "each request waits twice as long as an answer took before",
    "errors": "three of four requests fail before the model is asked",
    "cost": "every passage is sent four times",
    "quality": "the index returns the passages that fit worst",
}
MOCK_MS = (
    40.0  # an answer of the mock, where --mock-latency-ms says nothing: at 0 ms this machine's noise is all there is
)
MOST_TRACES = 20_000
MINE = "tags.planted LIKE '%'"  # the traffic that this lesson makes


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    measured: dict[str, Any]


@mlflow.genai.scorer
def answered(outputs: Any) -> bool:
    """A scorer of code: it costs nothing and sees only what a rule can see."""
    text = readable(outputs)
    return bool(text.strip()) and not is_declined(text)


class Service:
    """What is monitored. `planted` is a fault of PLANTED that it has, or empty."""

    def __init__(self, llm: Backend, index: DocumentIndex) -> None:
        self.llm, self.index, self.client = llm, index, llm.openai_client(max_retries=0)
        self.numbers = itertools.count()
        self.wait_seconds = 0.1

    def ask(self, question: str, planted: str) -> str:
        with mlflow.start_span("monitored-request", span_type=SpanType.AGENT) as root:
            root.set_inputs({"question": question})
            mlflow.update_current_trace(tags={"planted": planted or "nothing"})
            if planted == "latency":
                time.sleep(self.wait_seconds)
            if planted == "errors" and next(self.numbers) % 4:
                raise ConnectionError("planted: the search does not answer")
            prompt = mlflow.genai.load_prompt(f"prompts:/{PROMPT}@production")
            content = str(prompt.format(context=self.context(question, planted), question=question))
            answer = self.stream(content)
            root.set_outputs(answer)
        return answer

    def context(self, question: str, planted: str) -> str:
        with mlflow.start_span("retrieve", span_type=SpanType.RETRIEVER) as span:
            span.set_inputs({"query": question})
            found = self.index.retrieve(question, self.index.passages if planted == "quality" else 3)[-3:]
            found *= 4 if planted == "cost" else 1
            span.set_outputs([passage.as_page() for passage in found])
        return "\n\n".join(passage.text for passage in found)

    def stream(self, content: str) -> str:
        """Autolog notes when each piece came: the first one is the time to first token."""
        pieces = self.client.chat.completions.create(
            model=self.llm.model, messages=[{"role": "user", "content": content}], stream=True,
            temperature=self.llm.settings.temperature, stream_options={"include_usage": True},
        )  # fmt: skip
        return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)


def serve(service: Service, questions: Sequence[str], planted: str) -> tuple[float, float]:
    """Ask all; from when to when, in ms since 1970. A failed request is what is measured, not the end."""
    begun = time.time() * 1000
    for question in track(questions, planted or "quiet"):
        try:
            service.ask(question, planted)
        except Exception as error:
            if not (planted == "errors" and isinstance(error, ConnectionError)) and not describe_failed_call(error):
                raise
    return begun, time.time() * 1000


def find_traces(experiment_id: str, since_ms: float, further: str) -> list[Trace]:
    wanted = f"trace.timestamp_ms >= {int(since_ms)}" + (f" AND {further}" if further else "")
    try:
        return mlflow.search_traces(
            locations=[experiment_id], filter_string=wanted, max_results=MOST_TRACES, return_type="list"
        )
    except MlflowException as error:
        raise InputError(f"MLflow cannot search for {further}: {error}", "--filter \"tags.lesson = '7.3'\"") from error


def score_sample(llm: Backend, traces: list[Trace], share: float) -> int:
    """Score the answered traces of the sample that nobody has scored yet; how many these were."""
    chosen = [
        trace for trace in traces
        if trace.info.state == "OK" and in_sample(trace.info.trace_id, share)
        and not {item.name for item in trace.info.assessments} & set(SCORERS)
    ]  # fmt: skip
    if chosen:
        judge = make_judge(name="responds", instructions=JUDGE, feedback_value_type=bool, **llm.judge())
        with mlflow.start_run(run_name="monitor-scores", nested=True), quiet_evaluation():
            mlflow.genai.evaluate(data=chosen, scorers=[answered, judge])
        mlflow.flush_trace_async_logging()
    return len(chosen)


def report(title: str, note: str, served: list[Served], looks: list[Look]) -> None:
    """Into the active run: figures with a step for each look, the alerts with all their traces, and the page."""
    show_table([look.row() for look in looks])
    for step, look in enumerate(looks):
        for line in look.lines():
            click.echo(f"      {line}")
        mlflow.log_metrics({**look.figures.metrics(), "alerts": len(look.alerts)}, step=step)
    if table := alert_table(looks):
        mlflow.log_table(table, "alerts.json")
    mlflow.log_text(render_dashboard(title, note, served, looks), "dashboard.html")


def make_traffic(service: Service, requests: int, experiment_id: str) -> dict[str, tuple[float, float]]:
    """Real calls to the chosen model: a baseline, a quiet stretch, and one for each planted fault. Where each lies."""
    known = itertools.cycle([each.question for each in load_questions() if each.kind == "same-words"])
    serve(service, [next(known)], "")  # the first request opens connections, and belongs to no part
    ends = {"before": serve(service, list(itertools.islice(known, 2 * requests)), "")}
    mlflow.flush_trace_async_logging()
    before = figures_of(read_served(find_traces(experiment_id, ends["before"][0], MINE)))
    service.wait_seconds = max(0.1, 2 * (before.p50_ms or 0) / 1000)
    for kind in ("", *PLANTED):
        ends[kind] = serve(service, list(itertools.islice(known, requests)), kind)
    mlflow.flush_trace_async_logging()
    return ends


def own_traffic(llm: Backend, embedding: EmbedOptions, requests: int, wanted: Watched) -> Outcome:
    steps = Steps(4)
    use_alias(PROMPT, "production", TEMPLATE, needs=("context", "question"))
    with mlflow.start_run(run_name="monitor") as active:
        mlflow.log_params({"requests": requests, "sample": wanted.share, "false_alarms": wanted.false_alarms})
        # 1. Traffic; the faults are planted, and their traces say so
        experiment = active.info.experiment_id
        ends = make_traffic(Service(llm, open_index(CORPUS, llm, embedding)), requests, experiment)
        begun = ends["before"][0]
        traces = find_traces(experiment, begun, MINE)
        steps(f"{len(traces)} requests to {llm.model}; four faults are planted:")
        for kind, fault in PLANTED.items():
            click.echo(f"      {kind}: {fault}")

        # 2. Scores for a sample, each trace once
        scored = score_sample(llm, traces, wanted.share)
        steps(f"Scored {scored} of them with {' and '.join(SCORERS)}")

        # 3. One look at a quiet stretch, and one at each fault
        served = read_served(find_traces(experiment, begun, MINE), SCORERS)
        parts = {kind: [e for e in served if first <= e.begun_ms <= last] for kind, (first, last) in ends.items()}
        looks = [
            compare(f"{kind} planted" if kind else "quiet", parts["before"], parts[kind], ends[kind], wanted)
            for kind in ("", *PLANTED)
        ]
        steps(f"Each against the {len(parts['before'])} before; {wanted.false_alarms:.1%} of quiet looks may alert")
        note = f"Faults are planted. Costs: {describe_price(llm.model, llm.llm_type)}."
        report("Requests of lesson 7.6", note, served, looks)

        # 4. Who fired
        fired = [kind for kind, look in zip(PLANTED, looks[1:], strict=True) if kind in look.kinds]
        others = sum(len(look.kinds) for look in looks) - len(fired)
        mlflow.log_metrics({"planted_found": len(fired), "other_alerts": others, "newly_scored": scored})
        missed = f"; not found: {', '.join(sorted(set(PLANTED) - set(fired)))}" if len(fired) < len(PLANTED) else ""
        steps(f"{len(fired)} of {len(PLANTED)} planted faults raised their alert{missed}; other alerts: {others}")
    whole = {"requests": len(served), "scored": scored, "planted_found": len(fired), "other_alerts": others}
    return Outcome(active.info.run_id, served[-1].trace_id, whole)


class NoRequests(InputError):
    """Nobody has asked in the minutes that are looked at."""


def look_once(llm: Backend | None, wanted: Watched) -> tuple[Outcome, Look]:
    """The newest minutes of an experiment against those before.

    Raises:
        InputError: there is no such experiment, or no such filter.
        NoRequests: nothing in those minutes.
    """
    experiment = mlflow.get_experiment_by_name(wanted.experiment)
    if experiment is None:
        raise InputError(f"there is no experiment {wanted.experiment}", "uv run mlflow-learn")
    now_ms = time.time() * 1000
    window_ms = now_ms - wanted.window_minutes * 60_000
    since_ms = window_ms - wanted.baseline_minutes * 60_000
    traces = find_traces(experiment.experiment_id, since_ms, wanted.further)
    served = read_served(traces, SCORERS)
    if not any(each.begun_ms >= window_ms for each in served):
        problem = f"{wanted.experiment} has no request in the last {wanted.window_minutes:g} minutes"
        raise NoRequests(problem, "--window-minutes 1440")
    with mlflow.start_run(run_name="monitor") as active:
        scored = score_sample(llm, traces, wanted.share) if llm else 0
        if scored:
            served = read_served(find_traces(experiment.experiment_id, since_ms, wanted.further), SCORERS)
        before, now = ([e for e in served if (e.begun_ms >= window_ms) is newer] for newer in (False, True))
        look = compare(wanted.experiment, before, now, (window_ms, now_ms), wanted)
        click.echo(f"{len(now)} requests in {wanted.window_minutes:g} minutes, {len(before)} before them"
                   f"{'' if before else ' (nothing to compare with: only limits)'}; {scored} scored now")  # fmt: skip
        report(f"Requests of {wanted.experiment}", "", served, [look])
    return Outcome(active.info.run_id, now[-1].trace_id, {"requests": len(now), "alerts": len(look.alerts)}), look


def look_and_alert(llm: Backend | None, wanted: Watched) -> Outcome:
    """One look; raises CheckFailed when an alert fires."""
    outcome, look = look_once(llm, wanted)
    if look.alerts:
        named = list(dict.fromkeys(trace_id for alert in look.alerts for trace_id in alert.trace_ids[:2]))
        problem = f"{', '.join(look.kinds)}: {wanted.experiment} has changed, see {', '.join(named[:4])}"
        raise CheckFailed(problem, f"dashboard.html and alerts.json of the run {outcome.run_id}")
    return outcome


def watch(llm: Backend | None, wanted: Watched, every_seconds: float) -> NoReturn:
    """Looks until an alert fires. Quiet hours end nothing; nor, after the first look, does a store that is away."""
    names_are_right = False
    while True:
        try:
            look_and_alert(llm, wanted)
        except (InputError, MlflowException) as error:
            if not names_are_right and not isinstance(error, NoRequests):
                raise
            click.echo(f"no look: {str(error).splitlines()[0]}", err=True)
        names_are_right = True
        time.sleep(every_seconds)


@lesson("7.6", llm="mock", embed=True)
@click.option("--requests", type=click.IntRange(2), default=20, show_default=True, help="Of each part of own traffic.")
@click.option("--monitor", metavar="EXPERIMENT", help="Look at the traces of this experiment; exit 1 on an alert.")
@watch_options
def main(requests: int, monitor: str | None, backend: BackendOptions, embedding: EmbedOptions, **params: Any) -> None:
    every_seconds, wanted = take_watched(params, monitor or "")
    if every_seconds and not monitor:
        raise InputError("--watch needs something to watch", "--monitor 7-production --watch 60")
    quiet_mock = backend.llm_type == "mock" and not backend.mock_latency_ms
    chosen = replace(backend, mock_latency_ms=MOCK_MS) if quiet_mock and not monitor else backend
    with open_backend(chosen) as llm:
        if monitor:
            judge = llm if wanted.share else None
            outcome = watch(judge, wanted, every_seconds) if every_seconds else look_and_alert(judge, wanted)
        else:
            mlflow.openai.autolog()
            with priced_spans(llm):
                outcome = own_traffic(llm, embedding, requests, wanted)
    show("7.6", outcome.measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
