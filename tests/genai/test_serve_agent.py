"""7.3 over real HTTP: who is refused, what breaks, who answers, what is traced, and a stop that loses nothing."""

import itertools
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import mlflow
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from mlflow import MlflowClient
from mlflow.entities import Trace
from mlflow.entities.span import NO_OP_SPAN_TRACE_ID

from genai.deployment.register_agent import FIRST, SECOND, Settings, log_agent, register
from genai.deployment.serve_agent import ALIAS, NAME, QUESTION, build_app, main
from tests.conftest import ROOT, Left
from tests.genai.test_production_agent import sse
from utils.cli import Command
from utils.llm_backends import open_backend
from utils.local_services import in_thread
from utils.options import BackendOptions, EmbedOptions
from utils.sample_documents import CORPUS
from utils.serving.keys import KeyRing
from utils.serving.limits import Limits
from utils.serving.live_agent import LiveAgent, load_beside_requests
from utils.serving.metrics import Metrics
from utils.serving.service import service_process
from utils.serving.trial import ask, question_body, send_load, stop_under_load
from utils.span_tree import roots

BODY = question_body(QUESTION)
LEXICAL = {"embed_type": "lexical"}  # beside a real model the default is one that has to be downloaded


@pytest.fixture(scope="module")
def registered(template_store, tmp_path_factory) -> Left:
    """Two versions, the second in production; made without the lessons' own tests of them."""
    path = tmp_path_factory.mktemp("served") / "mlflow.db"
    shutil.copy(template_store, path)
    mlflow.set_tracking_uri(f"sqlite:///{path}")
    mlflow.create_experiment("7-production", artifact_location=(path.parent / "artifacts").as_uri())
    mlflow.set_experiment("7-production")
    with open_backend("mock") as llm:
        for settings in (Settings(FIRST, 1), Settings(SECOND, 3)):
            with mlflow.start_run():
                register(log_agent(settings, BackendOptions(), EmbedOptions(), CORPUS), CORPUS, llm)
    MlflowClient().set_registered_model_alias(NAME, ALIAS, "2")
    return Left(path, "")


class Served:
    """A service in a thread of this process, and a client for it."""

    def __init__(self, url: str, keys: dict[str, str], live: LiveAgent, ring: KeyRing, metrics: Metrics) -> None:
        self.url, self.keys, self.live, self.ring, self.metrics = url, keys, live, ring, metrics
        self.client = httpx.Client(base_url=url, timeout=60)

    def post(self, path: str = "/invocations", key: str = "ada", body: object = BODY, **more) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"authorization": f"Bearer {self.keys[key]}", "content-type": "application/json"}
        return self.client.post(path, content=content, headers=headers, **more)

    def get(self, path: str, key: str = "ada") -> httpx.Response:
        return self.client.get(path, headers={"authorization": f"Bearer {self.keys[key]}"})

    def trace(self, reply: httpx.Response) -> Trace:
        mlflow.flush_trace_async_logging()
        return mlflow.get_trace(reply.headers["x-trace-id"], silent=True)


@pytest.fixture
def serving(registered, monkeypatch, tmp_path) -> Callable:
    monkeypatch.setattr("mlflow.genai.agent_server.server._invoke_function", None)
    monkeypatch.setattr("mlflow.genai.agent_server.server._stream_function", None)
    mlflow.set_tracking_uri(registered.uri)
    mlflow.set_experiment("7-production")

    @contextmanager
    def start(limits: Limits | None = None, **config) -> Iterator[Served]:
        ring, metrics = KeyRing(tmp_path / "keys.json"), Metrics()
        keys = {name: ring.add(name) for name in ("ada", "bob", "eve")}
        ring.revoke("eve")
        live = LiveAgent(NAME, ALIAS, config, metrics.use_version)
        with in_thread(build_app(live, ring, limits or Limits(), metrics)) as url:
            yield Served(url, keys, live, ring, metrics)

    return start


# --- who is refused


def test_each_guard_over_http(serving):
    with serving(Limits(burst=40)) as service:
        assert service.client.get("/health").status_code == 200
        assert service.client.post("/invocations", json=BODY).status_code == 401
        wrong = {"authorization": "Bearer wrong"}
        assert service.client.post("/invocations", json=BODY, headers=wrong).status_code == 401
        assert service.post(key="eve").status_code == 403
        assert service.post(body=b"x" * 1_000_000).status_code == 413
        for body in (b"", b"{", b"[]", b"3", b'"x"', b"null", {}, {"input": 3}, {"input": [3]}, {"input": "x"},
                     {**BODY, "stream": "yes"}, b'{"input": NaN}', b"\xff", b'{"input": "\\ud800"}',
                     question_body(""), question_body("x" * 2001), b"[" * 60_000):  # fmt: skip
            assert service.post(body=body).status_code == 422, body
        for body in ({}, {"trace_id": "x", "thumbs_up": True}, {"trace_id": f"tr-{'0' * 32}", "thumbs_up": "yes"}):
            assert service.post("/feedback", body=body).status_code == 422
        assert service.get("/nowhere").status_code == 404 and service.get("/invocations").status_code == 405
        service.ring.revoke("ada")
        assert service.post().status_code == 403 and service.post(key="bob").status_code == 200


def test_a_keys_file_that_cannot_be_read_leaves_the_keys_of_before(serving, capsys):
    with serving() as service:
        assert service.get("/version").status_code == 200
        good = service.ring.path.read_text()
        service.ring.path.write_text("[{")
        assert [service.get("/version").status_code for _ in range(3)] == [200] * 3
        assert service.client.get("/version", headers={"authorization": "Bearer wrong"}).status_code == 401
        service.ring.path.write_text(good)
        assert service.get("/version", "bob").status_code == 200
    assert capsys.readouterr().err.count("holds no keys that can be read") == 1, "said once, not for each request"


def test_a_key_over_its_limit_waits_and_the_others_go_on(serving):
    with serving(Limits(requests_per_minute=6, burst=3)) as service:
        assert [service.get("/version").status_code for _ in range(4)] == [200, 200, 200, 429]
        assert int(service.get("/version").headers["retry-after"]) in range(1, 11)
        assert service.post(key="bob").status_code == 200 and service.post().status_code == 429


# --- what breaks


@contextmanager
def model_server(chunks: Callable, port: int = 0) -> Iterator[str]:
    app = FastAPI()

    @app.get("/v1/models")
    def models() -> dict:
        return {"object": "list", "data": [{"id": "m"}]}

    @app.post("/v1/chat/completions")
    def complete(body: dict):
        if body.get("stream"):
            return StreamingResponse(chunks(), media_type="text/event-stream")
        message = {"role": "assistant", "content": "60 seconds"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}

    with in_thread(app, port) as url:
        yield url


def openai_at(url: str) -> dict:
    return {"llm_type": "openai", "openai_base_url": f"{url}/v1", "model": "m"}


def test_503_while_the_model_is_down_and_200_when_it_is_back_without_a_restart(serving):
    def whole() -> Iterator[str]:
        yield sse({"role": "assistant", "content": "60 seconds"}, "stop") + "data: [DONE]\n\n"

    with model_server(whole) as url:
        port = int(url.rsplit(":", 1)[1])
    with serving(backend=openai_at(url), embedding=LEXICAL) as service:
        for stream in (False, True):
            down = service.post(body=question_body(QUESTION, stream=stream))
            assert down.status_code == 503 and down.headers["retry-after"] == "5"
            assert "127.0.0.1" not in down.text and "Connection" not in down.text, "no words of the exception"
        assert service.client.get("/health").status_code == 200
        with model_server(whole, port):
            assert [service.post(body=question_body(QUESTION, stream=s)).status_code for s in (False, True)] == [
                200,
                200,
            ]
        assert service.post().status_code == 503
        trace = service.trace(down)
        assert trace.info.state == "ERROR" and len(roots(trace)) == 1


def test_504_over_the_time_limit(serving):
    slow = {"llm_type": "mock", "mock_latency_ms": 4000}
    with serving(Limits(seconds=0.5), backend=slow) as service:
        begun = time.monotonic()
        assert [service.post(body=question_body(QUESTION, stream=s)).status_code for s in (False, True)] == [504, 504]
        assert time.monotonic() - begun < 4


def test_a_client_that_goes_away_in_the_middle_of_a_stream_stops_the_work(serving):
    made = itertools.count()
    said = []

    def dribbling() -> Iterator[str]:
        while True:
            said.append(next(made))
            yield sse({"role": "assistant", "content": "and "})
            time.sleep(0.05)

    with model_server(dribbling) as url, serving(backend=openai_at(url), embedding=LEXICAL) as service:
        key = {"authorization": f"Bearer {service.keys['ada']}"}
        with service.client.stream(
            "POST", "/invocations", json=question_body(QUESTION, stream=True), headers=key
        ) as reply:
            assert next(reply.iter_lines()).startswith("data: ")
            left = reply
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            before = len(said)
            time.sleep(0.5)
            if len(said) == before:
                break
        assert len(said) == before, "the model goes on for nobody"
        assert service.metrics.running._value.get() == 0 and service.client.get("/health").status_code == 200
        trace = service.trace(left)
    (root,) = roots(trace)
    assert root.attributes["caller_left"] is True and all(span.end_time_ns for span in trace.data.spans)
    assert "CHAT_MODEL" in {span.span_type for span in trace.data.spans}


# --- who answers, and what is traced


def test_each_answer_says_its_version_and_its_trace_which_has_one_root(serving):
    with serving() as service:
        whole = service.post(body={**BODY, "context": {"conversation_id": "c1"}})
        streamed = service.post("/responses", body=question_body(QUESTION, stream=True))
    assert "60 seconds" in whole.text and whole.json()["custom_outputs"]["agent_version"] == "2"
    events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
    assert events[-1]["custom_outputs"]["agent_version"] == "2" and len(events) > 3
    assert streamed.text.endswith("data: [DONE]\n\n")
    pieces = "".join(event.get("delta", "") for event in events)
    assert pieces == events[-1]["item"]["content"][0]["text"] == whole.json()["output"][0]["content"][0]["text"]
    for reply in (whole, streamed):
        assert reply.headers["x-agent-version"] == "2"
        trace = service.trace(reply)
        (root,) = roots(trace)
        assert root.span_type == "AGENT" and trace.info.state == "OK"
        assert {"AGENT", "RETRIEVER", "CHAT_MODEL"} <= {span.span_type for span in trace.data.spans}
        assert trace.info.trace_metadata["mlflow.trace.user"] == "ada" and trace.info.tags["agent_version"] == "2"
        assert trace.info.trace_metadata["mlflow.modelId"] == service.live.current.model_id
    assert service.trace(whole).info.trace_metadata["mlflow.trace.session"] == "c1"


def test_feedback_is_on_the_trace_of_ones_own_answer_only(serving):
    with serving() as service:
        trace_id = service.post().headers["x-trace-id"]
        said = {"trace_id": trace_id, "thumbs_up": False, "comment": "Too short."}
        assert service.post("/feedback", key="bob", body=said).status_code == 404
        assert service.post("/feedback", body={**said, "trace_id": f"tr-{'0' * 32}"}).status_code == 404
        assert service.post("/feedback", body=said).status_code == 200
    (given,) = mlflow.get_trace(trace_id).info.assessments
    assert (given.name, given.value, given.rationale) == ("thumbs_up", False, "Too short.")
    assert (given.source.source_type, given.source.source_id) == ("HUMAN", "ada")


def test_opinions_on_invented_answers_flush_the_queue_of_everybody_now_and_then_only(serving, monkeypatch):
    flushed = []
    monkeypatch.setattr(mlflow, "flush_trace_async_logging", lambda: flushed.append(1))
    with serving() as service:
        invented = [{"trace_id": f"tr-{number:032x}", "thumbs_up": True} for number in range(8)]
        replies = [service.post("/feedback", body=each) for each in invented]
    assert [reply.status_code for reply in replies][:2] == [404, 404] and len(flushed) < len(replies)
    assert {reply.status_code for reply in replies[2:]} <= {404, 503} and replies[-1].status_code == 503
    assert int(replies[-1].headers["retry-after"]) >= 1


def test_above_what_the_store_takes_a_share_is_traced_and_the_figures_say_which(serving):
    with serving(Limits(burst=1000, traces_per_second=1)) as service:
        replies = [service.post() for _ in range(12)]
        figures = service.get("/metrics").text
    traced = [reply for reply in replies if "x-trace-id" in reply.headers]
    assert {reply.status_code for reply in replies} == {200} and 2 <= len(traced) < 12
    assert "agent_asked_total 12.0" in figures and f"agent_traced_total {len(traced)}.0" in figures
    assert 'agent_requests_total{path="/invocations",status="200"} 12.0' in figures
    assert 'agent_version_loaded{version="2"} 1.0' in figures
    assert all(service.trace(reply).info.trace_id for reply in traced)


def test_rolled_back_while_requests_keep_coming_none_is_lost(serving):
    client = MlflowClient()
    try:
        with serving(Limits(burst=10_000, threads=8)) as service, service.live.followed(0.1):
            stop, loads = threading.Event(), []
            sender = threading.Thread(
                target=lambda: loads.append(
                    send_load(service.url, [service.keys["ada"]], 10_000, 4, lambda n: BODY, 40, stop)
                )
            )
            sender.start()
            time.sleep(1)
            moved = time.time()
            client.set_registered_model_alias(NAME, ALIAS, "1")
            time.sleep(4)
            stop.set()
            sender.join(60)
    finally:
        client.set_registered_model_alias(NAME, ALIAS, "2")
    (load,) = loads
    assert set(load.counts) == {"200"} and len(load.answers) > 10
    old = [answer for answer in load.answers if answer.version == "1"]
    assert {answer.version for answer in load.answers} == {"1", "2"}
    assert min(answer.begun for answer in old) - moved < 5


def test_a_version_that_cannot_be_loaded_leaves_the_one_that_answers(serving, monkeypatch):
    with serving() as service:
        monkeypatch.setattr(service.live, "wanted", lambda: ("99", "m-nothing"))
        assert service.live.refresh() is False and service.post().status_code == 200
        assert service.get("/version").json()["version"] == "2" and service.get("/version").json()["problem"]


@pytest.mark.parametrize(("load", "all_traced"), [(load_beside_requests, True), (None, False)])
def test_requests_that_are_answered_while_a_version_is_loaded_have_traces(registered, load, all_traced):
    """MLflow's own load_model takes the tracer away from all threads: when that is over, so is the way around it."""
    mlflow.set_tracking_uri(registered.uri)
    load = load or (lambda uri, settings: mlflow.pyfunc.load_model(uri, model_config=settings))
    loading = threading.Thread(target=load, args=(f"models:/{NAME}/1", {}))
    loading.start()
    traced = []
    while loading.is_alive():
        with mlflow.start_span("request") as span:
            traced.append(span.trace_id != NO_OP_SPAN_TRACE_ID)
        time.sleep(0.02)
    assert len(traced) > 3 and all(traced) is all_traced


def test_openapi_describes_what_the_guards_ask_for(serving):
    with serving() as service:
        described = service.get("/openapi.json").json()
    for path in ("/invocations", "/responses"):
        operation = described["paths"][path]["post"]
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        assert "input" in schema["required"] and {"401", "403", "413", "422", "429", "503", "504"} <= set(
            operation["responses"]
        )
    assert described["security"] == [{"key": []}]


# --- the command


@pytest.fixture(scope="module")
def done(registered) -> Left:
    from click.testing import CliRunner

    flags = ["--tracking-uri", registered.uri, "--num-requests", "16", "--clients", "4"]
    result = CliRunner().invoke(main, flags)
    assert result.exit_code == 0, (result.output, result.exception)
    return Left(registered.path, result.output)


@pytest.mark.slow
def test_the_trial_in_a_process_of_its_own(done):
    mlflow.set_tracking_uri(done.uri)
    runs = MlflowClient().search_runs(["1"], "tags.lesson = '7.3'")
    served, trial = ({r.info.run_name: r for r in runs}[name].data.metrics for name in ("served", "serve-agent"))
    assert trial["asked"] == served["asked"] >= 19 and trial["traced"] == served["traced"] <= served["asked"]
    assert trial["cut_off"] == 0 and trial["guards"] == 10 and trial["p95_ms"] >= trial["p50_ms"] > 0
    found = mlflow.search_traces(
        locations=["1"], filter_string="tags.lesson = '7.3'", include_spans=False, return_type="list"
    )
    assert len(found) == served["traced"]
    assert sum(bool(trace.info.assessments) for trace in found) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--serve", "--host", "0.0.0.0"), "holds no key"),
        (("--serve", "--port", 70000), "--port"),
        (("--serve", "--host", "no.such.host.example"), "holds no key"),
        (("--burst", 0), "--burst"),
        (("--revoke-key", "nobody"), "no key nobody"),
        (("--add-key", "a b"), "no name for a key"),
    ],
)
def test_wrong_use(refused, store, tmp_path, flags, said):
    assert said in refused(main, "--keys", tmp_path / "keys.json", *flags)
    assert not (tmp_path / "keys.json").exists()


def test_nothing_is_in_production(refused, store, tmp_path):
    assert "uv run mlflow-promote-agent" in refused(main, "--serve", "--port", 0, "--keys", tmp_path / "keys.json")


def test_the_dockerfile_runs_a_command_that_there_is():
    """It is not built here; what it runs is what the other tests run."""
    lines = (ROOT / "genai" / "deployment" / "Dockerfile").read_text().splitlines()
    (command,) = [json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD ")]
    program = command.index("mlflow-serve-agent")
    assert isinstance(main, Command)
    context = main.make_context(command[program], command[program + 1 :])
    assert context.params["foreground"] and context.params["host"] == "0.0.0.0"
    assert any(line.startswith("USER ") for line in lines) and any(line.startswith("HEALTHCHECK ") for line in lines)


# --- slow: load, stops and fuzzing


def own_command(registered: Left, ring: KeyRing, *flags: str) -> list[str]:
    store = ["--tracking-uri", registered.uri, "--experiment-name", "7-production"]
    return [
        str(ROOT / "genai" / "deployment" / "serve_agent.py"),
        "--serve",
        "--port",
        "0",
        "--keys",
        str(ring.path),
        *store,
        *flags,
    ]


@pytest.mark.slow
def test_sigterm_under_load_finishes_refuses_and_stores_every_trace(registered, tmp_path):
    """At 20 requests/s every request is traced: requests and traces are equal in number."""
    mlflow.set_tracking_uri(registered.uri)
    ring, since = KeyRing(tmp_path / "keys.json"), int(time.time() * 1000)
    key = ring.add("load")
    # All are traced, also where a busy machine makes requests come in heaps.
    everything = own_command(registered, ring, "--burst", "5000", "--traces-per-second", "1000")
    with service_process(everything) as service:
        upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        asked = httpx.get(
            f"{service.url}/invocations", headers={**upgrade, "sec-websocket-key": "dGhlIHNhbXBsZSBub24="}
        )
        assert asked.status_code == 401, "the guards know HTTP only, and nothing else comes in"
        steady = send_load(service.url, [key], 200, 16, lambda n: BODY, per_second=20)
        begun = time.monotonic()
        last = stop_under_load(service, [key], 16, lambda n: BODY, per_second=20)
        assert time.monotonic() - begun < 180  # it does end; how fast is the machine's
    assert set(steady.counts) == {"200"} and set(last.counts) <= {"200", "refused"} and last.counts["200"] > 0
    answered = steady.counts["200"] + last.counts["200"]
    found = mlflow.search_traces(
        locations=["1"], filter_string=f"tags.agent_version = '2' AND trace.timestamp_ms >= {since}",
        include_spans=False, return_type="list", max_results=5000,
    )  # fmt: skip
    assert len(found) == answered
    assert {trace.info.trace_id for trace in found} >= {answer.trace_id for answer in steady.answers}


@pytest.mark.slow
def test_fuzzing_the_openapi_schema_finds_no_500(serving):
    import schemathesis
    from hypothesis import HealthCheck, settings

    with serving(Limits(requests_per_minute=1e6, burst=1_000_000)) as service:
        key = {"Authorization": f"Bearer {service.keys['ada']}"}
        schema = schemathesis.openapi.from_dict(service.get("/openapi.json").json())
        statuses: list[int] = []
        found: Any = schema.get_all_operations()
        for result in found:
            operation = result.ok()

            @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            def fuzz(case) -> None:
                reply = case.call(base_url=service.url, headers=key)
                statuses.append(reply.status_code)
                # An opinion on an answer that is not stored yet is put off: each such look flushes all traces.
                put_off = case.path == "/feedback" and reply.status_code == 503 and "retry-after" in reply.headers
                assert reply.status_code < 500 or put_off, (case, reply.text)

            from hypothesis import given

            given(case=operation.as_strategy())(fuzz)()
    assert len(statuses) > 100 and 422 in statuses


@pytest.mark.slow
def test_one_question_is_asked_of_a_service_of_ones_own(registered, tmp_path):
    ring = KeyRing(tmp_path / "keys.json")
    key = ring.add("ada")
    with service_process(own_command(registered, ring)) as service, httpx.Client(base_url=service.url) as client:
        assert ask(client, key, BODY).ok
        assert service.stop() == 0
