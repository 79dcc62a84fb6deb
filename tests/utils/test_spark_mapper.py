"""Whole jobs of the mapper, on Spark against the mock's server."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from utils.llm_backends import BackendSettings
from utils.mock_llm import MockServer, MockSettings, complete
from utils.spark_mapper import (
    Caller,
    Reply,
    join_answers,
    map_prompts,
)

CHAT = "/v1/chat/completions"


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


@pytest.mark.parametrize(("concurrency", "ahead"), [(1, 0), (3, 0), (3, 8), (16, 4)])
def test_each_text_is_asked_once_and_never_more_in_flight_than_allowed(
    ask_all: Callable, concurrency: int, ahead: int
) -> None:
    texts = reviews(40)
    with MockServer(MockSettings(latency_ms=20)) as server:
        rows, answers = ask_all(server, texts * 2, concurrency=concurrency, ahead=ahead)
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
