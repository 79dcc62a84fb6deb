"""Lesson 2.2: the job's real command with spans from the driver and from autolog, with faults and own rows."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow.tracing.constant import SpanAttributeKey

from spark import spark_langchain_ollama
from spark.spark_langchain_multiple_mode import main
from tests.spark.evidence import (
    SENTIMENT,
    answers_of,
    artifacts_of,
    flags,
    llm_spans,
    only_run,
    only_trace,
    root_of,
    runs,
    spent_tokens,
    traces,
)
from tests.stub_server import stub_server
from utils import sentiment_job
from utils.mock_llm import MockServer
from utils.options import InputOptions
from utils.spark_mapper import is_sampled

pytestmark = pytest.mark.usefixtures("store", "spark", "without_queue")


@pytest.mark.usefixtures("with_queue")
def test_the_driver_writes_a_span_for_every_call(run_command: Callable, servers: list[MockServer]) -> None:
    assert run_command(main, *flags(num_samples=30, concurrency=4, mock_latency_ms=20)).exit_code == 0
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    root, calls, served = root_of(trace), llm_spans(trace), servers[0].counts

    assert len(calls) == served.chat_calls == run.data.metrics["llm_calls"] == run.data.metrics["llm_spans"] == 30
    assert served.max_in_flight <= 4
    assert trace.info.state == "OK"
    assert {call.parent_id for call in calls} == {root.span_id}
    assert all(root.start_time_ns < call.start_time_ns < call.end_time_ns < root.end_time_ns for call in calls)
    assert all(call.end_time_ns - call.start_time_ns >= 20e6 for call in calls)
    assert {call.attributes[SpanAttributeKey.MODEL] for call in calls} == {"mock-small"}
    assert spent_tokens(trace) == (served.prompt_tokens, served.completion_tokens)
    assert run.data.metrics["prompt_tokens"] == served.prompt_tokens
    said = {json.dumps(call.inputs["messages"]): call.outputs for call in calls}
    for row in answers_of(run).itertuples():
        assert [answer for messages, answer in said.items() if json.dumps(row.text)[1:-1] in messages] == [row.answer]
    assert json.loads(run.data.tags["mlflow.linkedPrompts"]) == [{"name": "sentiment", "version": "1"}]
    assert {"lesson": "2.2", "llm_type": "mock", "llm_model": "mock-small"}.items() <= trace.info.tags.items()
    assert artifacts_of(run) == {"answers.json", "confusion_matrix.png"}


def test_calls_overlap_as_they_did(run_command: Callable) -> None:
    assert run_command(main, *flags(num_samples=12, concurrency=8, mock_latency_ms=100)).exit_code == 0
    calls = llm_spans(only_trace(SENTIMENT))
    moments = [(call.start_time_ns, 1) for call in calls] + [(call.end_time_ns, -1) for call in calls]
    in_flight = most = 0
    for _, change in sorted(moments):
        in_flight += change
        most = max(most, in_flight)
    assert 1 < most <= 8


def test_failed_attempts_are_spans_with_their_error(run_command: Callable, servers: list[MockServer]) -> None:
    faults = "429:0.15,500:0.1,garbage:0.1"
    assert run_command(main, *flags(num_samples=45, mock_faults=faults)).exit_code == 0
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    root, calls, served = root_of(trace), llm_spans(trace), servers[0].counts

    assert set(served.faults) == {"429", "500", "garbage"}
    sent = sum(number for (path, _), number in served.requests.items() if path.endswith("/chat/completions"))
    assert len(calls) == run.data.metrics["llm_calls"] == sent
    failed = [call for call in calls if call.status.status_code == "ERROR"]
    assert len(failed) == sum(served.faults.values())
    assert len(calls) - len(failed) == served.chat_calls
    assert all(root.start_time_ns < call.start_time_ns < call.end_time_ns < root.end_time_ns for call in calls)
    for call in failed:
        assert call.outputs is None
        (event,) = call.events
        assert event.attributes["exception.message"] == call.status.description
    assert any("RateLimitError" in call.status.description for call in failed)
    assert spent_tokens(trace) == (served.prompt_tokens, served.completion_tokens)
    assert trace.info.state == "OK"
    assert run.data.metrics["rows"] == len(answers_of(run)) == 45


def test_rows_that_failed_are_counted_and_say_why(run_command: Callable, servers: list[MockServer]) -> None:
    assert run_command(main, *flags(num_samples=30, mock_faults="500:0.7")).exit_code == 0
    run = only_run(SENTIMENT)
    answers = answers_of(run)
    failed = answers[answers["answer"].isna()]
    assert 0 < len(failed) < 30
    assert run.data.metrics["failed_rows"] == len(failed)
    assert failed["error"].str.contains("The mock fails on purpose").all()
    assert (failed["attempts"] == 4).all()
    assert failed["predicted"].isna().all()
    right = (answers["predicted"] == answers["label"]).sum()
    assert run.data.metrics["accuracy"] == pytest.approx(right / 30)
    assert answers["error"].notna().sum() == len(failed)


def test_a_job_without_a_single_answer_is_no_success(refused: Callable) -> None:
    said = refused(main, *flags(num_samples=4, mock_faults="500:1"))
    assert "all 4 rows failed" in said
    assert "The mock fails on purpose" in said
    (run,) = runs(SENTIMENT)
    assert run.info.status == "FAILED"
    assert "accuracy" not in run.data.metrics
    assert [trace.info.state for trace in traces(SENTIMENT)] == ["ERROR"]


def test_autolog_in_the_workers_gives_the_same_spans_and_no_doubles(
    run_command: Callable, servers: list[MockServer]
) -> None:
    # In this order, since Spark uses its workers again: what one job switched on must not stay on for the next.
    jobs = [("openai", "autolog"), ("langchain", "autolog"), ("langchain", "driver")]
    for client, source in jobs:
        assert run_command(main, *flags(num_samples=8, client=client, span_source=source)).exit_code == 0
    found = sorted(traces(SENTIMENT), key=lambda trace: trace.info.timestamp_ms)
    assert len(found) == 3
    for trace, server in zip(found, servers, strict=True):
        assert len(llm_spans(trace)) == server.counts.chat_calls == 8
        assert spent_tokens(trace) == (server.counts.prompt_tokens, server.counts.completion_tokens)
        root = root_of(trace)
        assert all(root.start_time_ns < call.start_time_ns for call in llm_spans(trace))
    said = [(run.data.params["client"], run.data.params["span_source"]) for run in runs(SENTIMENT, "FINISHED")]
    assert said == jobs[::-1]
    assert [run.data.metrics["llm_spans"] for run in runs(SENTIMENT, "FINISHED")] == [8] * 3


def test_what_lesson_2_1_switched_on_in_the_workers_does_not_stay_on(run_command: Callable) -> None:
    for command in (spark_langchain_ollama.main, main):
        assert run_command(command, *flags(llm_type="mock", num_samples=6)).exit_code == 0
    assert sorted(root_of(trace).name for trace in traces(SENTIMENT)) == ["spark-sentiment", "spark-sentiment-any"]
    assert [len(llm_spans(trace)) for trace in traces(SENTIMENT)] == [6, 6]


def test_the_openai_client_asks_the_same_and_scores_the_same(run_command: Callable) -> None:
    for client in ("openai", "langchain"):
        assert run_command(main, *flags(num_samples=15, client=client)).exit_code == 0
    first, second = (run.data.metrics for run in runs(SENTIMENT, "FINISHED"))
    for name in ("accuracy", "macro_f1", "prompt_tokens", "completion_tokens", "unparsed_rows"):
        assert first[name] == second[name]


def test_use_openai_asks_the_server_in_the_environment(run_command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-learner")
    with MockServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        assert run_command(main, "--use-openai", *flags(model="mock-large", num_samples=6)).exit_code == 0
        assert server.counts.chat_calls == 6
    run = only_run(SENTIMENT)
    assert {"llm_type": "openai", "llm_model": "mock-large"}.items() <= run.data.tags.items()
    kept = str(run.to_dictionary()) + only_trace(SENTIMENT).to_json()
    assert "of-the-learner" not in kept


@pytest.mark.parametrize("client", ["langchain", "openai"])
def test_a_server_that_counts_no_tokens_leaves_no_number(run_command: Callable, client: str) -> None:
    message = {"role": "assistant", "content": "positive"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}  # fmt: skip
    answers = {"/v1/models": (200, {"data": [{"id": "m"}]}), "/v1/chat/completions": (200, body)}
    with stub_server(answers) as server:
        given = flags(llm_type="openai", openai_base_url=f"{server.url}/v1", model="m", client=client, num_samples=6)
        assert run_command(main, *given).exit_code == 0
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    assert run.data.metrics["failed_rows"] == 0
    assert run.data.metrics["accuracy"] == pytest.approx(1 / 3)
    assert not any("tokens" in name for name in run.data.metrics)
    assert len(llm_spans(trace)) == 6
    assert not trace.info.token_usage


def test_the_learners_rows_and_labels(run_command: Callable, servers: list[MockServer], tmp_path: Path) -> None:
    own = tmp_path / "my reviews.csv"
    lines = [
        "comment,verdict,id",
        "a good lamp,GOOD,x1",
        "a bad lamp,Bad,x2",
        '"so, so",meh,x3',
        ",good,x4",
        "a good lamp,good,x5",
    ]
    own.write_text("\n".join(lines), encoding="utf-8")
    given = flags(input=own, text_column="comment", label_column="verdict", num_samples=4)
    assert run_command(main, *given).exit_code == 0
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    assert servers[0].counts.chat_calls == len(llm_spans(trace)) == 3
    assert sorted(answers_of(run)["id"]) == ["x1", "x2", "x3", "x5"]
    assert "my reviews.csv" in run.data.params["rows"]
    assert str(tmp_path) not in run.data.params["rows"]
    asked = {call.inputs["messages"][0]["content"] for call in llm_spans(trace)}
    assert all("one of: bad, good, meh." in content for content in asked)
    assert 0 <= run.data.metrics["accuracy"] <= 1


def test_rows_without_labels_have_shares_and_no_accuracy(run_command: Callable, tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text('{"text": "a good lamp"}\n{"text": "a bad lamp"}\n', encoding="utf-8")
    assert run_command(main, *flags(input=own, num_samples=2)).exit_code == 0
    run = only_run(SENTIMENT)
    assert run.data.metrics["share_positive"] == run.data.metrics["share_negative"] == 0.5
    assert "accuracy" not in run.data.metrics
    assert artifacts_of(run) == {"answers.json"}


def test_a_sample_of_the_calls_is_traced(run_command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentiment_job, "SAMPLE_ROWS", 12)
    for mode in ("sample", "off"):
        assert run_command(main, *flags(num_samples=30, trace=mode)).exit_code == 0
    off, sample = runs(SENTIMENT, "FINISHED")
    texts = sentiment_job.load_job_rows(InputOptions(), 30, 7).frame["text"]
    chosen = sum(is_sampled(text, 12 / 30) for text in texts)
    assert sample.data.metrics["llm_spans"] == chosen
    assert off.data.metrics["llm_spans"] == 0
    assert (off.data.params["trace_share"], sample.data.params["trace_share"]) == ("0.0", "0.4")
    assert sorted(len(llm_spans(trace)) for trace in traces(SENTIMENT)) == [0, chosen]


def test_the_environment_is_as_it_was(run_command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-learner")
    assert run_command(main, *flags(num_samples=3)).exit_code == 0
    assert os.environ["OPENAI_API_KEY"] == "sk-of-the-learner"
    assert "OPENAI_BASE_URL" not in os.environ
    assert mlflow.active_run() is None
    assert mlflow.get_current_active_span() is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--use-openai"], "OPENAI_API_KEY is not set"),
        (["--num-samples", 0], "--num-samples"),
        (["--client", "curl"], "--client"),
        (["--input", "nowhere.csv"], "there is no file nowhere.csv"),
        (["--mock-faults", "418:0.5"], "418"),
        (["--spark-master", "spark://127.0.0.1:1"], "no Spark master answers"),
    ],
)
def test_wrong_use_is_refused_and_no_run_claims_success(refused: Callable, wrong: list, said: str) -> None:
    assert said in refused(main, *wrong)
    assert runs(SENTIMENT, "FINISHED") == []


def test_a_wrong_column_names_those_there_are(refused: Callable, tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("comment,verdict\nfine,good\n")
    said = refused(main, *flags(input=tmp_path / "own.csv", text_column="review"))
    assert "comment, verdict" in said


@pytest.mark.slow
@pytest.mark.usefixtures("with_queue")
@pytest.mark.parametrize("source", ["driver", "autolog"])
def test_faults_and_time_outs_lose_no_row_and_no_span(
    run_command: Callable, servers: list[MockServer], source: str
) -> None:
    faults = "429:0.1,500:0.1,garbage:0.07,timeout:0.03"
    given = flags(num_samples=150, concurrency=32, mock_faults=faults, request_timeout=3, span_source=source)
    assert run_command(main, *given).exit_code == 0
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    served = servers[0].counts
    assert served.faults["timeout"] > 0
    assert len(llm_spans(trace)) == run.data.metrics["llm_calls"] == sum(served.faults.values()) + served.chat_calls
    answers = answers_of(run)
    assert len(answers) == 150
    assert (answers["answer"].isna() == answers["error"].notna()).all()
    assert len([span for span in llm_spans(trace) if span.status.status_code == "ERROR"]) == sum(served.faults.values())
    root_of(trace)
