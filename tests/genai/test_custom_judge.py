"""6.4 on stores of its own: the judge beside people and beside itself, and one metric over five versions."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import AssessmentSource
from mlflow.genai.judges import make_judge

from genai.evaluation import custom_judge
from genai.evaluation.custom_judge import (
    EACH,
    INSTRUCTIONS,
    JUDGE_PROMPT,
    LABEL_VERSIONS,
    NAME,
    NOT_ALIGNED,
    ShowExamples,
    desk_points,
    judged_label,
    main,
    rate,
)
from tests.conftest import SHARED
from utils.errors import CheckFailed
from utils.judge_agreement import agreement
from utils.reviews import LABELS
from utils.sentiment_job import JobRows

ROWS, VERSION_ROWS = 9, 3


def all_runs(filter_string=""):
    client = MlflowClient()
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return client.search_runs(ids, filter_string)


@pytest.fixture(scope="module")
def done(run_lesson):
    return run_lesson(main, "--num-rows", ROWS, "--version-rows", VERSION_ROWS, "--ceiling", 0.8)


@pytest.fixture
def opened(done):
    mlflow.set_tracking_uri(done.uri)
    mlflow.set_experiment("6-evaluation")
    return {run.info.run_name: run for run in all_runs()}


def ratings(run):
    """What the judge said, by text."""
    traces = mlflow.search_traces(run_id=run.info.run_id, max_results=100, return_type="list")
    return {custom_judge.root(trace).outputs: judged_label(trace) for trace in traces}


def test_kappa_is_that_of_the_ratings_in_the_store_and_the_labels_of_the_file(opened):
    from utils.reviews import load_reviews

    labels = dict(load_reviews()[["text", "label"]].itertuples(index=False))
    said, found = ratings(opened["judge-once"]), opened["custom-judge"].data.metrics
    assert len(said) == ROWS and set(said.values()) <= set(LABELS)
    expected = agreement([labels[text] for text in said], list(said.values()))
    assert found["people.kappa"] == pytest.approx(expected.kappa) and found["people.rows"] == ROWS
    assert found["people.ceiling"] == 0.8


def test_the_same_item_is_asked_twice_and_with_its_options_turned(opened):
    once, again, turned = (ratings(opened[f"judge-{name}"]) for name in ("once", "again", "options-turned"))
    found = opened["custom-judge"].data.metrics
    assert once.keys() == again.keys() == turned.keys()
    for name, other in (("again", again), ("turned", turned)):
        assert found[f"{name}.share"] == pytest.approx(sum(once[text] == other[text] for text in once) / ROWS)
    assert found["again.share"] == 1, "the mock says the same to the same prompt"
    versions = MlflowClient().search_prompt_versions(JUDGE_PROMPT)
    assert {version.template for version in versions} == {INSTRUCTIONS, custom_judge.TURNED}


def test_every_trace_of_the_judge_is_the_lessons_and_carries_its_rationale(opened):
    traces = mlflow.search_traces(run_id=opened["judge-once"].info.run_id, max_results=100, return_type="list")
    for trace in traces:
        assert trace.info.tags["lesson"] == "6.4"
        (said,) = [item for item in trace.info.assessments if item.name == NAME]
        assert said.source.source_type == "LLM_JUDGE" and said.rationale


def test_the_metric_over_five_versions_is_a_line_in_the_run_and_a_picture(opened, tmp_path):
    job = opened["custom-judge"]
    history = MlflowClient().get_metric_history(job.info.run_id, "desk_points")
    by_step = {point.step: point.value for point in history}
    runs = [opened[f"label-version-{n}"] for n in range(1, len(LABEL_VERSIONS) + 1)]
    assert by_step == {n: run.data.metrics["desk_points/mean"] for n, run in enumerate(runs, start=1)}
    assert by_step[5] > by_step[1], "one word that can be read scores above an essay"
    started = [run.info.start_time for run in runs]
    assert started == sorted(started), "real runs, one after the other"
    assert (
        Path(mlflow.artifacts.download_artifacts(run_id=job.info.run_id, artifact_path="versions.png")).stat().st_size
    )


def test_the_mock_is_not_aligned_and_that_is_said(opened, done):
    assert NOT_ALIGNED in done.output
    metrics = opened["custom-judge"].data.metrics
    assert not [name for name in metrics if name.startswith(("before", "after"))]


# --- parts


@pytest.mark.parametrize(
    ("outputs", "label", "points"),
    [
        ("Negative", "negative", 1.0),
        ("positive", "negative", 0.0),  # a missed complaint
        ("neutral", "negative", 0.0),
        ("negative", "positive", 0.5),
        ("neutral", "positive", 0.5),
        ("positive or negative", "positive", 0.0),  # no answer that a desk could file
        ("", "neutral", 0.0),
    ],
)
def test_the_metric(outputs, label, points):
    assert desk_points(outputs=outputs, expectations={"label": label}) == points


def test_an_aligned_judge_is_shown_what_people_said_and_nothing_of_the_rest(store):
    mlflow.set_experiment("6-evaluation")
    source, traces = AssessmentSource(source_type="HUMAN", source_id="rater"), []
    for place, label in enumerate((*LABELS, *LABELS, *LABELS)):
        with mlflow.start_span("review") as span:
            span.set_outputs("text {{ outputs }}" if place == 0 else f"text {place}")
        mlflow.flush_trace_async_logging()
        mlflow.log_feedback(trace_id=span.trace_id, name=NAME, value=label, source=source)
        traces.append(mlflow.get_trace(span.trace_id))
    settings = {"model": "openai:/m", "base_url": "http://127.0.0.1:1/v1/chat/completions"}
    judge = make_judge(name=NAME, instructions=INSTRUCTIONS, feedback_value_type=str, **settings)
    aligned = judge.align(traces, ShowExamples(settings))
    assert aligned.name == NAME and aligned.instructions.count("Rating: ") == EACH * len(LABELS)
    assert "Example: text 1\nRating: negative\n" in aligned.instructions
    assert aligned.instructions.count("{{ outputs }}") == 1, "a text with braces would be a variable"
    assert "text 8" not in aligned.instructions and aligned.instructions.endswith("Review: {{ outputs }}")


def test_a_judge_that_fails_on_some_rows_is_counted_and_one_that_fails_on_all_is_a_failure(store):
    mlflow.set_experiment("6-evaluation")
    rows = JobRows(pd.DataFrame({"text": ["fine", "cut off", "fine"], "label": ["neutral"] * 3}), LABELS, "three")

    @mlflow.genai.scorer(name=NAME)
    def sometimes(outputs):
        if outputs != "fine":
            raise ValueError("the judge's answer was no JSON")
        return "neutral"

    @mlflow.genai.scorer(name=NAME)
    def never(outputs):
        raise ValueError("no answer")

    run_id, given = rate(sometimes, rows, "sometimes")
    assert given == ["neutral", None, "neutral"] and mlflow.get_run(run_id).data.metrics["judge_errors"] == 1
    with pytest.raises(CheckFailed, match="rated no row"):
        rate(never, rows, "never")
    (failed,) = all_runs("metrics.judge_errors = 3")
    assert failed.info.status == "FAILED"


def test_a_row_without_a_rating_is_none():
    def trace(*values) -> Any:
        given = [SimpleNamespace(name=NAME, value=value) for value in values]
        return SimpleNamespace(info=SimpleNamespace(assessments=given))

    assert [judged_label(trace(*v)) for v in ((), (None,), ("good",), ("neutral",))] == [None, None, None, "neutral"]


# --- rows of one's own


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--input", "{}", "--text-column", "comment"), "no ratings to agree with"),
        (("--input", "{}", "--text-column", "comment", "--label-column", "stars"), "give each row one of"),
        (("--input", "no-such.csv", "--label-column", "x"), "no-such.csv"),
        (("--ceiling", 1.5), "--ceiling"),
        (("--num-rows", 3), "--num-rows"),
        (("--llm-type", "openai"), "OPENAI_API_KEY"),
    ],
)
def test_wrong_use(refused, store, tmp_path, flags, said):
    (tmp_path / "own.csv").write_text("comment,stars\nGood,five\nBad,one\n")
    assert said in refused(main, *(str(flag).format(tmp_path / "own.csv") for flag in flags))
    assert all_runs() == []


@pytest.mark.slow
@pytest.mark.timeout(1_800)  # nine hundred ratings
def test_three_hundred_rated_sentences_beside_the_agreement_of_one_person_with_the_others(store, run_command):
    """The ceiling is that of the data's authors, on the sign of the rating: see the note beside the file."""
    path = SHARED / "data" / "icwsm_reviews.csv"
    if not path.exists():
        pytest.skip("the rated texts are not part of the project")
    flags = ("--input", path, "--label-column", "label", "--num-rows", 300, "--version-rows", 6, "--ceiling", 0.797)
    result = run_command(main, *flags)
    assert result.exit_code == 0, result.output
    (job,) = all_runs("metrics.`people.ceiling` > 0")
    found = job.data.metrics
    assert found["people.rows"] + found["people.missing"] == 300
    assert 0 < found["people.kappa"] < 1 and found["people.share"] < found["people.ceiling"] == 0.797
