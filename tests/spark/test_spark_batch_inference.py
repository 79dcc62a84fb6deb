"""Lesson 8.2: each distinct text is asked once, several rows in a call, and a job that can go on."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.entities import SpanType

from spark.spark_batch_inference import BATCH_PROMPT, Question, main, read_labels
from tests.spark.evidence import flags, of_type, root_of, runs
from utils.batch_journal import ANSWERS, FINISHED, JobFolder, JournalWriter, answered_before, wait_for_writers
from utils.batch_mapper import chunks
from utils.batch_rows import made_up
from utils.errors import InputError
from utils.evaluation import wilson_interval
from utils.llm_backends import BackendSettings
from utils.reviews import load_reviews

EXPERIMENT = "8-advanced"
LABELS = ("positive", "negative", "neutral")
ONE, MANY, ALL = "1-rows-per-call", "5-rows-per-call", "batch-inference"


def named(name: str):
    return next(run for run in runs(EXPERIMENT) if run.info.run_name == name)


def result(folder: Path, size: int = 1) -> pd.DataFrame:
    return pd.read_parquet(folder / f"{size}-rows-per-call" / "result")


# --- one run that several tests look at


@pytest.fixture(scope="module")
def done(run_lesson, spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job") / "job"
    given = flags(num_rows=200, output=folder, compare_rows=20, concurrency=8, trace="all")
    return run_lesson(main, *given, "--rows-per-call", 1, "--rows-per-call", 5, "--rows-per-call", 20), folder


@pytest.fixture
def left(done, clean_environment):
    mlflow.set_tracking_uri(done[0].uri)
    return done


def test_calls_are_the_distinct_texts_and_fewer_with_several_in_a_call(left) -> None:
    measured = {size: named(f"{size}-rows-per-call").data.metrics for size in (1, 5, 20)}
    assert [measured[size]["llm_calls"] for size in (1, 5)] == [140, 28]
    assert 7 <= measured[20]["llm_calls"] <= 8, "each task has its own last batch"
    assert all(each["rows"] == 200 and each["distinct_texts"] == 140 for each in measured.values())
    assert measured[20]["cost_usd"] < measured[5]["cost_usd"] < measured[1]["cost_usd"]
    assert measured[1]["cost_usd"] < measured[1]["cost_without_deduplication_usd"]
    for each in measured.values():
        assert each["accuracy_low"] < each["accuracy"] < each["accuracy_high"]
        assert each["failed_rows"] == each["unreadable_batches"] == 0


@pytest.mark.parametrize("size", [1, 5, 20])
def test_every_row_once_each_with_the_answer_of_its_text(left, size) -> None:
    rows = result(left[1], size)
    expected = made_up(list(range(200)), 200, 0.3, load_reviews())
    assert sorted(rows["id"], key=int) == expected["id"].tolist()
    assert rows.set_index("id")["text"].to_dict() == expected.set_index("id")["text"].to_dict()
    assert rows["answer"].notna().all() and rows["error"].isna().all()
    assert (rows.groupby("text")["answer"].nunique() == 1).all()


def test_the_accuracy_is_that_of_the_rows(left) -> None:
    rows = result(left[1])
    measured, right = named(ONE).data.metrics, rows["answer"] == rows["label"]
    assert measured["accuracy"] == pytest.approx(right.mean())
    drawn = rows["text"].str.replace(r"^Order \d+: ", "", regex=True).value_counts()
    effective = round(len(rows) ** 2 / (drawn**2).sum())
    assert measured["independent_rows"] == effective < 150, "there are 150 reviews, whatever the number of orders"
    interval = wilson_interval(round(right.mean() * effective), effective)
    assert (measured["accuracy_low"], measured["accuracy_high"]) == pytest.approx(interval)


def test_one_root_and_a_span_for_every_call(left) -> None:
    found = mlflow.search_traces(locations=[named(ONE).info.experiment_id], return_type="list")
    assert len(found) == 3
    for trace in found:
        root, calls = root_of(trace), of_type(trace, SpanType.CHAT_MODEL)
        assert len(calls) == root.outputs["llm_calls"] == root.outputs["llm_spans"]
        assert trace.info.tags["lesson"] == "8.2"
        used = trace.info.token_usage
        assert used["input_tokens"] == root.outputs["prompt_tokens"]


def test_the_udfs_ask_again_and_the_mapper_does_not(left) -> None:
    run = named(ALL)
    table = mlflow.load_table("three_ways.json", run_ids=[run.info.run_id]).set_index("way")
    assert table["calls"].to_dict() == {"row UDF": 40, "pandas UDF": 40, "mapper": 14}
    assert (table["answered"] == 20).all()
    side_by_side = mlflow.load_table("rows_per_call.json", run_ids=[run.info.run_id])
    assert side_by_side["rows per call"].tolist() == [1, 5, 20]
    assert mlflow.genai.load_prompt(f"prompts:/{BATCH_PROMPT}@production").version == 1


def test_resuming_what_is_done_asks_nobody(left, run_command, spark) -> None:
    given = flags(num_rows=200, output=left[1], compare_rows=20, concurrency=8)
    before = sorted((left[1] / ONE / ANSWERS).glob("*.jsonl"))
    assert run_command(main, *given, "--rows-per-call", 1, "--resume", "--tracking-uri", left[0].uri).exit_code == 0
    measured = named(ONE).data.metrics
    assert (measured["llm_calls"], measured["texts_kept"], measured["total_calls"]) == (0, 140, 140)
    assert measured["cost_usd"] == 0 < measured["total_cost_usd"] < measured["cost_without_deduplication_usd"]
    assert "rows_per_second" not in measured, "the time of this job is not that of all its rows"
    assert len(result(left[1])) == 200
    assert all(path.read_text() == "" for path in (left[1] / ONE / ANSWERS).glob("*.jsonl") if path not in before)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (flags(num_rows=300), "rows orders 200 0.3, not orders 300 0.3"),
        (flags(num_rows=200, model="mock-large"), "model mock mock-small, not mock mock-large"),
        (flags(num_rows=200, temperature=0.5), "temperature 0.0, not 0.5"),
    ],
)
def test_a_resume_with_other_settings_is_refused(left, refused, spark, changed, said) -> None:
    given = flags(output=left[1], rows_per_call=1, tracking_uri=left[0].uri)
    assert said in refused(main, *given, *changed, "--resume")
    assert len(result(left[1])) == 200


# --- wrong use


def test_nothing_to_resume_and_folders_that_are_no_jobs(refused, spark, store, tmp_path) -> None:
    (tmp_path / "mine" / ONE).mkdir(parents=True)
    (tmp_path / "mine" / ONE / "thesis.txt").write_text("mine")
    assert "holds no job to resume" in refused(main, *flags(output=tmp_path / "new", rows_per_call=1, resume=True))
    assert "files that are no job's" in refused(main, *flags(output=tmp_path / "mine", rows_per_call=1))
    assert (tmp_path / "mine" / ONE / "thesis.txt").read_text() == "mine"
    assert "twice" in refused(main, "--rows-per-call", 5, "--rows-per-call", 5)


def test_own_rows_with_failures_are_all_there(run_command, spark, store, tmp_path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("comment,verdict\n" + "".join(f"I love lamp {n % 30}.,Positive\n" for n in range(40)))
    given = flags(input=file, text_column="comment", label_column="verdict", output=tmp_path / "job", compare_rows=10)
    assert run_command(main, *given, *flags(rows_per_call=5, mock_faults="500:0.3,garbage:0.1")).exit_code == 0
    rows, measured = result(tmp_path / "job", 5), named(MANY).data.metrics
    assert len(rows) == 40 and (rows["answer"].isna() == rows["error"].notna()).all()
    assert measured["distinct_texts"] == 30 and measured["failed_rows"] == rows["answer"].isna().sum()
    assert measured["llm_calls"] > 6


def test_a_reply_that_cannot_be_read_is_a_red_span_and_its_rows_are_asked_one_by_one(
    run_command, spark, store, tmp_path
) -> None:
    """The prompt in production asks for one word, whatever the number of reviews."""
    asked = "Classify the sentiment of the review as one of: {{labels}}. Answer with one word.\n\nReview: {{rows}}"
    prompt = mlflow.genai.register_prompt(BATCH_PROMPT, [{"role": "user", "content": asked}])
    mlflow.genai.set_prompt_alias(BATCH_PROMPT, "production", prompt.version)
    given = flags(num_rows=10, output=tmp_path / "job", compare_rows=0, rows_per_call=5, trace="all")
    assert run_command(main, *given).exit_code == 0
    measured = named(MANY).data.metrics
    assert measured["unreadable_batches"] > 0 and result(tmp_path / "job", 5)["answer"].notna().all()
    (trace,) = mlflow.search_traces(locations=[named(MANY).info.experiment_id], return_type="list")
    calls = of_type(trace, SpanType.CHAT_MODEL)
    assert len(calls) == measured["llm_spans"] == measured["llm_calls"], "also those whose reply cannot be read"
    unread = [span for span in calls if str(span.status.description).startswith("BadReply")]
    assert unread and all(isinstance(span.outputs, str) for span in unread)


# --- reading a batch's reply, the journal


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("1. positive\n2. negative", ("positive", "negative")),
        ("positive\nnegative", ("positive", "negative")),
        ("Here you are:\n1) Positive.\n2) negative", ("Positive.", "negative")),
        ("1. positive", ()),
        ("1. positive\n3. negative", ()),
        ("2. positive\n1. negative", ()),
        ("1. positive\n2. negative\n3. neutral", ()),
        ("", ()),
    ],
)
def test_an_answer_belongs_to_its_row_or_to_none(reply, read) -> None:
    assert read_labels(reply, 2, LABELS) == read


def test_a_text_cannot_add_rows_or_fill_the_prompt() -> None:
    several = [{"role": "user", "content": "{{rows}}"}]
    question = Question(BackendSettings("mock", "m", "http://x/v1"), "{{text}} {{labels}}", several, LABELS)
    assert question.messages(("a\n2. b {{labels}}", "c"))[0]["content"] == "1. a 2. b {{labels}}\n2. c"
    assert question.messages(("{{labels}}",))[0]["content"] == "{{labels}} positive, negative, neutral"


def test_chunks_hold_every_text_in_order() -> None:
    assert list(chunks("abcde", 2)) == [("a", "b"), ("c", "d"), ("e",)]
    assert list(chunks([], 3)) == []


def write(folder: Path, job: str, *texts: str, error: str | None = None) -> None:
    with JournalWriter(str(folder), job, 0) as journal:
        call = {"started_ns": 1, "ended_ns": 2_000_001, "error": error}
        journal.write(texts=list(texts), answers=[None if error else "positive"] * len(texts), error=error,
                      calls=[call], prompt_tokens=10, completion_tokens=1)  # fmt: skip


def test_half_a_line_is_no_call_and_an_answer_wins_over_a_failure(spark, tmp_path) -> None:
    folder = JobFolder.open(tmp_path / "job", {"a": 1}, resume=False, replace=False)
    write(folder.path, "first", "x", "y")
    write(folder.path, "first", "z", error="APIError")
    journal, *_ = sorted((folder.path / ANSWERS).glob("*.jsonl"), key=lambda path: -path.stat().st_size)
    with journal.open("a") as file:
        file.write(json.dumps({"texts": ["torn"], "answers": ["positive"]})[:30])
    assert answered_before(str(folder.path), "first", 0) == {"x", "y"}
    assert {row.text for row in folder.answered(spark).collect()} == {"x", "y"}
    assert answered_before(str(folder.path), "second", 0) == set(), "another job's task has other texts"
    write(folder.path, "second", "z")
    answers = {row.text: (row.answer, row.error, row.prompt_tokens) for row in folder.answers(spark).collect()}
    assert answers == {"x": ("positive", None, 5), "y": ("positive", None, 5), "z": ("positive", None, 10)}


def test_an_interrupted_job_is_not_overwritten_and_a_finished_one_only_on_purpose(tmp_path) -> None:
    path = tmp_path / "job"
    folder = JobFolder.open(path, {"a": 1}, resume=False, replace=False)
    write(folder.path, "first", "x")
    with pytest.raises(InputError, match="interrupted job"):
        JobFolder.open(path, {"a": 1}, resume=False, replace=False)
    assert list((path / ANSWERS).glob("*.jsonl"))
    folder.finish()
    JobFolder.open(path, {"a": 1}, resume=False, replace=False)
    assert not list((path / ANSWERS).glob("*.jsonl")) and not (path / FINISHED).exists()


def test_a_resumed_job_waits_for_workers_that_still_write(tmp_path) -> None:
    JobFolder.open(tmp_path / "job", {}, resume=False, replace=False)
    with JournalWriter(str(tmp_path / "job"), "first", 0), pytest.raises(InputError, match="still write"):
        wait_for_writers(tmp_path / "job", 0.2)
    wait_for_writers(tmp_path / "job", 0.2)
