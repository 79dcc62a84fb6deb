"""7.3 Serve the version behind an alias: keys, limits, streaming, figures, and a stop that loses nothing.

New here: AgentServer gives the agent a web address and nothing to protect it with; each guard is an app around it.
Run it:   uv run mlflow-serve-agent
          uv run mlflow-serve-agent --num-requests 400 --clients 16
          uv run mlflow-serve-agent --serve --port 8080
          uv run mlflow-serve-agent --add-key ada
          uv run mlflow-serve-agent --revoke-key ada
Look at:  uv run mlflow ui  ->  7-production  ->  Traces: each answer, its user (the key) and its agent_version
Change:   add --traces-per-second 5 --num-requests 400: how many requests have a trace now, and where is it said?
Docs:     https://mlflow.org/docs/latest/genai/serving/agent-server/
"""

import logging
import math
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import click
import mlflow
from fastapi import FastAPI, HTTPException, Response
from mlflow.entities import AssessmentSource, AssessmentSourceType, SpanType
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from utils.cli import Steps, lesson, show, show_table
from utils.errors import CheckFailed, InputError
from utils.lesson_context import current_tags
from utils.mlflow_setup import STATE_DIR
from utils.serving.keys import KeyGuard, KeyRing
from utils.serving.limits import BodyLimit, Limits, TimeLimit, limit_options
from utils.serving.live_agent import LiveAgent, Loaded
from utils.serving.metrics import Measured, Metrics
from utils.serving.open_spans import end_open_spans, noting_departure
from utils.serving.outcomes import Outcomes, noting_failure
from utils.serving.rate_limit import RateGuard, RateLimit
from utils.serving.record import ASKING_PATHS, CURRENT, App, Receive, Scope, Send
from utils.serving.service import LOCAL, READY, Service, listen_at, serve, service_process, with_request_schema
from utils.serving.shapes import REFUSALS, Feedback, ShapeGuard, request_schema
from utils.serving.threads import Workers
from utils.serving.trial import (
    EXPECTED,
    GUARDED,
    Trial,
    question_body,
    send_json,
    send_load,
    stop_under_load,
    try_guards,
)

NAME, ALIAS = "docs-agent", "production"
FLUSHES_PER_SECOND = 0.5  # for opinions on traces that are not in the store, invented ids among them
PACE = 40.0  # requests a second while the service stops
Said = TypeVar("Said", ResponsesAgentResponse, ResponsesAgentStreamEvent)
QUESTION = "For how many seconds is a lookup by alias remembered?"
SERVED: dict[str, str] = {}  # tags of the traces; filled when the service starts


class Traced:
    """Every request is a trace up to what the store can take in a second; above it, a share of them."""

    def __init__(self, app: App, per_second: float) -> None:
        self.app, self.budget = app, RateLimit(per_second, max(1.0, 2 * per_second))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = CURRENT.get()
        record.traced = scope["path"] in ASKING_PATHS and self.budget.take("traces") == 0
        with mlflow.tracing.context(enabled=None if record.traced else False, tags=SERVED, user=record.key):
            await self.app(scope, receive, send)


def build_app(live: LiveAgent, ring: KeyRing, limits: Limits, metrics: Metrics) -> App:
    """AgentServer, its two functions, three pages of our own, and the guards around them, the outermost last.

    One of it in a process: MLflow keeps the two functions in its module.
    """
    from mlflow.genai.agent_server import AgentServer, invoke, stream

    workers = Workers(limits.threads)

    @invoke()
    async def answer(request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        loaded = begin(live, metrics, request)
        with noting_failure():
            # A plain call here would hold up every other request until this one is answered.
            reply = await workers.call(loaded.agent.predict, request)
        return with_version(reply, loaded)

    @stream()
    async def answer_stream(request: ResponsesAgentRequest) -> AsyncIterator[ResponsesAgentStreamEvent]:
        loaded, root = begin(live, metrics, request), mlflow.get_current_active_span()
        with noting_failure(), noting_departure(root):
            async for event in workers.stream(
                lambda: loaded.agent.predict_stream(request), lambda: root and end_open_spans(root)
            ):
                yield with_version(event, loaded) if event.type == "response.output_item.done" else event

    server = AgentServer("ResponsesAgent")
    logging.getLogger("mlflow.genai.agent_server.server").setLevel(logging.CRITICAL)  # it logs what callers send
    add_pages(server.app, live, metrics)
    with_request_schema(server.app, request_schema(), ASKING_PATHS, REFUSALS)
    app: App = Outcomes(Traced(server.app, limits.traces_per_second))
    app = TimeLimit(ShapeGuard(app), limits.seconds)
    app = BodyLimit(app, limits.max_body_bytes, limits.seconds)
    app = RateGuard(app, RateLimit(limits.requests_per_minute / 60, limits.burst))
    return Measured(KeyGuard(app, ring), metrics)


def begin(live: LiveAgent, metrics: Metrics, request: ResponsesAgentRequest) -> Loaded:
    """The version that answers this request to its end, and what its trace says about it."""
    loaded, record = live.current, CURRENT.get()
    record.version = loaded.version
    metrics.asked.inc()
    if record.traced and (root := mlflow.get_current_active_span()):
        root.set_span_type(SpanType.AGENT)
        record.trace_id = root.trace_id
        session = request.context.conversation_id if request.context else None
        mlflow.update_current_trace(
            tags={"agent_version": loaded.version}, model_id=loaded.model_id, session_id=session, user=record.key
        )
        metrics.traced.inc()
    return loaded


def with_version(said: Said, loaded: Loaded) -> Said:
    return said.model_copy(update={"custom_outputs": {**(said.custom_outputs or {}), "agent_version": loaded.version}})


def add_pages(app: FastAPI, live: LiveAgent, metrics: Metrics) -> None:
    """Which version answers, the figures, and what callers say about answers."""
    flushes = RateLimit(FLUSHES_PER_SECOND, 2)  # each takes a second or two, and holds up the traces of everybody

    @app.get("/version")
    def version() -> dict[str, str | None]:
        return {"name": NAME, "alias": ALIAS, "version": live.current.version, "problem": live.problem}

    @app.get("/metrics")
    def figures() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.post("/feedback", responses={404: {"description": "no answer of yours"}})
    def feedback(said: Feedback) -> dict[str, str]:
        trace, key = mlflow.get_trace(said.trace_id, silent=True), CURRENT.get().key
        if trace is None:  # that of a moment ago may still be on its way
            if wait := flushes.take("flush"):
                raise HTTPException(503, "look again in a moment", {"retry-after": str(math.ceil(wait))})
            mlflow.flush_trace_async_logging()
            trace = mlflow.get_trace(said.trace_id, silent=True)
        if trace is None or trace.info.trace_metadata.get("mlflow.trace.user") != key:
            raise HTTPException(404, "there is no such answer of yours")
        source = AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id=key)
        given = mlflow.log_feedback(
            trace_id=said.trace_id, name="thumbs_up", value=said.thumbs_up, rationale=said.comment or None,
            source=source, metadata=SERVED or None,
        )  # fmt: skip
        return {"assessment_id": str(given.assessment_id)}


def run_service(host: str, port: int, ring: KeyRing, limits: Limits, follow_seconds: float, grace_seconds: int) -> None:
    """In the foreground until it is told to stop; then every trace is stored, and a run says how many there were."""
    metrics = Metrics()
    live = LiveAgent(NAME, ALIAS, {"seconds": limits.seconds}, metrics.use_version)
    listening = listen_at(host, port)
    SERVED.update(current_tags())
    app = build_app(live, ring, limits, metrics)

    def ready(address: str) -> None:
        click.echo(f"{READY}{address} with version {live.current.version} of {NAME}")

    with live.followed(follow_seconds):
        serve(app, listening, grace_seconds, ready)
    begun = time.monotonic()
    mlflow.flush_trace_async_logging()
    asked, traced = metrics.count(metrics.asked), metrics.count(metrics.traced)
    with mlflow.start_run(run_name="served"):
        mlflow.log_params({"version": live.current.version, "process": os.getpid()})
        mlflow.log_metrics({"asked": asked, "traced": traced, "flush_seconds": time.monotonic() - begun})
        mlflow.log_metric("traced_share", traced / asked if asked else 1.0)
    click.echo(f"Stopped: {asked} requests reached the agent, {traced} have a trace")


@dataclass(frozen=True)
class Outcome:
    run_id: str
    trace_id: str
    measured: dict[str, float]


def own_service(experiment_id: str, ring: KeyRing, limits: Limits) -> AbstractContextManager[Service]:
    """The command that a container would run, in a process of its own."""
    store = ["--tracking-uri", mlflow.get_tracking_uri()]
    store += ["--experiment-name", mlflow.get_experiment(experiment_id).name]
    own = ["--burst", str(limits.burst), "--traces-per-second", str(limits.traces_per_second)]
    return service_process([__file__, "--serve", "--port", "0", "--keys", str(ring.path), *own, *store])


def count_served(experiment_id: str, since_ms: int) -> tuple[dict[str, float], int]:
    """What the service wrote when it stopped, and the traces that are really there."""
    wanted = f"attributes.run_name = 'served' AND attributes.start_time >= {since_ms}"
    (run,) = mlflow.search_runs([experiment_id], wanted, max_results=1, output_format="list")
    found = mlflow.search_traces(
        locations=[experiment_id], include_spans=False, max_results=100_000, return_type="list",
        filter_string=f"tags.lesson = '7.3' AND trace.timestamp_ms >= {since_ms}",
    )  # fmt: skip
    return run.data.metrics, len(found)


def try_out(service: Service, keys: dict[str, str], limits: Limits, num_requests: int, clients: int) -> Trial:
    """What is refused, what an answer costs, what a caller says about it, and a stop while requests are running."""
    guarded = try_guards(service.url, keys, QUESTION, limits.max_body_bytes, limits.burst)
    opinion = {"trace_id": guarded[0].trace_id, "thumbs_up": True, "comment": "Short and right."}
    rated = send_json(service.url, keys["ada"], "/feedback", opinion)
    callers = [key for name, key in keys.items() if name.startswith("client")]
    load = send_load(service.url, callers, num_requests, clients, lambda n: question_body(QUESTION, stream=n % 2 == 0))
    last = stop_under_load(service, callers, clients, lambda _: question_body(QUESTION), PACE)
    return Trial(guarded, rated, load, last)


def run(num_requests: int, clients: int, limits: Limits) -> Outcome:
    steps, since_ms = Steps(4), int(time.time() * 1000)
    with mlflow.start_run(run_name="serve-agent") as active, TemporaryDirectory() as folder:
        # 1. The service, and who may ask it
        ring = KeyRing(Path(folder) / "keys.json")
        keys = {
            name: ring.add(name) for name in ("ada", "bob", "hasty", "eve", *(f"client-{n}" for n in range(clients)))
        }
        ring.revoke("eve")
        with own_service(active.info.experiment_id, ring, limits) as service:
            steps(f"The service runs at {service.url}; {len(keys)} keys, one of them revoked")
            trial = try_out(service, keys, limits, num_requests, clients)

        # 2. Who is refused, and how
        steps("One request of each kind")
        show_table([{"request": name, **answer.row()} for name, answer in zip(GUARDED, trial.guarded, strict=True)])
        if problem := trial.problem():
            raise CheckFailed(problem, "uv run mlflow-serve-agent --serve, and ask it yourself")

        # 3. What an answer costs
        figures = trial.load.figures()
        steps(f"{num_requests} requests by {clients} callers: {dict(trial.load.counts)}")

        # 4. A stop while requests are running, and what of it is in the store
        served, stored = count_served(active.info.experiment_id, since_ms)
        steps(f"Stopped under load: {trial.last.counts['200']} answered, then nobody there; {stored} traces stored")
        if stored != served["traced"]:
            raise CheckFailed(
                f"{served['traced']:.0f} traces were made and {stored} are stored", "mlflow.flush_trace_async_logging()"
            )
        measured = {**figures, "asked": served["asked"], "traced": stored, "traced_share": served["traced_share"]}
        mlflow.log_metrics({**measured, "guards": len(EXPECTED), "cut_off": trial.cut_off})
    return Outcome(active.info.run_id, trial.guarded[0].trace_id, measured)


@lesson("7.3")
@click.option("--serve", "foreground", is_flag=True, help="Serve until Ctrl-C or SIGTERM, instead of the trial.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Another one needs --keys with a key in it.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8080, show_default=True, help="0: a free one.")
@click.option("--keys", type=click.Path(path_type=Path), default=STATE_DIR / "agent-keys.json", metavar="FILE",
              help="Hashes of the keys; default: .mlflow-learn/agent-keys.json.")  # fmt: skip
@click.option("--add-key", metavar="NAME", help="Only make a key, and show it once.")
@click.option("--revoke-key", metavar="NAME", help="Only revoke one; a running service knows at once.")
@limit_options
@click.option("--follow-seconds", type=click.FloatRange(0.05), default=1.0, help="Between looks at the alias.")
@click.option("--grace-seconds", type=click.IntRange(1), default=60, help="For what runs when the stop comes.")
@click.option("--num-requests", type=click.IntRange(1), default=200, show_default=True, help="Of the trial.")
@click.option("--clients", type=click.IntRange(1), default=8, show_default=True, help="Of the trial, at once.")
def main(
    foreground: bool, host: str, port: int, keys: Path, add_key: str | None, revoke_key: str | None,
    follow_seconds: float, grace_seconds: int, num_requests: int, clients: int, **limits: Any,
) -> None:  # fmt: skip
    ring = KeyRing(keys)
    if add_key:
        click.echo(f"{ring.add(add_key)}\nThis is the key of {add_key}; it is not stored, and not shown again.")
    elif revoke_key:
        ring.revoke(revoke_key)
        click.echo(f"The key of {revoke_key} is revoked.")
    elif foreground:
        if not any(not key.revoked for key in ring.keys):
            if host not in LOCAL:
                raise InputError(f"{host} can be reached by others, and {keys} holds no key", "--add-key NAME first")
            name = ring.free_name("local")
            click.echo(f"Key:     {ring.add(name)}   (of {name}; shown once)")
        run_service(host, port, ring, Limits(**limits), follow_seconds, grace_seconds)
    else:
        burst = max(limits.pop("burst"), 2 + num_requests // clients)
        outcome = run(num_requests, clients, Limits(burst=burst, **limits))
        show("7.3", outcome.measured, run_id=outcome.run_id, trace_id=outcome.trace_id)


if __name__ == "__main__":
    main()
