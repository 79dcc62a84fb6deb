"""4.4 An agent that fails in the open: streaming, time limits, retries, a fallback, approval, feedback.

New here: a ResponsesAgent, logged from code. Whatever breaks, it answers in time or says that it cannot.
Run it:   uv run mlflow-production-agent
          uv run mlflow-production-agent --ask "Where is order 1042?" --mock-latency-ms 3000
          uv run mlflow-production-agent --ask "Refund order 1042."
          uv run mlflow-production-agent --mock-faults "429:0.3,timeout:0.1,500:0.2,garbage:0.2" --seconds 10
Look at:  uv run mlflow ui  ->  4-agents  ->  Traces: predict_stream, its red spans, and the tag outcome
Change:   give the scene of the tool that hangs tool_seconds 30; what does the user hear now, and after how long?
Docs:     https://mlflow.org/docs/latest/genai/flavors/responses-agent-intro/
"""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from textwrap import shorten
from typing import Any

import click
import mlflow
from mlflow.entities import AssessmentSource, AssessmentSourceType, SpanType, Trace
from mlflow.models.model import ModelInfo

from utils.agent_setup import priced_spans, tool_calls
from utils.cli import Steps, lesson, show, show_table
from utils.errors import CheckFailed, InputError
from utils.kept_backends import kept_backend
from utils.lesson_context import current_tags, tagged
from utils.llm_backends import Backend, check_backend
from utils.mlflow_setup import ROOT, STATE_DIR
from utils.options import BackendOptions
from utils.prompt_utils import use_alias

NAME, PROMPT, ALIAS = "order-agent", "order-agent", "production"
CODE = ROOT / "genai" / "deployment" / "order_agent.py"  # the agent itself: read it beside this file
SYSTEM = """You answer customers about their orders, in one sentence. Use the tools; never guess an order.
If a tool fails, say so."""
LIMITS = {"call_seconds": 5.0, "tool_seconds": 1.0, "tries": 2, "tool_calls": 4, "characters": 2000}
REQUIREMENTS = ["mlflow>=3.17.2,<3.18", "langchain>=1.4,<2", "langchain-openai>=1.7,<2", "langchain-ollama>=1.1,<2"]
EXAMPLE = {"input": [{"role": "user", "content": "Where is order 1042?"}]}
ANSWERED, WAITING = "answered", "waiting"


@dataclass(frozen=True)
class Scene:
    """A request, what is broken while it is served, and what a person decides when it waits for one."""

    name: str
    question: str
    config: dict[str, Any] = field(default_factory=dict)
    decision: str = ""


@dataclass(frozen=True)
class Reply:
    """What the caller saw. first_ms: until the first piece of text; the last event is no piece."""

    scene: str
    outcome: str
    text: str
    pieces: int
    first_ms: float | None
    total_ms: float
    trace_id: str
    thread: str


@dataclass(frozen=True)
class Outcome:
    run_id: str
    model_uri: str
    replies: list[Reply]


def scenes(backend: BackendOptions) -> list[Scene]:
    """What is asked. Only the mock's server can be broken from here; nobody's else is."""
    broken, silent = (
        replace(backend, mock_faults=faults) for faults in (f"500@{backend.model or 'mock-small'}:1", "timeout:1")
    )
    on_mock = [
        Scene("first model fails", "Where is order 1043?", {"backend": asdict(broken)}),
        Scene("no model answers", "Where is order 1043?",
              {"backend": asdict(silent), "call_seconds": 0.5, "seconds": 1.5}),
    ]  # fmt: skip
    return [
        Scene("all is well", "Where is order 1042?"),
        Scene("tool raises", "Where is order 7777?"),
        Scene("tool hangs", "Track the parcel of order 1042.", {"tool_faults": {"track_parcel": "hang"}}),
        *(on_mock if backend.llm_type == "mock" else []),
        Scene("too long", "Where is order 1042? " * 200),
        Scene("refund, approved", "Refund order 1042.", decision="approve"),
        Scene("refund, rejected", "Refund order 1044.", decision="reject"),
    ]


def log_agent(backend: BackendOptions, fallback: str | None, folder: Path, seconds: float, prompt: str) -> ModelInfo:
    """The code and its settings become one version. MLflow asks it the example once, untraced."""
    config = {
        **LIMITS, "backend": asdict(backend), "fallback_model": fallback, "prompt": prompt, "folder": str(folder),
        "seconds": seconds, "tool_faults": {},
    }  # fmt: skip
    info = mlflow.pyfunc.log_model(
        name=NAME, python_model=str(CODE), model_config=config, input_example=EXAMPLE, pip_requirements=REQUIREMENTS
    )
    mlflow.set_logged_model_tags(info.model_id, current_tags())
    return info


def ask(agent: Any, scene: str, question: str, *, aloud: bool = False, **custom: str) -> Reply:
    """Send a request and read its events as they come."""
    begun, pieces, first_ms = time.monotonic(), 0, None
    request = {"input": [{"role": "user", "content": question}], "context": {"user_id": "ada"}}
    event: dict[str, Any] = {}
    for event in agent.predict_stream({**request, "custom_inputs": custom}):
        if event["type"] == "response.output_text.delta":
            first_ms, pieces = first_ms or (time.monotonic() - begun) * 1000, pieces + 1
            if aloud:
                click.echo(event["delta"], nl=False)
    said, text = event["custom_outputs"], event["item"]["content"][0]["text"]
    total_ms = (time.monotonic() - begun) * 1000
    return Reply(scene, said["outcome"], text, pieces, first_ms, total_ms, said["trace_id"], said["thread"])


def play(model_uri: str, scene: Scene) -> Iterator[Reply]:
    """Load the agent with what this scene breaks, and ask it; a request that waits gets its decision."""
    agent = mlflow.pyfunc.load_model(model_uri, model_config=scene.config)
    reply = ask(agent, scene.name, scene.question)
    yield reply
    if scene.decision and reply.outcome == WAITING:
        yield ask(agent, scene.name, scene.question, thread=reply.thread, decision=scene.decision)


def rate(reply: Reply, thumbs_up: bool, comment: str, user: str) -> None:
    """What a person says about an answer, on the trace that made it."""
    mlflow.log_feedback(
        trace_id=reply.trace_id,
        name="thumbs_up",
        value=thumbs_up,
        rationale=comment,
        source=AssessmentSource(source_type=AssessmentSourceType.HUMAN, source_id=user),
        metadata=current_tags(),
    )


def check_feedback(reply: Reply, question: str) -> None:
    """Look the feedback up by its value, and see that it is on the trace of its question.

    Raises:
        CheckFailed: it is not.
    """
    asked = mlflow.get_trace(reply.trace_id)
    rated = [item for item in asked.info.assessments if item.name == "thumbs_up"]
    inputs = asked.data.spans[0].inputs["request"]["input"]
    if not rated or inputs[0]["content"] != question:
        raise CheckFailed(f"the feedback is not on the trace of {question}", f"mlflow.get_trace({reply.trace_id!r})")


def describe(reply: Reply, trace: Trace) -> dict[str, Any]:
    """A reply beside what its trace says."""
    failed = [span for span in trace.data.spans if span.status.status_code == "ERROR" and span.span_type != "CHAIN"]
    return {
        "scene": reply.scene,
        "outcome": reply.outcome,
        "first ms": reply.first_ms and int(reply.first_ms),
        "ms": int(reply.total_ms),
        "model calls": sum(span.span_type == SpanType.CHAT_MODEL for span in trace.data.spans),
        "tools": ", ".join(f"{call.name}{' failed' if call.failed else ''}" for call in tool_calls(trace)) or "none",
        "red spans": len(failed),
    }


def run(llm: Backend, backend: BackendOptions, fallback: str | None, folder: Path, seconds: float) -> Outcome:
    steps = Steps(4)
    prompt = use_alias(PROMPT, ALIAS, SYSTEM, commit_message="Use the tools, say what failed")
    with mlflow.start_run(run_name=NAME) as active, priced_spans(llm):
        # 1. The agent is a file; MLflow keeps it with its settings
        info = log_agent(backend, fallback, folder, seconds, prompt)
        steps(f"Logged {CODE.name} as {info.model_uri}; fallback: {fallback or 'none'}")

        # 2. One request for each thing that can happen
        played = scenes(backend)
        replies = [reply for scene in played for reply in play(info.model_uri, scene)]
        mlflow.flush_trace_async_logging()
        left_out = "" if llm.llm_type == "mock" else "; scenes with a broken model server need the mock"
        steps(f"{len(replies)} requests, each one trace{left_out}")
        rows = [describe(reply, mlflow.get_trace(reply.trace_id)) for reply in replies]
        show_table(rows)
        for reply in replies:
            click.echo(f"      {reply.scene}: {shorten(reply.text, 90, placeholder=' …')}")

        # 3. What people say lands on the trace of the answer
        rate(replies[0], True, "Fast and right.", "ada")
        rate(replies[2], False, "I still do not know when it arrives.", "ada")
        for place in (0, 2):
            check_feedback(replies[place], played[place].question)
        steps("A thumb up and a thumb down, with a comment each, on the traces of their answers")

        # 4. What a page or an alert would watch
        log_figures(replies, rows)
        first = replies[0].first_ms
        began = f"first piece of text after {first:.0f} ms" if first is not None else "no text of the model"
        steps(f"{replies[0].scene}: {began}, the end after {replies[0].total_ms:.0f} ms")
    return Outcome(active.info.run_id, info.model_uri, replies)


def log_figures(replies: list[Reply], rows: list[dict[str, Any]]) -> None:
    metrics = {
        "requests": len(replies),
        "answered": sum(reply.outcome == ANSWERED for reply in replies),
        "red_spans": sum(row["red spans"] for row in rows),
        "slowest_ms": max(reply.total_ms for reply in replies),
        "total_ms": replies[0].total_ms,
    }
    if replies[0].first_ms is not None:
        metrics["first_token_ms"] = replies[0].first_ms
    mlflow.log_metrics(metrics)


def run_one(
    llm: Backend, backend: BackendOptions, fallback: str | None, folder: Path, seconds: float, question: str,
    custom: dict[str, str],
) -> Outcome:  # fmt: skip
    """A request of your own, its text shown as it comes."""
    prompt = use_alias(PROMPT, ALIAS, SYSTEM, commit_message="Use the tools, say what failed")
    with mlflow.start_run(run_name=NAME) as active, priced_spans(llm):
        info = log_agent(backend, fallback, folder, seconds, prompt)
        reply = ask(mlflow.pyfunc.load_model(info.model_uri), "own", question, aloud=True, **custom)
        click.echo("" if reply.pieces and reply.outcome == ANSWERED else f"\n{reply.text}".lstrip("\n"))
        if reply.outcome == WAITING:
            click.echo(f"Decide:  uv run mlflow-production-agent --approve {reply.thread}   (or --reject)")
        mlflow.flush_trace_async_logging()
        log_figures([reply], [describe(reply, mlflow.get_trace(reply.trace_id))])
    return Outcome(active.info.run_id, info.model_uri, [reply])


@lesson("4.4", llm="mock")
@click.option("--fallback-model", metavar="MODEL", help="Asked when the model fails. Mock: mock-large by default.")
@click.option("--ask", "question", metavar="TEXT", help="A request of your own instead of the scenes.")
@click.option("--approve", metavar="ID", help="Allow what waits under this id.")
@click.option("--reject", metavar="ID", help="Forbid it.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=20.0, show_default=True,
              help="For one request, whatever fails.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="What waits for approval, and the refunds; default: .mlflow-learn.")  # fmt: skip
def main(
    fallback_model: str | None, question: str | None, approve: str | None, reject: str | None, seconds: float,
    output: Path | None, backend: BackendOptions,
) -> None:  # fmt: skip
    if sum(flag is not None for flag in (question, approve, reject)) > 1:
        raise InputError("--ask, --approve and --reject do not go together", "one of them at a time")
    fallback = fallback_model or ("mock-large" if backend.llm_type == "mock" else None)
    if fallback:
        check_backend(replace(backend, model=fallback))
    llm, folder = kept_backend(backend), (output or STATE_DIR / "orders").absolute()
    with tagged(llm_type=llm.llm_type, llm_model=llm.model):
        if thread := approve or reject:
            custom = {"thread": thread, "decision": "approve" if approve else "reject"}
            outcome = run_one(llm, backend, fallback, folder, seconds, "", custom)
        elif question is not None:
            outcome = run_one(llm, backend, fallback, folder, seconds, question, {})
        else:
            outcome = run(llm, backend, fallback, folder, seconds)
    done = outcome.replies
    measured = {"requests": len(done), "answered": sum(r.outcome == ANSWERED for r in done), "ms": done[0].total_ms}
    show("4.4", measured, run_id=outcome.run_id, trace_id=done[0].trace_id, trace_ids=len(done))


if __name__ == "__main__":
    main()
