"""Lesson 2.1: the job's real command, against the mock and against a small Ollama, judged by what MLflow then holds."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import Run, SpanType, Trace

from spark.spark_langchain_ollama import main
from tests.spark.evidence import (
    SENTIMENT,
    answers_of,
    artifacts_of,
    flags,
    llm_spans,
    of_type,
    only_run,
    only_trace,
    root_of,
    runs,
    spent_tokens,
    traces,
)
from tests.spark.fake_ollama import MODEL, fake_ollama
from tests.stub_server import closed_url
from utils import sentiment_job
from utils.mlflow_setup import STATE_DIR
from utils.mock_llm import MockServer
from utils.options import InputOptions
from utils.reviews import LABELS
from utils.spark_mapper import is_sampled

pytestmark = pytest.mark.usefixtures("store", "spark", "without_queue")
MOCK = flags(llm_type="mock")


def texts(number: int) -> set[str]:
    return set(sentiment_job.load_job_rows(InputOptions(), number, 7).frame["text"])


@pytest.mark.usefixtures("with_queue")
def test_every_call_is_a_span_below_one_root(run_command: Callable, servers: list[MockServer]) -> None:
    assert run_command(main, *MOCK, "--num-samples", 30, "--concurrency", 4).exit_code == 0
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    served, measured = servers[0].counts, run.data.metrics

    calls = llm_spans(trace)
    assert len(calls) == served.chat_calls == measured["llm_calls"] == measured["llm_spans"] == len(texts(30))
    assert served.max_in_flight <= 4
    root = root_of(trace)
    assert (root.name, root.span_type, trace.info.state) == ("spark-sentiment", SpanType.WORKFLOW, "OK")
    assert all(root.start_time_ns < call.start_time_ns < call.end_time_ns < root.end_time_ns for call in calls)
    counted = (served.prompt_tokens, served.completion_tokens)
    assert spent_tokens(trace) == counted == (measured["prompt_tokens"], measured["completion_tokens"])
    asked = "".join(json.dumps(call.inputs, ensure_ascii=False) for call in calls)
    assert all(json.dumps(text, ensure_ascii=False)[1:-1] in asked for text in texts(30))
    check_what_the_run_says(run, trace)


def check_what_the_run_says(run: Run, trace: Trace) -> None:
    expected = {"lesson": "2.1", "llm_type": "mock", "llm_model": "mock-small"}
    assert expected.items() <= run.data.tags.items()
    assert expected.items() <= trace.info.tags.items()
    assert json.loads(run.data.tags["mlflow.linkedPrompts"]) == [{"name": "sentiment", "version": "1"}]
    assert run.data.params["trace_share"] == "1.0"
    assert artifacts_of(run) == {"answers.json", "confusion_matrix.png"}
    assert len(answers_of(run)) == 30
    assert not (STATE_DIR / "sentiment" / run.info.run_id).exists()


def test_the_mock_earns_its_accuracy_and_earns_it_again(run_command: Callable) -> None:
    for _ in range(2):
        assert run_command(main, *MOCK, "--num-samples", 90).exit_code == 0
    first, second = (run.data.metrics for run in runs(SENTIMENT, "FINISHED"))
    same = {"accuracy", "macro_f1", "accuracy_plain", "accuracy_hard", "failed_rows", "unparsed_rows", "prompt_tokens"}
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    assert 0.34 < first["accuracy"] < 0.99
    assert 0.34 < first["macro_f1"] < 0.99
    assert first["accuracy_hard"] < first["accuracy_plain"]
    assert first["failed_rows"] == 0
    mlflow.MlflowClient().get_prompt_version("sentiment", "1")
    assert len(mlflow.MlflowClient().search_prompt_versions("sentiment")) == 1  # not registered again


def test_spans_of_the_lessons_own(run_command: Callable) -> None:
    assert run_command(main, *MOCK, "--num-samples", 6, "--spans").exit_code == 0
    trace = only_trace(SENTIMENT)
    root, calls = root_of(trace), llm_spans(trace)
    own = [span for span in of_type(trace, SpanType.CHAIN) if span.name == "review"]
    assert len(own) == len(calls) == 6
    assert {span.parent_id for span in own} == {root.span_id}
    assert {span.inputs["text"] for span in own} == texts(6)
    assert all(span.outputs["label"] in (*LABELS, None) for span in own)
    assert all(span.attributes["review.words"] == len(span.inputs["text"].split()) for span in own)
    parents = {span.span_id: span.parent_id for span in trace.data.spans}
    for call in calls:
        above = call.parent_id
        while above and above not in {span.span_id for span in own}:
            above = parents[above]
        assert above  # its call hangs below a review


def test_trace_off_leaves_the_root_alone(run_command: Callable, servers: list[MockServer]) -> None:
    assert run_command(main, *MOCK, "--num-samples", 6, "--trace", "off").exit_code == 0
    trace, measured = only_trace(SENTIMENT), only_run(SENTIMENT).data.metrics
    assert trace.data.spans == [root_of(trace)]
    assert measured["llm_spans"] == 0
    assert measured["llm_calls"] == servers[0].counts.chat_calls == 6


def test_a_sample_is_traced_and_its_share_logged(run_command: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentiment_job, "SAMPLE_ROWS", 12)
    assert run_command(main, *MOCK, "--num-samples", 30, "--trace", "sample").exit_code == 0
    run, spans = only_run(SENTIMENT), llm_spans(only_trace(SENTIMENT))
    chosen = {text for text in texts(30) if is_sampled(text, 12 / 30)}
    assert 0 < len(chosen) < 30
    assert len(spans) == len(chosen) == run.data.metrics["llm_spans"]
    assert float(run.data.params["trace_share"]) == pytest.approx(12 / 30)
    assert run.data.metrics["llm_calls"] == 30


def test_more_rows_than_there_are_texts_ask_each_text_once(
    run_command: Callable, servers: list[MockServer], tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    own.write_text("comment,verdict\na good lamp,POSITIVE\na bad lamp,negative\n", encoding="utf-8")
    given = flags(input=own, text_column="comment", label_column="verdict", num_samples=9)
    assert run_command(main, *MOCK, *given).exit_code == 0
    run = only_run(SENTIMENT)
    assert servers[0].counts.chat_calls == run.data.metrics["llm_calls"] == 2
    assert run.data.metrics["rows"] == len(answers_of(run)) == 9
    assert run.data.metrics["accuracy"] == 1


def test_a_prompt_that_the_learner_moved_is_the_one_that_is_asked(run_command: Callable) -> None:
    for template in (sentiment_job.TEMPLATE, "What do you make of it?\n{{text}}"):
        version = mlflow.genai.register_prompt(name="sentiment", template=template).version
    mlflow.genai.set_prompt_alias(name="sentiment", alias="production", version=version)
    assert run_command(main, *MOCK, "--num-samples", 9).exit_code == 0
    asked = json.dumps([span.inputs for span in llm_spans(only_trace(SENTIMENT))])
    assert "What do you make of it?" in asked
    assert "Answer with one word" not in asked


def test_ollama_is_asked_through_its_own_client(run_command: Callable) -> None:
    with fake_ollama() as ollama:
        given = flags(ollama_url=ollama.url, ollama_model=MODEL, num_samples=12)
        assert run_command(main, *given).exit_code == 0
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    calls = llm_spans(trace)
    assert len(calls) == len(ollama.chats) == run.data.metrics["llm_calls"] == 12
    assert {call.name for call in calls} == {"ChatOllama"}
    assert {body["model"] for body in ollama.chats} == {MODEL}
    assert {body["options"]["temperature"] for body in ollama.chats} == {0.0}
    assert spent_tokens(trace) == (ollama.prompt_tokens, ollama.completion_tokens)
    assert run.data.metrics["prompt_tokens"] == ollama.prompt_tokens
    assert {"llm_type": "ollama", "llm_model": MODEL}.items() <= run.data.tags.items()
    assert run.data.metrics["failed_rows"] == 0
    assert run.data.metrics["accuracy"] > 0.34
    root_of(trace)


def test_without_ollama_nothing_is_claimed(refused: Callable) -> None:
    url = closed_url()
    said = refused(main, "--ollama-url", url, "--num-samples", 3)
    assert f"Ollama does not answer at {url}" in said
    assert "ollama pull llama3.2" in said
    assert runs(SENTIMENT) == []
    assert traces(SENTIMENT) == []


def test_a_model_that_ollama_has_not_pulled_is_refused(refused: Callable) -> None:
    with fake_ollama() as ollama:
        said = refused(main, "--ollama-url", ollama.url, "--ollama-model", "qwen3")
    assert "ollama pull qwen3" in said
    assert runs(SENTIMENT) == []


def test_workers_elsewhere_need_a_store_that_they_can_reach(refused: Callable) -> None:
    said = refused(main, *MOCK, "--spark-master", "spark://elsewhere:7077")
    assert "cannot write their spans to sqlite" in said
    assert "--tracking-uri http" in said
    assert runs(SENTIMENT) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--num-samples", 0], "--num-samples"),
        (["--num-samples", -1], "--num-samples"),
        (["--concurrency", 0], "--concurrency"),
        (["--spark-master", "lokal"], "lokal is no Spark master"),
        (["--seed", -1], "seed"),
        (["--input", "nowhere.csv"], "there is no file nowhere.csv"),
        (["--model", "mock-huge"], "mock-huge"),
    ],
)
def test_wrong_use_is_refused_and_no_run_claims_success(refused: Callable, wrong: list, said: str) -> None:
    assert said in refused(main, *MOCK, *wrong)
    assert runs(SENTIMENT, "FINISHED") == []


@pytest.mark.slow
@pytest.mark.usefixtures("with_queue")
@pytest.mark.parametrize("own_spans", [[], ["--spans"]])
def test_a_thousand_rows_lose_no_span(
    run_command: Callable, servers: list[MockServer], tmp_path: Path, own_spans: list[str]
) -> None:
    reviews = sentiment_job.load_job_rows(InputOptions(), 150, 7).frame
    rows = [(f"{text} ({number})", label) for number in range(7) for text, label in reviews[["text", "label"]].values]
    own = tmp_path / "own.csv"
    pd.DataFrame(rows[:1000], columns=["text", "label"]).to_csv(own, index=False)

    given = flags(input=own, label_column="label", num_samples=1000, concurrency=32)
    assert run_command(main, *MOCK, *given, *own_spans).exit_code == 0
    run, trace = only_run(SENTIMENT), only_trace(SENTIMENT)
    served = servers[0].counts
    assert len(llm_spans(trace)) == served.chat_calls == run.data.metrics["llm_calls"] == 1000
    assert sum(span.name == "review" for span in trace.data.spans) == (1000 if own_spans else 0)
    assert spent_tokens(trace) == (served.prompt_tokens, served.completion_tokens)
    assert run.data.metrics["rows"] == len(answers_of(run)) == 1000
    assert 0.34 < run.data.metrics["accuracy"] < 0.99
    root_of(trace)
