"""4.4 on a store of its own: what is streamed, what breaks and shows, what waits for a person, what people said."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Span, Trace

from genai.agents.production_agent import NAME, PROMPT, main
from tests.conftest import Left
from utils.agent_setup import ROOT_COST, tool_calls
from utils.local_services import in_thread
from utils.span_tree import duration_ms, roots

SECRET = "sk-of-a-real-account-0123456789"
MOCK = {"llm_type": "mock"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("orders")


@pytest.fixture(scope="module")
def done(run_lesson, folder) -> Left:
    return run_lesson(main, "--output", folder)


def stored() -> list[Trace]:
    """All traces of the store in use, oldest first."""
    mlflow.flush_trace_async_logging()
    ids = [experiment.experiment_id for experiment in MlflowClient().search_experiments()]
    return mlflow.search_traces(locations=ids, order_by=["timestamp_ms ASC"], return_type="list")


def outcome(trace: Trace) -> str:
    return trace.info.tags["outcome"]


def spans(trace: Trace, kind: str) -> list[Span]:
    return sorted((s for s in trace.data.spans if s.span_type == kind), key=lambda span: span.start_time_ns)


def exceptions(span: Span) -> str:
    return " ".join(str(event.attributes) for event in span.events if event.name == "exception")


@pytest.fixture
def traces(done) -> list[Trace]:
    """Of the scenes, in their order."""
    mlflow.set_tracking_uri(done.uri)
    return [trace for trace in stored() if trace.info.tags.get("lesson") == "4.4"]


@pytest.fixture
def logged(done) -> LoggedModel:
    mlflow.set_tracking_uri(done.uri)
    ids = [experiment.experiment_id for experiment in MlflowClient().search_experiments()]
    (model,) = mlflow.search_logged_models(experiment_ids=ids, output_format="list")
    return model


@pytest.fixture
def load(logged, tmp_path):
    """The agent that the lesson logged, loaded with other settings; its folder is empty."""
    mlflow.set_experiment("4-agents")

    def give(**config: Any):
        return mlflow.pyfunc.load_model(logged.model_uri, model_config={"folder": str(tmp_path), **config})

    return give


def asked(agent, question: str, **custom: str) -> tuple[dict, list[tuple[float, dict]]]:
    """The last event's outcome, trace id and thread, and all events with the second at which each came."""
    begun = time.monotonic()
    request = {"input": [{"role": "user", "content": question}], "custom_inputs": custom}
    events = [(time.monotonic() - begun, event) for event in agent.predict_stream(request)]
    return events[-1][1]["custom_outputs"], events


def text(events) -> str:
    return events[-1][1]["item"]["content"][0]["text"]


# --- the scenes


def test_each_scene_ends_as_it_should(traces):
    assert [outcome(trace) for trace in traces] == [
        "answered", "answered", "answered", "answered", "late", "refused", "waiting", "answered", "waiting", "answered",
    ]  # fmt: skip
    assert {trace.info.state for trace in traces if outcome(trace) == "late"} == {"ERROR"}
    assert {trace.info.state for trace in traces if outcome(trace) != "late"} == {"OK"}


def test_each_request_is_one_trace_with_its_version_prompt_user_and_cost(traces, logged):
    for trace in traces:
        (root,) = roots(trace)
        assert (root.name, root.span_type) == ("predict_stream", "AGENT")
        assert all(span.end_time_ns for span in trace.data.spans)
        assert trace.info.trace_metadata["mlflow.modelId"] == logged.model_id
        assert trace.info.trace_metadata["mlflow.trace.user"] == "ada"
        if any(span.status.status_code == "OK" for span in spans(trace, "CHAT_MODEL")):
            assert f'"name": "{PROMPT}"' in trace.info.tags["mlflow.linkedPrompts"]
            costs = [span.attributes.get("mlflow.llm.cost") for span in spans(trace, "CHAT_MODEL")]
            assert root.attributes[ROOT_COST] == pytest.approx(sum(cost["total_cost"] for cost in costs if cost))
    assert logged.name == NAME and logged.tags["lesson"] == "4.4"


def test_the_first_piece_is_timed(traces):
    root = roots(traces[0])[0]
    assert 0 < root.attributes["agent.first_token_ms"] <= root.attributes["agent.total_ms"] <= duration_ms(root)
    assert "agent.first_token_ms" not in roots(traces[4])[0].attributes, "nothing was said before its time was over"


def test_a_tool_that_raises_and_one_that_hangs_are_red_and_the_answer_says_so(traces):
    for trace, name, error in ((traces[1], "find_order", "LookupError"), (traces[2], "track_parcel", "OutOfTime")):
        (tool,) = spans(trace, "TOOL")
        assert tool.name == name and tool.status.status_code == "ERROR" and error in exceptions(tool)
        assert "failed" in str(roots(trace)[0].outputs)
    assert duration_ms(spans(traces[2], "TOOL")[0]) < 3000


def test_retries_and_the_fallback_are_spans_of_their_own(traces):
    calls = [(span.attributes["mlflow.llm.model"], span.status.status_code) for span in spans(traces[3], "CHAT_MODEL")]
    assert calls == [("mock-small", "ERROR"), ("mock-small", "ERROR"), ("mock-large", "OK")] * 2


def test_money_goes_back_only_after_a_person_said_so(traces, folder):
    (line,) = (folder / "refunds.jsonl").read_text().splitlines()
    paid = json.loads(line)
    asked_for, approved, refused_first, refused = traces[6:]
    assert paid["order_id"] == "1042" and roots(asked_for)[0].end_time_ns < paid["at"] * 1e9
    assert [tool_calls(trace) for trace in (asked_for, refused_first, refused)] == [[], [], []]
    assert [call.name for call in tool_calls(approved)] == ["refund_order"]
    session = "mlflow.trace.session"
    assert asked_for.info.trace_metadata[session] == approved.info.trace_metadata[session]
    assert asked_for.info.trace_metadata[session] != refused.info.trace_metadata[session]


def test_feedback_is_on_the_trace_of_its_answer_and_nowhere_else(traces):
    given = [[(item.value, item.rationale) for item in trace.info.assessments] for trace in traces]
    assert given[0] == [(True, "Fast and right.")]
    assert given[2] == [(False, "I still do not know when it arrives.")]
    assert not any(given[1:2] + given[3:])
    (item,) = traces[0].info.assessments
    assert item.source.source_type == "HUMAN" and item.metadata["lesson"] == "4.4"


def test_the_figures_of_the_run_are_those_of_the_traces(traces):
    (run,) = MlflowClient().search_runs([traces[0].info.experiment_id])
    metrics = run.data.metrics
    assert (metrics["requests"], metrics["answered"]) == (10, 6)
    assert metrics["first_token_ms"] >= roots(traces[0])[0].attributes["agent.first_token_ms"]


def test_the_logged_model_names_no_port_and_holds_no_key(store, run_command, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    assert run_command(main, "--output", tmp_path / "o", "--ask", "Where is order 1042?").exit_code == 0
    (model,) = mlflow.search_logged_models(
        experiment_ids=[e.experiment_id for e in MlflowClient().search_experiments()], output_format="list"
    )
    files = [path for path in Path(mlflow.artifacts.download_artifacts(model.model_uri)).rglob("*") if path.is_file()]
    everything = "\n".join(path.read_text(errors="replace") for path in files)
    assert "order_agent.py" in {path.name for path in files} and "llm_type: mock" in everything
    assert SECRET not in everything and "127.0.0.1" not in everything and "localhost:" in everything  # Ollama's default


# --- pieces of text


def test_the_first_piece_comes_before_the_last_is_made(load):
    latency = 2.0  # seconds; the mock spreads the words of an answer over 70 % of it
    agent = load(backend={**MOCK, "mock_latency_ms": latency * 1000})
    said, events = asked(agent, "Where is order 1042?")
    pieces = [(second, event) for second, event in events if event["type"] == "response.output_text.delta"]
    assert len(pieces) > 3 and "".join(event["delta"] for _, event in pieces) == text(events)
    assert pieces[-1][0] - pieces[0][0] > 0.4 * latency
    assert said["outcome"] == "answered"


def test_in_one_piece_the_answer_is_the_same(load):
    reply = load().predict({"input": [{"role": "user", "content": "Where is order 1042?"}]})
    assert reply["output"][0]["content"][0]["text"] == text(asked(load(), "Where is order 1042?")[1])
    assert reply["custom_outputs"]["outcome"] == "answered"


def test_a_client_that_leaves_still_leaves_a_whole_trace(load):
    stream = load(backend={**MOCK, "mock_latency_ms": 500}).predict_stream(
        {"input": [{"role": "user", "content": "Where is order 1042?"}], "context": {"user_id": "leaver"}}
    )
    next(stream)
    stream.close()
    assert mlflow.get_current_active_span() is None, "the next request would become part of this one"
    (trace,) = [t for t in stored() if t.info.trace_metadata.get("mlflow.trace.user") == "leaver"]
    (root,) = roots(trace)
    assert trace.info.state == "ERROR" and root.attributes["agent.outcome"] == "left"


# --- what breaks


@pytest.mark.parametrize(
    ("faults", "ends"),
    [
        ("429:1", {"failed"}),
        ("500:1", {"failed"}),
        ("garbage:1", {"failed"}),
        ("timeout:1", {"failed", "late"}),
        ("429:0.4,500:0.2,garbage:0.2", {"answered", "failed"}),
    ],
)
def test_with_a_broken_model_it_says_so_within_its_time(load, faults, ends):
    seconds = 6.0
    agent = load(backend={**MOCK, "mock_faults": faults}, seconds=seconds, call_seconds=0.5)
    said, events = asked(agent, "Where is order 1044?")
    assert said["outcome"] in ends and events[-1][0] < seconds + 1
    assert ("I cannot answer this now" in text(events)) == (said["outcome"] != "answered")
    (trace,) = [trace for trace in stored() if trace.info.trace_id == said["trace_id"]]
    assert len(roots(trace)) == 1 and all(span.end_time_ns for span in trace.data.spans)
    if faults.endswith(":1"):
        calls = spans(trace, "CHAT_MODEL")
        assert len(calls) == 4 and {span.status.status_code for span in calls} == {"ERROR"}
        assert all(map(exceptions, calls))


def sse(delta: dict, finish: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return f"data: {json.dumps(body)}\n\n"


def model_server(chunks) -> FastAPI:
    """A model that answers every request by the same stream."""
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict:
        return {"object": "list", "data": [{"id": "m"}]}

    @app.post("/v1/chat/completions")
    def complete() -> StreamingResponse:
        return StreamingResponse(chunks(), media_type="text/event-stream")

    return app


def looping():
    function = {"name": "find_order", "arguments": '{"order_id": "1042"}'}
    yield sse({"role": "assistant", "tool_calls": [{"index": 0, "id": "c", "type": "function", "function": function}]})
    yield sse({}, "tool_calls") + "data: [DONE]\n\n"


def dribbling():
    while True:
        yield sse({"role": "assistant", "content": "and "})
        time.sleep(0.05)


def empty():
    yield sse({"role": "assistant", "content": ""}, "stop") + "data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("chunks", "ends", "said"),
    [
        (looping, "looped", "4 calls of tools led to no answer"),
        (dribbling, "late", "my 2 seconds are over"),
        (empty, "failed", "the model said nothing"),
    ],
)
def test_a_model_that_loops_never_ends_or_says_nothing(load, chunks, ends, said):
    with in_thread(model_server(chunks)) as url:
        backend = {"llm_type": "openai", "openai_base_url": f"{url}/v1", "model": "m"}
        agent = load(backend=backend, fallback_model=None, seconds=2.0)
        last, events = asked(agent, "Where is order 1042?")
    assert last["outcome"] == ends and said in text(events) and events[-1][0] < 10
    (trace,) = [trace for trace in stored() if trace.info.trace_id == last["trace_id"]]
    assert trace.info.state == "ERROR" and outcome(trace) == ends
    if chunks is looping:
        assert [call.name for call in tool_calls(trace)] == ["find_order"] * 4


def test_a_tool_that_may_take_longer_than_the_request_is_given_up_with_it(load):
    agent = load(tool_faults={"track_parcel": "hang"}, tool_seconds=30.0, seconds=2.0)
    last, events = asked(agent, "Track the parcel of order 1042.")
    assert last["outcome"] == "late" and events[-1][0] < 4
    (trace,) = [trace for trace in stored() if trace.info.trace_id == last["trace_id"]]
    assert "OutOfTime" in exceptions(spans(trace, "TOOL")[0])


@pytest.mark.parametrize("question", ["", "   \n", "x" * 2001, "é" * 5000])
def test_what_is_no_question_reaches_no_model(load, question):
    said, _ = asked(load(), question)
    (trace,) = [trace for trace in stored() if trace.info.trace_id == said["trace_id"]]
    assert said["outcome"] == "refused" and [span.name for span in trace.data.spans] == ["predict_stream"]


def test_a_model_server_that_is_gone_is_said_so(load):
    backend = {"llm_type": "openai", "openai_base_url": "http://127.0.0.1:9/v1", "model": "m"}
    said, events = asked(load(backend=backend, fallback_model=None), "Where is order 1042?")
    assert said["outcome"] == "failed" and "BackendUnavailable" in text(events)


# --- approval


def refunds(folder: Path) -> list[str]:
    path = folder / "refunds.jsonl"
    return [json.loads(line)["order_id"] for line in path.read_text().splitlines()] if path.exists() else []


def test_an_approval_counts_once_and_only_for_what_waits(load, tmp_path):
    waiting, events = asked(load(), "Refund order 1043.")
    assert waiting["outcome"] == "waiting" and "refund_order(order_id=1043)" in text(events) and refunds(tmp_path) == []
    assert asked(load(), "", thread="another", decision="approve")[0]["outcome"] == "refused"
    assert asked(load(), "", thread=waiting["thread"], decision="approve")[0]["outcome"] == "answered"
    assert refunds(tmp_path) == ["1043"]
    assert asked(load(), "", thread=waiting["thread"], decision="approve")[0]["outcome"] == "refused"
    assert refunds(tmp_path) == ["1043"]


@pytest.mark.parametrize("decision", ["reject", "yes please", "APPROVE"])
def test_whatever_is_no_approval_is_none(load, tmp_path, decision):
    waiting, _ = asked(load(), "Refund order 1043.")
    asked(load(), "", thread=waiting["thread"], decision=decision)
    assert refunds(tmp_path) == []


def test_asked_in_one_command_and_approved_in_another(store, run_command, tmp_path):
    first = run_command(main, "--output", tmp_path, "--ask", "Refund order 1042.").stdout
    thread = first.split("--approve ")[1].split()[0]
    assert "A person has to approve this first" in first and refunds(tmp_path) == []
    again = run_command(main, "--output", tmp_path, "--approve", thread)
    assert again.exit_code == 0 and "was refunded" in again.stdout and refunds(tmp_path) == ["1042"]
    assert "nothing that waits" in run_command(main, "--output", tmp_path, "--approve", thread).stdout


# --- wrong use


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--ask", "x", "--approve", "y"), "do not go together"),
        (("--seconds", 0), "--seconds"),
        (("--fallback-model", "mock-medium"), "no model mock-medium"),
        (("--model", "mock-medium"), "no model mock-medium"),
        (("--mock-faults", "500@:1"), "--mock-faults"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
    ],
)
def test_wrong_use(refused, store, tmp_path, flags, said):
    assert said in refused(main, "--output", tmp_path, *flags) and stored() == []


# --- a fresh process

FRESH = """
import json, sys
import mlflow
uri, request = sys.argv[1:]
reply = mlflow.pyfunc.load_model(uri).predict(json.loads(request))
print(reply["output"][0]["content"][0]["text"])
"""


@pytest.mark.slow
def test_a_fresh_process_loads_it_and_decides_what_waited_in_another(store, run_command, tmp_path):
    first = run_command(main, "--output", tmp_path / "o", "--ask", "Refund order 1042.").stdout
    thread = first.split("--approve ")[1].split()[0]
    (model,) = mlflow.search_logged_models(
        experiment_ids=[e.experiment_id for e in MlflowClient().search_experiments()], output_format="list"
    )
    requests: tuple[dict, ...] = (
        {"input": [{"role": "user", "content": "Where is order 1042?"}]},
        {"input": [{"role": "user", "content": ""}], "custom_inputs": {"thread": thread, "decision": "approve"}},
    )
    for request, said in zip(requests, ("two teapots", "was refunded"), strict=True):
        ran = subprocess.run(
            [sys.executable, "-c", FRESH, model.model_uri, json.dumps(request)],
            cwd=tmp_path, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert ran.returncode == 0 and said in ran.stdout, ran.stderr
    assert refunds(tmp_path / "o") == ["1042"]
    fresh = [trace for trace in stored() if roots(trace)[0].name == "predict"]
    assert len(fresh) == 2 and {t.info.trace_metadata["mlflow.modelId"] for t in fresh} == {model.model_id}
