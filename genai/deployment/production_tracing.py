"""7.4 Traces in production: what a killed process loses, what is sampled, masked, found again and deleted.

New here: traces wait in a queue of the process that made them; what is in them, and for how long, is your decision.
Run it:   uv run mlflow-production-tracing
          uv run mlflow-production-tracing --num-requests 1000 --sampling-ratio 0.05
          uv run mlflow-production-tracing --message "Call me: +1 212 555 0123, bob@example.com"
          uv run mlflow-production-tracing --keep-days 30 --apply
          uv run mlflow-production-tracing --measure-lite
Look at:  uv run mlflow ui  ->  7-production  ->  Traces: the support traces, and the error of look_up_card
Change:   in `redact` leave out mask_error; in which column of the store is the card number now?
Docs:     https://mlflow.org/docs/latest/genai/tracing/prod-tracing/
"""

import os
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import click
import mlflow
from mlflow import MlflowClient
from mlflow.entities import LiveSpan, SpanType, ViewType

from utils.cli import Steps, lesson, show, show_table, waiting
from utils.errors import CheckFailed, InputError
from utils.evaluation import wilson_interval
from utils.lesson_context import current_tags
from utils.lite_install import measure_install
from utils.llm_backends import Backend, open_backend
from utils.mlflow_setup import quiet_housekeeping
from utils.options import BackendOptions
from utils.practice_store import DAY, NAME, copied_store, write_old_traces
from utils.prompt_utils import use_alias
from utils.redaction import KEPT_ATTRIBUTES, blank, mask, mask_error, secrets_of
from utils.sampling import sampling
from utils.short_lives import run_processes
from utils.store_size import find_in_store, store_bytes, store_file, vacuum
from utils.tracing_figures import Retention, Sampled, figures

PROMPT = "support-reply"
TEMPLATE = "You answer customers of a tea shop. Reply in one sentence.\n\nMessage: {{message}}"
# Invented people; the card number is one that card companies publish for tests.
MESSAGES = {
    "delivery": "Where is my parcel? Write to ada.king@example.org or call +49 30 5550 1234.",
    "payment": "My card 4111 1111 1111 1111 was charged twice, please pay one back.",
    "login": "My key sk-test-51HxYzAbCdEfGhIjKlMnOp does not work any more.",
}
ENDINGS = {
    "kill -9": (False, signal.SIGKILL),
    "kill -9 after a flush": (True, signal.SIGKILL),
    "SIGTERM": (False, signal.SIGTERM),
    "SIGTERM, heard": (False, signal.SIGTERM),  # by a handler that flushes
}
LIVES = 40  # traces of each process that ends
ALWAYS = 20  # requests of the two kinds that no ratio touches
LEVEL = 0.99  # of the interval around the sampled share
OLD_TRACES, OLD_DAYS = 40, 80  # written into the copy: one every two days
SEARCHES = ("tags.topic = 'payment'", "tags.fallback = 'no order found'", "metadata.`mlflow.trace.user` = 'customer-1'")


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_ids: list[str]
    measured: dict[str, float]


@mlflow.trace(name="request", span_type=SpanType.AGENT)
def answer_request(number: int) -> str:
    return f"answer {number}"


@mlflow.trace(name="refund", span_type=SpanType.AGENT, sampling_ratio_override=1.0)
def refund(number: int) -> str:
    """Money moves: every request has a trace, whatever the ratio is."""
    return f"refund {number}"


@mlflow.trace(name="health", span_type=SpanType.TASK, sampling_ratio_override=0.0)
def health() -> str:
    """Asked every second by a load balancer, and of no interest."""
    return "OK"


def live_and_end(ending: str, tracking_uri: str, experiment_id: str, tags: dict[str, str]) -> None:
    """A process that answers and then ends; its traces wait in its memory until a thread writes them."""
    quiet_housekeeping()
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(experiment_id=experiment_id)
    flush, number = ENDINGS[ending]
    if ending == "SIGTERM, heard":
        signal.signal(signal.SIGTERM, lambda *_: (mlflow.flush_trace_async_logging(), sys.exit(0)))
    with mlflow.tracing.context(tags=tags):
        for request in range(LIVES):
            answer_request(request)
    if flush:
        mlflow.flush_trace_async_logging()
    os.kill(os.getpid(), number)
    time.sleep(60)  # the signal comes at once


def count(name: str, further: str) -> int:
    found = mlflow.search_traces(
        filter_string=f"trace.name = '{name}' AND {further}",
        max_results=50_000,
        include_spans=False,
        return_type="list",
    )
    return len(found)


def end_processes(run_id: str, experiment_id: str) -> dict[str, int]:
    """How many of LIVES traces are in the store, by how their process ended."""
    tags = {ending: {**current_tags(), "ending": ending, "made_in": run_id} for ending in ENDINGS}
    uri = mlflow.get_tracking_uri()
    run_processes(live_and_end, [(ending, uri, experiment_id, own) for ending, own in tags.items()])
    return {ending: count("request", f"tags.ending = '{ending}' AND tags.made_in = '{run_id}'") for ending in ENDINGS}


def sample(run_id: str, num_requests: int, ratio: float) -> Sampled:
    with sampling(ratio), mlflow.tracing.context(tags={"sampled_in": run_id}):
        for number in range(num_requests):
            answer_request(number)
        for number in range(ALWAYS):
            refund(number)
            health()
    kept, refunds, pings = (count(name, f"tags.sampled_in = '{run_id}'") for name in ("request", "refund", "health"))
    return Sampled(kept / num_requests, *wilson_interval(kept, num_requests, LEVEL), refunds, pings)


def redact(span: LiveSpan) -> None:
    """MLflow calls it for every span before it is stored. When it raises, MLflow warns and stores the span as it is:
    so a span that cannot be masked is emptied."""
    try:
        for key, value in span.attributes.items():
            if key not in KEPT_ATTRIBUTES:
                span.set_attribute(key, mask(value))
        mask_error(span)  # an exception's message stands in the span's events and in its status
    except Exception:
        blank(span)
        raise


@mlflow.trace(name="look_up_card", span_type=SpanType.TOOL)
def look_up_card(message: str) -> str:
    raise LookupError(f"no order was paid as in: {message}")


def support(llm: Backend, message: str, topic: str, customer: str) -> str:
    """The customer is named by a number of the shop: `user` and tags are stored as they are, nothing masks them."""
    with mlflow.start_span("support", span_type=SpanType.AGENT) as span:
        span.set_inputs({"message": message})
        mlflow.update_current_trace(tags={"topic": topic, "release": "1.4"}, user=customer)
        if topic == "payment":
            try:
                look_up_card(message)
            except LookupError:
                mlflow.update_current_trace(tags={"fallback": "no order found"})
        prompt = mlflow.genai.load_prompt(f"prompts:/{PROMPT}@production")
        asked: list[Any] = [{"role": "user", "content": str(prompt.format(message=message))}]
        reply = llm.openai_client().chat.completions.create(model=llm.model, messages=asked, temperature=0)
        span.set_outputs(reply.choices[0].message.content)
    return span.trace_id


def answer_masked(llm: Backend, messages: dict[str, str]) -> list[str]:
    """The model sees what the customer wrote, the store does not; returns the trace ids."""
    mlflow.openai.autolog()
    mlflow.tracing.configure(span_processors=[redact])
    try:
        topics = enumerate(messages.items(), start=1)
        return [support(llm, message, topic, f"customer-{number}") for number, (topic, message) in topics]
    finally:
        mlflow.flush_trace_async_logging()
        mlflow.tracing.configure(span_processors=[])


def check_masked(messages: dict[str, str], trace_ids: list[str]) -> Counter[str]:
    """Look for every secret in the store.

    Raises:
        CheckFailed: one is there; said is its kind, never what it is.
    """
    secrets = secrets_of(messages.values())
    if found := find_in_store(mlflow.get_tracking_uri(), secrets, trace_ids):
        kinds = ", ".join(sorted({secrets[text] for text in found}))
        raise CheckFailed(f"the store holds what should be masked: {kinds}", "see `redact` in production_tracing.py")
    return Counter(secrets.values())


def delete_old(keep_days: int) -> Retention:
    """Delete the traces of every experiment that began more than `keep_days` ago, with all that hangs on them. SQLite
    keeps their space for what comes next; only VACUUM gives it back."""
    client, path = MlflowClient(), store_file(mlflow.get_tracking_uri())
    cutoff_ms = int((time.time() - keep_days * DAY) * 1000)
    before = store_bytes(path) / 1e6 if path else 0.0
    deleted = 0
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        deleted += client.delete_traces(experiment_id=experiment.experiment_id, max_timestamp_millis=cutoff_ms)
    if path is None:
        return Retention(deleted, None)
    after = store_bytes(path) / 1e6
    vacuum(path)
    return Retention(deleted, (before, after, store_bytes(path) / 1e6))


def try_retention(keep_days: int, experiment_id: str) -> Retention:
    """On a copy of the store, with old traces in it."""
    with copied_store(experiment_id):
        young = [trace for trace in write_old_traces(OLD_TRACES, OLD_DAYS) if trace.age < keep_days]
        done = delete_old(keep_days)
        named = f"trace.name = '{NAME}'"
        found = mlflow.search_traces(filter_string=named, max_results=OLD_TRACES, return_type="list")
    rated = sum(len(trace.info.assessments) for trace in found)
    return replace(done, left=(len(young), len(found)), assessments=(sum(one.rated for one in young), rated))


def run(llm: Backend, num_requests: int, ratio: float, messages: dict[str, str], keep_days: int) -> Outcome:
    steps = Steps(5)
    use_alias(PROMPT, "production", TEMPLATE, needs=("message",), commit_message="One sentence")
    with mlflow.start_run(run_name="production-tracing") as active:
        run_id, experiment_id = active.info.run_id, active.info.experiment_id

        # 1. Four processes answer, and end in four ways
        kept = end_processes(run_id, experiment_id)
        steps(f"Processes that answered {LIVES} requests each, and how they ended")
        show_table([{"ended by": ending, "traces in the store": number} for ending, number in kept.items()])

        # 2. A share of the traces, all of some, none of others
        s = sample(run_id, num_requests, ratio)
        steps(f"Sampling at {ratio}: {s.share:.3f} of {num_requests} requests ({LEVEL:.0%} interval {s.low:.3f} to "
              f"{s.high:.3f}), {s.always} of {ALWAYS} refunds, {s.never} of {ALWAYS} health checks")  # fmt: skip

        # 3. Personal data reaches the model, and not the store
        trace_ids = answer_masked(llm, messages)
        masked = check_masked(messages, trace_ids)
        told = ", ".join(f"{number} {kind}" for kind, number in masked.items())
        steps(f"Masked, then looked for in every column of the store and not found: {told}")
        click.echo(f"      as stored: {mlflow.get_trace(trace_ids[0]).info.request_preview}")

        # 4. Found again without it
        steps("Traces by tag and by user")
        show_table([{"filter": text, "traces": count("support", text)} for text in SEARCHES])

        # 5. Old traces go; on a copy first
        retention = try_retention(keep_days, experiment_id)
        steps(f"On a copy with {OLD_TRACES} old traces, what is older than {keep_days} days: {retention}")
        measured = figures(kept, LIVES, s, sum(masked.values()), retention)
        mlflow.log_metrics(measured)
    return Outcome(run_id, trace_ids, measured)


def apply_retention(keep_days: int) -> None:
    """In the learner's own store, which cannot be taken back."""
    with mlflow.start_run(run_name="retention") as active:
        retention = delete_old(keep_days)
        mlflow.log_metrics({"deleted": retention.deleted, "keep_days": keep_days})
    click.echo(f"{mlflow.get_tracking_uri()}, older than {keep_days} days: {retention} (run {active.info.run_id})")


def measure_lite() -> None:
    """mlflow-tracing is for processes that only send traces, to a server; both in one environment break each other."""
    found = {}
    for requirement in (f"mlflow-tracing=={mlflow.__version__}", f"mlflow=={mlflow.__version__}"):
        with waiting(f"installing {requirement}"):
            found[requirement] = measure_install(requirement, "mlflow")
    with mlflow.start_run(run_name="lite-install"):
        for name, one in zip(("lite", "full"), found.values(), strict=True):
            mlflow.log_metrics({f"{name}_{key}": value for key, value in asdict(one).items() if key != "requirement"})
    show_table([asdict(one) for one in found.values()])


@lesson("7.4", llm="mock")
@click.option("--num-requests", type=click.IntRange(min=1), default=200, show_default=True, help="To sample from.")
@click.option("--sampling-ratio", type=click.FloatRange(0, 1), default=0.2, show_default=True, help="Share traced.")
@click.option("--message", help="A customer's message of your own, with invented personal data in it.")
@click.option("--keep-days", type=click.IntRange(min=1), default=30, show_default=True, help="Older traces go.")
@click.option("--apply", is_flag=True, help="Only delete traces older than --keep-days from your own store.")
@click.option("--measure-lite", "lite", is_flag=True, help="Only install mlflow-tracing and mlflow apart, and compare.")
def main(
    num_requests: int, sampling_ratio: float, message: str | None, keep_days: int, apply: bool, lite: bool,
    backend: BackendOptions,
) -> None:  # fmt: skip
    if apply or lite:
        return apply_retention(keep_days) if apply else measure_lite()
    messages = {"own": message} if message else MESSAGES
    if not secrets_of(messages.values()):
        raise InputError("nothing in the message would be masked", f'--message "{MESSAGES["delivery"]}"')
    with open_backend(backend) as llm:
        done = run(llm, num_requests, sampling_ratio, messages, keep_days)
    show("7.4", done.measured, run_id=done.run_id, trace_id=done.trace_ids[0], trace_ids=len(done.trace_ids))
    return None


if __name__ == "__main__":
    main()
