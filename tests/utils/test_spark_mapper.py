"""The mapper: one prompt without Spark and with a clock that does not run, then whole jobs against the mock's."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from utils.llm_backends import BackendSettings
from utils.mock_llm import MockServer, MockSettings, complete
from utils.spark_mapper import (
    ERROR_CHARACTERS,
    LONGEST_WAIT_S,
    Caller,
    Reply,
    ask,
    describe,
    is_sampled,
    join_answers,
    map_prompts,
)

CHAT = "/v1/chat/completions"
GOOD = Reply("positive", 12, 1)
JITTER_S = 0.25  # the first back-off is at most this long


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the code under test wanted to sleep; none of them passes."""
    naps: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", naps.append)
    return naps


def refusal(status: int, message: str = "refused", key: str = "", **headers: str) -> openai.APIStatusError:
    """What the OpenAI SDK raises for such an answer of a server."""
    sent = {"Authorization": f"Bearer {key}"} if key else {}
    request = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions", headers=sent)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return openai.APIStatusError(message, response=httpx.Response(status, headers=named, request=request), body=None)


def scripted(*steps: Reply | BaseException) -> Caller:
    """A caller that answers with each step in turn and keeps to the last one."""
    left = list(steps)

    def call(prompt: str) -> Reply:
        step = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(step, BaseException):
            raise step
        return step

    return call


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0.5"}, 0.5),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"retry_after_ms": "1500", "retry_after": "2"}, 1.5),
        ({"retry_after": "3600"}, LONGEST_WAIT_S),
        ({"retry_after": "inf"}, LONGEST_WAIT_S),
        ({"retry_after": "-4"}, 0),
        ({"retry_after": "nan"}, 0),
        ({"retry_after": "soon"}, 0),
        ({}, 0),
    ],
)
def test_waits_as_long_as_the_server_asks(slept: list[float], headers: dict[str, str], seconds: float) -> None:
    outcome = ask(scripted(refusal(429, **headers), GOOD), "x", 4)
    assert outcome.reply == GOOD
    assert outcome.error is None
    assert len(outcome.calls) == 2
    assert len(slept) == 1
    assert seconds <= slept[0] <= seconds + JITTER_S


def test_a_retry_after_may_be_a_date(slept: list[float]) -> None:
    ask(scripted(refusal(503, retry_after=formatdate(time.time() + 20, usegmt=True)), GOOD), "x", 4)
    assert 15 < slept[0] <= 20 + JITTER_S
    ask(scripted(refusal(503, retry_after=formatdate(time.time() - 20, usegmt=True)), GOOD), "x", 4)
    assert 0 <= slept[1] <= JITTER_S


def test_the_back_off_grows_and_stays_below_its_bound(slept: list[float]) -> None:
    outcome = ask(scripted(refusal(500)), "x", 9)
    assert len(outcome.calls) == 9
    assert len(slept) == 8
    for attempt, nap in enumerate(slept):
        assert 0 <= nap <= min(8, JITTER_S * 2**attempt)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_a_request_that_is_wrong_is_not_sent_again(slept: list[float], status: int) -> None:
    outcome = ask(scripted(refusal(status, "no such thing"), GOOD), "x", 4)
    assert outcome.reply is None
    assert outcome.error == "APIStatusError: no such thing"
    assert len(outcome.calls) == 1
    assert slept == []


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 529])
def test_a_fault_of_the_moment_is_tried_again_and_then_reported(slept: list[float], status: int) -> None:
    outcome = ask(scripted(refusal(status, "later")), "x", 3)
    assert outcome.reply is None
    assert outcome.error == "APIStatusError: later"
    assert [call["error"] for call in outcome.calls] == ["APIStatusError: later"] * 3
    assert len(slept) == 2


@pytest.mark.parametrize(
    "garbage",
    [
        Reply(""),
        Reply(" \n"),
        Reply(None),  # type: ignore[arg-type]
        json.JSONDecodeError("Expecting value", "<html>", 0),
        AttributeError("'str' object has no attribute 'choices'"),
        openai.APIResponseValidationError(
            httpx.Response(200, request=httpx.Request("POST", "http://127.0.0.1/v1")), body=None
        ),
        openai.APITimeoutError(httpx.Request("POST", "http://127.0.0.1/v1")),
        ConnectionError("reset"),
    ],
    ids=lambda garbage: type(garbage).__name__,
)
def test_what_is_no_answer_is_never_one_and_is_asked_again(slept: list[float], garbage: Reply | Exception) -> None:
    outcome = ask(scripted(garbage, GOOD), "x", 4)
    assert outcome.reply == GOOD
    assert [bool(call["error"]) for call in outcome.calls] == [True, False]
    failed = ask(scripted(garbage), "x", 2)
    assert failed.reply is None
    assert failed.error


def test_an_interrupt_is_no_failed_row(slept: list[float]) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(scripted(KeyboardInterrupt()), "x", 4)
    assert slept == []


def test_every_call_has_its_own_times(slept: list[float]) -> None:
    before = time.time_ns()
    outcome = ask(scripted(refusal(500), refusal(429), GOOD), "x", 4)
    times = [moment for call in outcome.calls for moment in (call["started_ns"], call["ended_ns"])]
    assert [before, *times] == sorted([before, *times])


@pytest.mark.parametrize(
    ("error", "secret"),
    [
        (ValueError("Incorrect API key provided: sk-proj-abc123"), "abc123"),
        (ValueError("header 'Authorization: Bearer eyJhbGciOi'"), "eyJhbGciOi"),
        (refusal(401, "{'error': 'the key gw_0815 is not known'}", key="gw_0815"), "gw_0815"),
    ],
)
def test_an_error_shows_no_key(slept: list[float], error: Exception, secret: str) -> None:
    outcome = ask(scripted(error), "x", 1)
    assert outcome.error
    assert secret not in outcome.error
    assert secret not in str(outcome.calls)
    assert "…" in outcome.error


def test_an_error_is_one_short_line() -> None:
    described = describe(ValueError("two\nlines\t" + "x" * 1000))
    assert described.startswith("ValueError: two lines xxx")
    assert len(described) == ERROR_CHARACTERS


def test_a_sample_is_the_same_everywhere_and_about_as_large_as_asked() -> None:
    texts = [f"review {number}" for number in range(4000)]
    assert not any(is_sampled(text, 0.0) for text in texts)
    assert all(is_sampled(text, 1.0) for text in texts)
    chosen = {text for text in texts if is_sampled(text, 0.1)}
    assert 300 < len(chosen) < 500
    assert chosen <= {text for text in texts if is_sampled(text, 0.3)}


# On Spark


def request_body(text: str) -> dict:
    content = f"Answer with one word: positive, negative or neutral.\n\nReview: {text}"
    return {"model": "mock-small", "temperature": 0, "messages": [{"role": "user", "content": content}]}


@contextmanager
def open_client(base_url: str, request_timeout: float) -> Iterator[Caller]:
    """Runs in a Spark worker."""
    settings = BackendSettings("mock", "mock-small", base_url, request_timeout=request_timeout)
    client = settings.openai_client(max_retries=0)

    def call(text: str) -> Reply:
        answer = client.chat.completions.create(**request_body(text))
        assert answer.usage
        return Reply(
            answer.choices[0].message.content or "", answer.usage.prompt_tokens, answer.usage.completion_tokens
        )

    yield call
    client.close()


@contextmanager
def open_nothing() -> Iterator[Caller]:
    raise RuntimeError("the worker has no model to ask")
    yield


def reviews(number: int) -> list[str]:
    return [f"Number {n}: a {'good' if n % 2 else 'bad'} lamp." for n in range(number)]


@pytest.fixture
def ask_all(spark, tmp_path: Path) -> Callable:
    """Ask about texts in a frame of many partitions; returns the joined rows and the answers as pandas."""

    def run(server: MockServer, texts: list[str | None], *, timeout: float = 30, partitions: int = 8, **how):
        rows = list(enumerate(texts))
        frame = spark.createDataFrame(rows, "id int, text string").repartition(partitions)
        answers = map_prompts(frame, partial(open_client, server.base_url, timeout), tmp_path / "answers", **how)
        joined: Any = join_answers(frame, answers).toPandas()
        return joined.sort_values("id"), answers.toPandas()

    return run


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_each_text_is_asked_once_and_never_more_in_flight_than_allowed(ask_all: Callable, concurrency: int) -> None:
    texts = reviews(40)
    with MockServer(MockSettings(latency_ms=20)) as server:
        rows, answers = ask_all(server, texts * 2, concurrency=concurrency)
        counts = server.counts
    assert counts.requests == {(CHAT, 200): 40}
    assert counts.max_in_flight <= concurrency
    assert (counts.max_in_flight > 1) == (concurrency > 1)
    assert len(rows) == 80
    assert sorted(answers["text"]) == sorted(texts)
    assert rows["answer"].notna().all()
    assert (answers["attempts"] == 1).all()
    assert (answers["latency_ms"] >= 20).all()


def test_rows_in_are_rows_out_and_tokens_are_the_servers(ask_all: Callable) -> None:
    texts: list[str | None] = [
        *reviews(6),
        *reviews(3),
        None,
        "",
        "   ",
        "\n\t",
        "'quoted', “Umlaut ü”\nsecond line 猫",
    ]
    with MockServer() as server:
        rows, answers = ask_all(server, texts)
        counts = server.counts
    assert [text if isinstance(text, str) else None for text in rows["text"]] == texts
    blank = [not (text or "").strip() for text in texts]
    assert (rows["error"] == "empty prompt").tolist() == blank
    assert rows["answer"].isna().tolist() == blank
    assert len(answers) == counts.chat_calls == 7
    assert answers["prompt_tokens"].sum() == counts.prompt_tokens
    assert answers["completion_tokens"].sum() == counts.completion_tokens
    for text, answer in zip(answers["text"], answers["answer"], strict=True):
        assert answer == complete(request_body(text)).text


def test_answers_are_in_parquet_and_looking_at_them_asks_nobody(spark, ask_all: Callable, tmp_path: Path) -> None:
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "part-0.parquet").write_bytes(b"from before")
    with MockServer() as server:
        ask_all(server, reviews(10))
        answers = spark.read.parquet(str(tmp_path / "answers"))
        assert answers.where("answer is not null").orderBy("answer").count() == 10
        assert [field.name for field in answers.schema][:3] == ["text", "answer", "error"]
        assert server.counts.chat_calls == 10


def test_without_a_single_prompt_nobody_is_asked(ask_all: Callable) -> None:
    with MockServer() as server:
        rows, answers = ask_all(server, [None, "", " "])
        assert server.counts.total_requests == 0
    assert rows["error"].tolist() == ["empty prompt"] * 3
    assert answers.empty


@pytest.mark.parametrize(
    ("faults", "timeout"), [("429:0.1,500:0.1,garbage:0.1", 30.0), ("429:0.1,500:0.05,garbage:0.1,timeout:0.05", 2.0)]
)
def test_with_faults_every_row_has_an_answer_or_a_reason(ask_all: Callable, faults: str, timeout: float) -> None:
    texts = reviews(60)
    with MockServer(MockSettings(faults=faults)) as server:
        rows, answers = ask_all(server, texts * 2, timeout=timeout, max_attempts=2)
        counts = server.counts
    assert len(rows) == 120
    assert len(answers) == 60
    assert set(counts.faults) == {item.split(":")[0] for item in faults.split(",")}
    assert (answers["answer"].isna() == answers["error"].notna()).all()
    assert 0 < answers["error"].notna().sum() < 30
    for answer in answers.itertuples():
        assert len(answer.calls) == answer.attempts
        assert [call["error"] is None for call in answer.calls][:-1] == [False] * (answer.attempts - 1)
        assert (answer.calls[-1]["error"] is None) == isinstance(answer.answer, str)
        if isinstance(answer.answer, str):
            assert answer.answer == complete(request_body(answer.text)).text
        else:
            assert answer.attempts == 2
    failed_calls = sum(call["error"] is not None for calls in answers["calls"] for call in calls)
    assert failed_calls == sum(counts.faults.values())
    assert answers["attempts"].sum() == counts.total_requests
    assert answers["answer"].notna().sum() == counts.chat_calls


def test_a_worker_that_cannot_begin_fails_the_job(spark, tmp_path: Path) -> None:
    from pyspark.errors import PythonException

    frame = spark.createDataFrame([("a good lamp",)], "text string")
    with pytest.raises(PythonException, match="the worker has no model to ask"):
        map_prompts(frame, open_nothing, tmp_path / "answers")
