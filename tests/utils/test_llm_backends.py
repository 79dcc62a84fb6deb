"""One seam for every model: the clients reach the endpoint, keys stay where they belong, what is missing is said."""

import os
import pickle
import socket
import time
from typing import Any

import mlflow
import pytest
from langchain_core.messages import HumanMessage
from mlflow.genai.judges import make_judge

from spark.spark_langchain_multiple_mode import main as multiple_mode
from spark.spark_langchain_ollama import main as sentiment
from spark.spark_llamaindex_rag import main as rag
from tests.stub_server import NEVER, NOT_FOUND, Answer, closed_url, stub_server
from utils.backend_settings import ANSWER_TOKENS
from utils.lesson_context import current_tags
from utils.llm_backends import (
    DUMMY_KEY,
    ENDPOINT_VARIABLES,
    Backend,
    BackendSettings,
    BackendUnavailable,
    open_backend,
)
from utils.mock_llm import MockServer
from utils.options import BackendOptions

KEY = "sk-test-0123456789-secret"
TASK = "Answer with one word: positive, negative or neutral.\nReview: The soup was delicious."
COMPLETION = {
    "id": "1", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "positive"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}  # fmt: skip
MODELS = (200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
OPENAI = {"/v1/models": MODELS, "/v1/chat/completions": (200, COMPLETION)}
TAGS = (200, {"models": [{"name": "llama3.2:latest"}, {"name": "local/qwen"}]})
OLLAMA_ANSWER = {
    "model": "llama3.2", "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop",
    "message": {"role": "assistant", "content": "positive"}, "prompt_eval_count": 3, "eval_count": 1,
}  # fmt: skip


def refuse(llm_type: str, **chosen: Any) -> BackendUnavailable:
    with pytest.raises(BackendUnavailable) as caught, open_backend(llm_type, **chosen):
        pass
    assert KEY not in f"{caught.value}{caught.value.problem}{caught.value.cure}"
    return caught.value


# --- the mock, through every client


@pytest.fixture
def mock():
    with open_backend("mock") as llm:
        yield llm


def test_langchain(mock):
    answer = mock.chat_model().invoke(TASK)
    assert answer.text == "positive" and answer.usage_metadata["total_tokens"] > 0


def test_langchain_streams_with_its_tokens(mock):
    chunks = list(mock.chat_model().stream("What is the sentiment of this review? The soup was delicious and hot."))
    assert len(chunks) > 2 and sum((chunk.usage_metadata or {}).get("total_tokens", 0) for chunk in chunks) > 0


def test_llama_index(mock):
    assert str(mock.llama_index().complete(TASK)) == "positive"


def test_llama_index_streams_with_its_tokens(mock):
    *_, last = mock.llama_index(streaming=True).stream_complete(TASK)
    assert last.text == "positive" and last.raw.usage.total_tokens > 0


def test_the_openai_sdk(mock):
    with mock.openai_client() as client:
        answer = client.chat.completions.create(model=mock.model, messages=[{"role": "user", "content": TASK}])
    assert answer.choices[0].message.content == "positive"


def test_a_judge(mock, store):
    judge = make_judge(name="polite", instructions="Is {{ outputs }} polite? Answer yes or no.", **mock.judge())
    before = mock.server.counts.chat_calls
    feedback = judge(outputs="Thank you very much, you are kind.")
    assert feedback.value is not None and feedback.error is None
    assert mock.server.counts.chat_calls > before


def test_the_mock_says_what_it_served(store):
    with open_backend("mock", model="mock-large") as llm:
        llm.chat_model().invoke(TASK)
        assert llm.server.counts.chat_calls == 1 and llm.model == "mock-large"


def test_overrides_reach_the_client(mock):
    assert mock.chat_model(temperature=0.7).temperature == 0.7
    assert mock.llama_index(temperature=0.7).temperature == 0.7
    with mock.openai_client(max_retries=0) as client:
        assert client.max_retries == 0


def test_options_of_a_command_and_keywords_are_the_same(mock):
    with open_backend(BackendOptions("mock", temperature=0.3), request_timeout=7) as llm:
        assert (llm.settings.temperature, llm.settings.request_timeout) == (0.3, 7)
        assert (llm.chat_model().request_timeout, llm.llama_index().timeout) == (7, 7)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["gpt-4o", "mock-embedding", "mock"])
def test_a_model_that_the_mock_has_not(name):
    error = refuse("mock", model=name)
    assert name in error.problem and "mock-small" in error.cure


@pytest.mark.parametrize("faults", ["429", "404:0.1", "429:2", "429:0.7,500:0.7", "429:much", "429:-1"])
def test_faults_that_the_mock_does_not_know(faults):
    assert "--mock-faults" in refuse("mock", mock_faults=faults).cure


def test_the_mock_is_gone_when_the_block_ends():
    with open_backend("mock") as llm:
        port = int(llm.settings.base_url.split(":")[2].split("/")[0])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)


# --- the environment and the key


@pytest.mark.parametrize("had", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_environment_points_at_the_endpoint_and_is_put_back(monkeypatch, had, fails):
    for name in ENDPOINT_VARIABLES:
        monkeypatch.setenv(name, f"before-{name}") if had else monkeypatch.delenv(name, raising=False)
    before = {name: os.environ.get(name) for name in ENDPOINT_VARIABLES}
    try:
        with open_backend("mock", openai_base_url=None) as llm:
            assert os.environ["OPENAI_BASE_URL"] == os.environ["OPENAI_API_BASE"] == llm.settings.base_url
            assert os.environ["OPENAI_API_KEY"] == DUMMY_KEY
            assert current_tags() == {"llm_type": "mock", "llm_model": "mock-small"}
            if fails:
                raise RuntimeError("a bug in the lesson")
    except RuntimeError:
        assert fails
    assert {name: os.environ.get(name) for name in ENDPOINT_VARIABLES} == before and current_tags() == {}


def test_a_backend_inside_a_backend_puts_the_outer_one_back():
    with open_backend("mock") as outer:
        with open_backend("mock", model="mock-large"):
            pass
        assert os.environ["OPENAI_BASE_URL"] == outer.settings.base_url
        assert current_tags()["llm_model"] == "mock-small"


def ask_with_every_client(llm) -> None:
    llm.chat_model().invoke(TASK)
    llm.llama_index().complete(TASK)
    with llm.openai_client() as client:
        client.chat.completions.create(model=llm.model, messages=[{"role": "user", "content": TASK}])


def test_a_real_key_never_reaches_ollama(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answers: dict[str, Answer] = {
        "/api/tags": TAGS, "/api/chat": (200, OLLAMA_ANSWER), "/v1/chat/completions": (200, COMPLETION),
    }  # fmt: skip
    with stub_server(answers) as stub, open_backend("ollama", ollama_url=stub.url) as llm:
        ask_with_every_client(llm)
    assert {path for path, _ in stub.requests} == set(answers) and KEY not in stub.seen


def test_a_real_key_never_reaches_the_mock(monkeypatch):
    """The mock does not show what it was sent: a listener with its address in the settings does."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with stub_server(OPENAI) as stub, monkeypatch.context() as patch:
        patch.setattr(MockServer, "base_url", property(lambda self: stub.base_url))
        with open_backend("mock") as llm:
            ask_with_every_client(llm)
    assert len(stub.requests) == 3 and KEY not in stub.seen


def test_the_openai_server_gets_the_key_and_nobody_else_sees_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with stub_server(OPENAI) as stub, open_backend("openai", openai_base_url=stub.base_url, model="m") as llm:
        ask_with_every_client(llm)
        assert KEY not in repr(llm) + repr(llm.settings) + str(llm.settings) + str(llm.judge())
    assert {headers["authorization"] for _, headers in stub.requests} == {f"Bearer {KEY}"}


def test_settings_travel_to_a_worker_and_build_the_same_clients(mock):
    travelled = pickle.loads(pickle.dumps(mock.settings))
    assert travelled == mock.settings
    assert travelled.chat_model().invoke(TASK).text == "positive"


# --- Ollama


def test_ollama_through_its_own_api(monkeypatch):
    answers: dict[str, Answer] = {"/api/tags": TAGS, "/api/chat": (200, OLLAMA_ANSWER)}
    with stub_server(answers) as stub, open_backend("ollama", ollama_url=f"{stub.url}/") as llm:
        assert llm.chat_model().invoke(TASK).text == "positive"
        assert str(llm.llama_index().complete(TASK)) == "positive"
        assert current_tags() == {"llm_type": "ollama", "llm_model": "llama3.2"}
    assert {path for path, _ in stub.requests} == set(answers)


def test_model_wins_over_ollama_model():
    chosen = {"model": "local/qwen", "ollama_model": "llama3.2"}
    with stub_server({"/api/tags": TAGS}) as stub, open_backend("ollama", ollama_url=stub.url, **chosen) as llm:
        assert llm.model == "local/qwen"


def test_ollama_is_down():
    url = closed_url()
    error = refuse("ollama", ollama_url=url)
    assert url in error.problem and "ollama serve" in error.cure and "ollama pull llama3.2" in error.cure


@pytest.mark.parametrize(
    "answer",
    [NOT_FOUND, (200, "<html>hello</html>"), (200, {"ok": True}), (200, ["llama3.2"]), (200, {"models": "x"}),
     (200, {"models": ["llama3.2"]}), (500, {"models": []})],
)  # fmt: skip
def test_what_answers_is_no_ollama(answer):
    with stub_server({"/api/tags": answer}) as stub:
        assert "is not an Ollama server" in refuse("ollama", ollama_url=stub.url).problem


@pytest.mark.parametrize("models", [[], None, [{"name": "mistral:latest"}], [{"name": "llama3.2-vision:latest"}]])
def test_ollama_has_not_pulled_the_model(models):
    with stub_server({"/api/tags": (200, {"models": models})}) as stub:
        error = refuse("ollama", ollama_url=stub.url)
    assert error.cure == "ollama pull llama3.2"
    assert (models[0]["name"] if models else "none") in error.problem


# --- OpenAI and what speaks its API


def test_openai_without_a_key_asks_nobody():
    error = refuse("openai")
    assert "OPENAI_API_KEY is not set" in error.problem and "export OPENAI_API_KEY" in error.cure


def test_a_local_server_needs_no_key():
    with stub_server(OPENAI) as stub, open_backend("openai", openai_base_url=f"{stub.base_url}/", model="m") as llm:
        assert llm.chat_model().invoke(TASK).text == "positive"
    assert {headers["authorization"] for _, headers in stub.requests} == {f"Bearer {DUMMY_KEY}"}


@pytest.mark.parametrize("key", ["…", "sk-ключ", "sk-two\nlines", "sk-\x00"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(monkeypatch, key):
    if "\x00" not in key:  # which no environment can hold
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with stub_server(OPENAI) as stub:
            error = refuse("openai", openai_base_url=stub.base_url, model="m")
        assert "OPENAI_API_KEY" in error.problem and key not in error.problem and stub.requests == []


def test_blanks_around_a_key_are_no_part_of_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    with stub_server(OPENAI) as stub, open_backend("openai", openai_base_url=stub.base_url, model="m"):
        pass
    assert stub.requests[0][1]["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("url", ["localhost:8000/v1", "http://", "http://[::1", "http://127.0.0.1:99999/v1", "ftp://x"])
def test_a_base_url_that_is_none(url):
    assert url.rstrip("/") in refuse("openai", openai_base_url=url, model="m").problem


def test_a_base_url_where_nothing_listens(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    url = f"{closed_url()}/v1"
    error = refuse("openai", openai_base_url=url, model="m")
    assert url in error.problem and "--openai-base-url" in error.cure


@pytest.mark.parametrize(
    "answer",
    [NOT_FOUND, (200, "<html>hello</html>"), (200, {"models": []}), (200, {"data": "x"}), (200, {"data": ["m"]}),
     (200, []), (503, {"data": []})],
)  # fmt: skip
def test_what_answers_does_not_speak_openais_api(monkeypatch, answer):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with stub_server({"/v1/models": answer}) as stub:
        assert "does not speak OpenAI's API" in refuse("openai", openai_base_url=stub.base_url, model="m").problem


def test_a_base_url_without_v1():
    with stub_server(OPENAI) as stub:
        assert "/v1" in refuse("openai", openai_base_url=stub.url, model="m").cure


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_server_refuses(monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answer = (status, {"error": {"message": f"Incorrect API key provided: {KEY}"}})
    with stub_server({"/v1/models": answer}) as stub:
        error = refuse("openai", openai_base_url=stub.base_url, model="m")
    assert "OPENAI_API_KEY" in error.problem and str(status) in error.problem


def test_a_model_that_the_server_has_not():
    with stub_server(OPENAI) as stub:
        error = refuse("openai", openai_base_url=stub.base_url, model="other")
    assert "other" in error.problem and error.cure == "--model m"


@pytest.mark.parametrize("data", [[], None])
def test_a_server_that_lists_no_models_is_believed(data):
    answers: dict[str, Answer] = {"/v1/models": (200, {"data": data})}
    with stub_server(answers) as stub, open_backend("openai", openai_base_url=stub.base_url, model="any") as llm:
        assert llm.model == "any"


@pytest.mark.parametrize("llm_type", ["ollama", "openai"])
def test_a_server_that_never_answers_is_given_up(llm_type):
    with stub_server({}, default=NEVER) as stub:
        started = time.monotonic()
        refuse(llm_type, ollama_url=stub.url, openai_base_url=stub.url, model="m")
    assert time.monotonic() - started < 30  # seconds; it takes 4, and a hanging probe would take minutes


@pytest.mark.parametrize("llm_type", ["ollama", "openai"])
def test_nothing_takes_the_place_of_what_is_missing(llm_type, monkeypatch):
    monkeypatch.setattr(MockServer, "start", lambda self: pytest.fail("the mock was started"))
    refuse(llm_type, ollama_url=closed_url(), openai_base_url=closed_url(), model="m")
    assert current_tags() == {} and "OPENAI_BASE_URL" not in os.environ


# --- calls that fail while a backend is open

CLIENTS = {
    "langchain": lambda llm: llm.chat_model(max_retries=0).invoke(TASK),
    "llama_index": lambda llm: llm.llama_index(max_retries=0).complete(TASK),
    "openai": lambda llm: llm.openai_client(max_retries=0).models.retrieve("m"),
}
CLIENTS_OF_OLLAMA = {
    "langchain": lambda llm: llm.chat_model().invoke(TASK),
    "llama_index": lambda llm: llm.llama_index().complete(TASK),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [401, 500])
def test_a_call_that_fails_is_said_without_the_words_of_the_server(monkeypatch, client, status):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answers: dict[str, Answer] = {"/v1/models": MODELS}
    failure = (status, {"error": {"message": f"Received={KEY}"}})
    with (
        stub_server(answers, default=failure) as stub,
        pytest.raises(BackendUnavailable) as caught,
        open_backend("openai", openai_base_url=stub.base_url, model="m") as llm,
    ):
        CLIENTS[client](llm)
    assert f"({status})" in caught.value.problem and stub.base_url in caught.value.problem
    assert KEY not in caught.value.problem + caught.value.cure


@pytest.mark.parametrize("client", CLIENTS_OF_OLLAMA)
def test_ollama_that_goes_away_is_said(client):
    with (
        stub_server({"/api/tags": TAGS}) as stub,
        pytest.raises(BackendUnavailable) as caught,
        open_backend("ollama", ollama_url=stub.url) as llm,
    ):
        CLIENTS_OF_OLLAMA[client](llm)
    assert stub.url in caught.value.problem and "(404)" in caught.value.problem


def test_a_bug_in_a_lesson_is_no_failure_of_the_server():
    with pytest.raises(KeyError), open_backend("mock"):
        raise KeyError("a bug")


# --- the key, after a whole lesson


@pytest.mark.parametrize(
    ("lesson", "flags"),
    [
        (multiple_mode, ["--num-samples", "2", "--client", "openai"]),
        pytest.param(sentiment, ["--num-samples", "2", "--spans"], marks=pytest.mark.slow),
        pytest.param(rag, ["--num-questions", "2", "--embed-type", "openai", "--embed-model", "mock-embedding"],
                     marks=pytest.mark.slow),
    ],
    ids=["spans of the driver", "spans of the workers", "retrieval"],
)  # fmt: skip
def test_a_key_is_nowhere_after_a_lesson(store, tmp_path, spark, run_command, monkeypatch, caplog, lesson, flags):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockServer() as server:
        endpoint = ["--llm-type", "openai", "--openai-base-url", server.base_url, "--model", "mock-small"]
        result = run_command(lesson, *endpoint, *flags)
        assert result.exit_code == 0 and server.counts.chat_calls == 2, result.output
    mlflow.flush_trace_async_logging()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "mlflow.db" in written and len(written) > 1, "the store and the run's artifacts"
    assert [path for path in written if KEY.encode() in path.read_bytes()] == []
    assert KEY not in result.output and KEY not in caplog.text


def test_a_traced_function_shows_which_model_it_was_given_and_no_key(store, monkeypatch):
    """MLflow writes every argument of a traced function into its span."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    mlflow.set_experiment("arguments")

    @mlflow.trace
    def ask(llm: Backend, settings: BackendSettings) -> None: ...

    with stub_server(OPENAI) as stub, open_backend("openai", openai_base_url=stub.base_url, model="m") as llm:
        assert llm.settings.api_key == KEY, "clients get it"
        ask(llm, llm.settings)
    mlflow.flush_trace_async_logging()
    span = mlflow.get_trace(mlflow.get_last_active_trace_id()).data.spans[0]
    assert span.inputs["llm"] == "m (openai)" and span.inputs["settings"]["model"] == "m"
    assert KEY not in str(span.to_dict()) and KEY not in str(llm.settings)


@pytest.mark.parametrize("llm_type", ["openai", "ollama"])
def test_an_answer_of_langchain_and_llamaindex_has_an_end(llm_type):
    """A small model that repeats itself would go on until its context is full."""
    settings = BackendSettings(llm_type, "m", "http://127.0.0.1:9/v1", ollama_url="http://127.0.0.1:9")
    model: Any = settings.chat_model()
    other: Any = settings.llama_index()
    if llm_type == "openai":
        assert model._get_request_payload("x")["max_completion_tokens"] == ANSWER_TOKENS
        assert other._get_model_kwargs()["max_tokens"] == ANSWER_TOKENS
    else:
        assert model._chat_params([HumanMessage("x")])["options"]["num_predict"] == ANSWER_TOKENS
        assert other._model_kwargs["num_predict"] == ANSWER_TOKENS
